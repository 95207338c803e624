"""What a DAW's Start, Stop and Continue do to the solo, and a clock that goes and comes."""

from typing import Literal

import mido
import pytest
import structlog
from room import Room

from jazzd.player.manner import Manner

DM7, G7 = (50, 53, 57, 60), (55, 59, 62, 65)
BEAT_S = 0.5


def test_a_clock_that_stops_without_a_word_ends_the_phrase_and_the_next_chord_plays() -> None:
    room = Room()
    room.tick(4)
    room.strike(*DM7)
    room.tick(4)
    stopped = room.time
    room.wait(3)
    assert not room.sounding
    assert room.heard[-1][0] < stopped + 1.5
    assert room.session.deadline() is None
    room.lift(*DM7)
    room.strike(*G7)
    room.wait(1)
    assert room.sounding or room.struck[-1][0] > stopped + 3


@pytest.mark.parametrize("again", ["start", "continue"])
@pytest.mark.parametrize("ticks_on", [True, False])
@pytest.mark.parametrize(("start", "latest"), [("now", 0.3), ("beat", 1.02), ("bar", 4.02)])
def test_a_chord_held_through_stop_is_played_again_from_start(
    again: str, ticks_on: bool, start: Literal["now", "beat", "bar"], latest: float
) -> None:
    room = Room(manner=Manner(start=start))
    room.play(mido.Message("start"))
    room.strike(*DM7)
    room.tick(8)
    room.play(mido.Message("stop"))
    room.wait(0)
    stopped = room.time
    if ticks_on:
        room.tick(8)
    else:
        room.wait(4)
    assert not [at for at, _ in room.struck if at > stopped], "Stop is quiet"
    began = room.time
    room.play(mido.Message(again))
    room.tick(8)
    after = [(at - began) / BEAT_S for at, _ in room.struck if at > stopped]
    assert len(after) > 10
    assert after[0] <= latest
    room.lift(*DM7)
    room.tick(8)
    assert not room.sounding


def test_a_chord_lifted_after_stop_is_not_played_again() -> None:
    room = Room()
    room.play(mido.Message("start"))
    room.strike(*DM7)
    room.tick(4)
    room.play(mido.Message("stop"))
    room.tick(1)
    room.lift(*DM7)
    stopped = room.time
    room.play(mido.Message("start"))
    room.tick(8)
    assert not [at for at, _ in room.struck if at > stopped]


def test_a_chord_that_was_silenced_is_not_played_again_by_start() -> None:
    room = Room()
    room.play(mido.Message("start"))
    room.strike(*DM7)
    room.tick(4)
    room.turn(123)
    silenced = room.time
    room.play(mido.Message("stop"), mido.Message("start"))
    room.tick(8)
    assert not [at for at, _ in room.struck if at > silenced]


def test_a_clock_that_said_stop_is_not_lost() -> None:
    room = Room()
    with structlog.testing.capture_logs() as logs:
        for _ in range(2):
            room.play(mido.Message("start"))
            room.tick(4)
            room.strike(*DM7)
            room.tick(2)
            room.play(mido.Message("stop"))
            room.lift(*DM7)
            room.wait(5)
    assert "clock_lost" not in {each["event"] for each in logs}


@pytest.mark.parametrize("pause_s", [0.4, 1.0, 10.0])
def test_a_clock_that_is_back_finds_the_chord_that_is_held(pause_s: float) -> None:
    room = Room()
    room.play(mido.Message("start"))
    room.tick(4)
    room.strike(*DM7)
    room.tick(4)
    room.wait(pause_s)
    back = room.time
    room.tick(8)
    assert len([at for at, _ in room.struck if at > back]) > 4
    room.lift(*DM7)
    room.tick(8)
    assert not room.sounding
    assert room.struck[-1][0] < room.time - 2


def test_a_clock_that_went_after_stop_leaves_the_next_chord_alone() -> None:
    room = Room()
    room.tick(4)
    room.strike(*DM7)
    room.tick(2)
    room.play(mido.Message("stop"))
    room.lift(*DM7)
    room.wait(5)
    room.strike(*G7)
    struck = room.time
    room.wait(6)
    assert room.struck[-1][0] > struck + 5, "it is played for as long as it is held"
