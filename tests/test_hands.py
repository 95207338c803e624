"""Two hands: chords below, the human's own line above, and who plays when."""

import mido
import pytest
from room import Room

from jazzd.music.notes import Seconds
from jazzd.player.hands import Hands, Led
from jazzd.player.manner import Manner

DM7, G7 = (50, 53, 57, 58), (43, 47, 50, 53)


def key(pitch: int, down: bool = True, channel: int = 0) -> mido.Message:
    return mido.Message("note_on" if down else "note_off", note=pitch, channel=channel)


@pytest.mark.parametrize(
    ("split", "chord_channel", "pitch", "channel", "leads"),
    [
        (0, 0, 100, 3, False),
        (60, 0, 59, 0, False),
        (60, 0, 60, 0, True),
        (0, 2, 30, 1, False),
        (0, 2, 30, 0, True),
        (60, 2, 59, 1, False),
        (60, 2, 61, 1, True),
        (60, 2, 59, 0, True),
    ],
)
def test_whose_a_key_is(split: int, chord_channel: int, pitch: int, channel: int, leads: bool) -> None:
    assert Hands(split, chord_channel).lead(key(pitch, channel=channel), Seconds(1.0)) == leads


def test_a_key_goes_up_where_it_went_down_whatever_the_split_is_by_then() -> None:
    hands = Hands(60)
    assert hands.lead(key(64), Seconds(1.0))
    assert hands.quiet_at(1.0) is None
    hands.split = 0
    assert hands.lead(key(64, down=False), Seconds(1.5))
    assert not hands.lead(key(64, down=False), Seconds(1.6))
    assert hands.quiet_at(1.0) == 2.5
    assert hands.take() == [Led(64, 64, Seconds(1.0), Seconds(1.5))]  # type: ignore[arg-type]
    assert hands.take() == []


def test_the_solo_lays_out_while_the_right_hand_plays_and_takes_over_after_it() -> None:
    room = Room(hands=Hands(split=60), manner=Manner(yield_beats=2))
    room.strike(*DM7)
    room.wait(2)
    assert room.struck
    led = room.time
    for pitch in (72, 74, 76, 77):
        room.strike(pitch)
        room.wait(0.2)
        room.lift(pitch)
        room.wait(0.05)
    quiet = room.time - 0.05
    assert not room.sounding
    assert not [at for at, _ in room.struck if led + 0.001 < at < quiet + 0.99]
    room.wait(2)
    back = [at for at, _ in room.struck if at > quiet]
    assert back[0] == pytest.approx(quiet + 1.0, abs=0.1)
    heard = [k for revise in room.revisions for k in revise.keys if k.solo]
    assert [k.pitch for k in heard] == [72, 74, 76, 77]
    assert all(k.duration == 20 for k in heard)


def test_chords_that_change_under_the_right_hand_are_heard_and_not_answered() -> None:
    room = Room(hands=Hands(split=60))
    room.strike(*DM7)
    room.wait(1)
    room.strike(72)
    room.wait(0.1)
    count = len(room.struck)
    room.lift(*DM7)
    room.strike(*G7)
    room.wait(1)
    assert len(room.struck) == count
    assert room.session.chord
    assert room.session.chord.symbol == "G7"
    room.lift(72)
    room.wait(2)
    assert len(room.struck) > count
    last = next(revise for revise in reversed(room.revisions) if revise.answer)
    assert last.sampling.weights[1] < 1, "it plays over the G7"


def test_a_right_hand_over_nothing_wakes_nobody() -> None:
    room = Room(hands=Hands(split=60))
    room.strike(72)
    room.wait(0.3)
    room.lift(72)
    room.wait(4)
    assert not room.struck
    assert room.session.deadline() is None


def test_panic_forgets_the_right_hand() -> None:
    room = Room(hands=Hands(split=60))
    room.strike(*DM7)
    room.wait(1)
    room.strike(72)
    room.wait(0.1)
    room.turn(123)
    room.lift(72, *DM7)
    room.strike(*G7)
    room.wait(0.5)
    assert room.sounding or room.struck[-1][0] > room.time - 0.5
