"""The beats behind a MIDI clock that jitters, ramps, jumps and stops."""

import random
from collections.abc import Callable

import mido
import pytest

from jazzd.music.notes import Seconds
from jazzd.player.midi_clock import MidiClock

CLOCK = mido.Message("clock")


def errors_ms(bpm: Callable[[float], float], jitter_s: float, seconds: float = 30) -> list[float]:
    """How far the clock's own beat was from the true one at every tick after the fourth beat, sorted."""
    dice, clock, at, number, errors = random.Random(7), MidiClock(), 0.0, 0, []
    while at < seconds:
        heard = Seconds(at + dice.uniform(-jitter_s, jitter_s))
        clock.feed(CLOCK, heard)
        grid = clock.grid(heard)
        if number > 96:
            assert grid is not None
            errors.append(1000 * abs(grid.time(number / 24) - at))
        at += 60 / bpm(at) / 24
        number += 1
    return sorted(errors)


@pytest.mark.parametrize("bpm", [60, 120, 300])
def test_five_milliseconds_of_jitter_are_averaged_away(bpm: float) -> None:
    errors = errors_ms(lambda at: bpm, 0.005)
    assert errors[len(errors) // 2] < 1
    assert errors[-1] < 3


@pytest.mark.parametrize("ramp", [lambda at: 60 + 8 * at, lambda at: 300 - 8 * at])
@pytest.mark.parametrize("jitter_s", [0, 0.005])
def test_a_ramp_is_followed(ramp: Callable[[float], float], jitter_s: float) -> None:
    errors = errors_ms(ramp, jitter_s)
    assert errors[round(0.95 * len(errors))] < 8
    assert errors[-1] < 15


def test_a_jump_is_caught_up_with_in_a_beat() -> None:
    errors = errors_ms(lambda at: 100 if at < 10 else 160, 0.001)
    assert errors[round(0.98 * len(errors))] < 2


@pytest.mark.parametrize("held_s", [0.017, 0.06, 0.15])
def test_ticks_that_were_held_up_do_not_move_the_beat(held_s: float) -> None:
    clock, period = MidiClock(), 60 / 120 / 24
    due = [number * period for number in range(200)]
    heard = [120 * period + held_s if 120 * period <= at < 120 * period + held_s else at for at in due]
    for at, came in zip(due, heard, strict=True):
        clock.feed(CLOCK, Seconds(came))
        if grid := clock.grid(Seconds(came)):
            ahead = at + 1.0
            assert grid.time(ahead / 0.5) == pytest.approx(ahead, abs=0.003)


def test_a_machine_that_stumbles_again_and_again_does_not_move_the_beat() -> None:
    """As recorded on a virtual machine whose host was busy."""
    clock, period = MidiClock(), 60 / 120 / 24
    late = {120 + at: 0.001 * ms for at, ms in enumerate((7.7, 8.8, 0, 8.0, 13.2, 6.7, 19.9, 9.9, 4.0))}
    for number in range(200):
        heard = Seconds(number * period + late.get(number, 0.0))
        clock.feed(CLOCK, heard)
        if grid := clock.grid(heard):
            ahead = number * period + 0.1
            assert grid.time(ahead / 0.5) == pytest.approx(ahead, abs=0.006)


@pytest.mark.parametrize("bpm", [40, 60, 90])
def test_a_clock_that_slows_down_at_once_is_believed(bpm: float) -> None:
    errors = errors_ms(lambda at: 120 if at < 10 else bpm, 0.001)
    assert errors[round(0.9 * len(errors))] < 3


def test_a_clock_that_pauses_for_a_moment_is_believed() -> None:
    clock = MidiClock()
    at = ticked(clock, 100) + 0.03
    at = ticked(clock, 50, at)
    grid = clock.grid(Seconds(at))
    assert grid
    assert grid.time(150 / 24) == pytest.approx(at, abs=0.003)


def ticked(clock: MidiClock, count: int, at: float = 0.0, period: float = 60 / 120 / 24) -> float:
    for _ in range(count):
        clock.feed(CLOCK, Seconds(at))
        at += period
    return at


def test_start_is_the_first_beat_and_song_position_is_obeyed() -> None:
    clock = MidiClock()
    at = ticked(clock, 30)
    clock.feed(mido.Message("start"), Seconds(at))
    began = at
    at = ticked(clock, 25, at)
    grid = clock.grid(Seconds(at))
    assert grid
    assert grid.time(0) == pytest.approx(began, abs=1e-4)
    assert clock.started_at == began
    clock.feed(mido.Message("stop"), Seconds(at))
    assert clock.started_at is None
    clock.feed(mido.Message("songpos", pos=64), Seconds(at))
    clock.feed(mido.Message("continue"), Seconds(at))
    went_on = at
    at = ticked(clock, 12, at)
    grid = clock.grid(Seconds(at))
    assert grid
    assert grid.beat(went_on) == pytest.approx(16, abs=1e-3)


def test_a_song_position_in_play_holds_from_there_and_not_again_with_a_continue() -> None:
    clock = MidiClock()
    clock.feed(mido.Message("start"), Seconds(0))
    at = ticked(clock, 49)
    clock.feed(mido.Message("songpos", pos=64), Seconds(at))
    for beat, words in ((16, ()), (17, ("continue",)), (18, ("continue",))):
        for word in words:
            clock.feed(mido.Message(word), Seconds(at))
        here, at = at, ticked(clock, 24, at)
        grid = clock.grid(Seconds(at))
        assert grid
        assert grid.beat(here) == pytest.approx(beat, abs=1e-3)


def test_a_clock_that_stops_is_no_clock() -> None:
    clock = MidiClock()
    at = ticked(clock, 48)
    assert clock.grid(Seconds(at))
    assert clock.grid(Seconds(at + 0.3)) is None
    assert clock.lost_at < at + 0.3
    at = ticked(clock, 5, at + 2)
    assert clock.grid(Seconds(at)) is None, "too few to tell"
    at = ticked(clock, 5, at)
    assert clock.grid(Seconds(at))


def test_a_flood_of_ticks_is_no_tempo() -> None:
    clock = MidiClock()
    at = ticked(clock, 500, period=1e-5)
    assert clock.grid(Seconds(at)) is None


def test_other_messages_are_not_the_clocks() -> None:
    assert not MidiClock().feed(mido.Message("note_on", note=60), Seconds(0))


@pytest.mark.parametrize("stops", [1, 2])
def test_a_clock_that_ticks_on_while_the_song_stands_continues_where_it_stopped(stops: int) -> None:
    clock = MidiClock()
    clock.feed(mido.Message("start"), Seconds(0))
    at = ticked(clock, 8 * 24)
    for _ in range(stops):
        clock.feed(mido.Message("stop"), Seconds(at))
        at = ticked(clock, 7 * 24, at)
    clock.feed(mido.Message("continue"), Seconds(at))
    ticked(clock, 24, at)
    grid = clock.grid(Seconds(at + 0.49))
    assert grid is not None
    assert grid.beat(Seconds(at)) == pytest.approx(8, abs=0.01)


def test_a_song_position_while_it_stands_holds_however_often_the_clock_ticks() -> None:
    clock = MidiClock()
    clock.feed(mido.Message("songpos", pos=64), Seconds(0))
    at = ticked(clock, 5 * 24)
    clock.feed(mido.Message("continue"), Seconds(at))
    ticked(clock, 24, at)
    grid = clock.grid(Seconds(at + 0.49))
    assert grid is not None
    assert grid.beat(Seconds(at)) == pytest.approx(16, abs=0.01)


def test_ticks_that_come_all_at_once_after_a_hiccup_are_no_tempo() -> None:
    clock, period, told = MidiClock(), 60 / 120 / 24, []
    due = [number * period for number in range(200)]
    # The sender stood still for 0.4 s, then caught up in 10 ms.
    for at in due:
        came = Seconds(2.4 + (at - 2) / 40 if 2 < at < 2.4 else at)
        clock.feed(CLOCK, came)
        if grid := clock.grid(came):
            told.append(grid.bpm)
    assert len(told) > 150
    assert max(told) < 125
    assert min(told) > 115


def test_another_tempo_after_a_hiccup_is_believed_after_a_beat() -> None:
    clock = MidiClock()
    for at in [number / 48 for number in range(96)] + [3 + number / 32 for number in range(40)]:
        clock.feed(CLOCK, Seconds(at))
    grid = clock.grid(Seconds(at))
    assert grid
    assert grid.bpm == pytest.approx(80, abs=0.5)
