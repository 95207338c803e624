"""Follow mode in time: quantized, swung, entering on the beat, with a clock that may stop."""

import bisect
import random
from typing import Literal

import mido
import pytest
from room import Room

from jazzd.music.grid import POSITIONS, Feel
from jazzd.music.notes import Seconds
from jazzd.player.entry import waits_for_beat
from jazzd.player.manner import Manner
from jazzd.player.tempo import Tempo

DM7, G7 = (50, 53, 57, 60), (55, 59, 62, 65)
BEAT_S = 0.5


def off_grid(times: list[float], began: float, positions: tuple[float, ...]) -> list[float]:
    """Milliseconds from each time to the nearest of the positions of a beat."""
    beats = [(at - began) / BEAT_S for at in times]
    return [1000 * BEAT_S * min(abs(beat % 1 - p) for p in (*positions, 1.0)) for beat in beats]


def counting_in() -> tuple[Room, float]:
    """A song of a running clock that starts, with two bars before the solo; when it did."""
    room = Room(manner=Manner(count_in=2))
    room.tick(2)
    room.play(mido.Message("start"))
    return room, room.time


@pytest.mark.parametrize("swing", [50, 62])
def test_all_but_the_first_note_are_on_the_grid(swing: float) -> None:
    room = Room(feel=Feel(100, swing))
    began = room.time
    room.tick(6.3)
    room.strike(*DM7)
    room.tick(12)
    times = [at for at, _ in room.struck]
    assert len(times) > 20
    positions = (0, 1 / 4, 1 / 3, swing / 100, 2 / 3, 3 / 4)
    assert max(off_grid(times[1:], began, positions)) < 1
    assert room.scheduler.figures().late == 0
    assert len(set(times)) == len(times), "no two notes share a place"


def test_layback_is_behind_the_beat() -> None:
    room = Room(feel=Feel(100, 50, 30))
    began = room.time
    room.tick(4)
    room.strike(*DM7)
    room.tick(8)
    times = [at - 0.03 for at, _ in room.struck]
    assert max(off_grid(times[1:], began, (0, 1 / 4, 1 / 3, 1 / 2, 2 / 3, 3 / 4))) < 1


@pytest.mark.parametrize(("start", "beats"), [("beat", 1), ("bar", 4)])
def test_an_answer_waits_for_its_beat(start: str, beats: int) -> None:
    room = Room(manner=Manner(start=start))  # type: ignore[arg-type]
    began = room.time
    room.tick(5.3)
    room.strike(*DM7)
    room.tick(4)
    first = (room.struck[0][0] - began) / BEAT_S
    assert first == pytest.approx(6 if beats == 1 else 8, abs=0.01)
    assert room.session.latency.summary()["n"] == 0, "waiting for a beat is no latency"


def test_in_a_waltz_the_bar_and_the_strong_beats_come_every_three_beats() -> None:
    room = Room(manner=Manner(start="bar"), tempo=Tempo(bar=3))
    began = room.time
    room.tick(4.1)
    room.strike(*DM7)
    room.tick(4)
    assert (room.struck[0][0] - began) / BEAT_S == pytest.approx(6, abs=0.01)
    beats = room.revisions[-1].beats
    assert beats
    assert beats.bar == 3
    assert beats.length == pytest.approx(300 * BEAT_S, rel=0.01)


def test_a_change_within_a_phrase_waits_for_a_beat_only() -> None:
    room = Room(manner=Manner(start="bar"))
    began = room.time
    room.tick(4.1)
    room.strike(*DM7)
    room.tick(5.3)
    changed = room.time
    room.lift(*DM7)
    room.strike(*G7)
    room.tick(4)
    after = [at for at, pitch in room.struck if at > changed + 0.03]
    assert (after[0] - began) / BEAT_S == pytest.approx(10, abs=0.01)


def test_a_count_in_is_waited_for() -> None:
    room, began = counting_in()
    room.tick(1)
    room.strike(*DM7)
    room.tick(10)
    assert (room.struck[0][0] - began) / BEAT_S == pytest.approx(8, abs=0.01)


def test_a_count_in_ends_where_its_last_beat_does_though_the_tempo_moves() -> None:
    room = Room(manner=Manner(count_in=2))
    room.tick(2)
    room.play(mido.Message("start"))
    room.strike(*DM7)
    room.tick(4, 118)
    room.tick(4, 126)
    ninth = room.time
    room.tick(4, 126)
    assert room.struck[0][0] == pytest.approx(ninth, abs=0.01)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("bpm", [90, 180, 240])
def test_a_count_in_ends_on_its_beat_however_badly_the_clock_keeps_time(bpm: int, seed: int) -> None:
    room, dice, tick_s = Room(manner=Manner(count_in=2)), random.Random(seed), 60 / bpm / 24
    room.play(mido.Message("start"))
    began = room.time
    for tick in range(24 * 11):
        room.wait(began + tick * tick_s + dice.uniform(0, 0.01) - room.time)
        room.play(mido.Message("clock"))
        if tick == 8:
            room.strike(*DM7)
    first, second = (at - began for at, _ in room.struck[:2])
    assert first == pytest.approx(8 * 60 / bpm + 0.005, abs=0.006)
    assert second - first < 0.2


def test_a_count_in_outlives_a_clock_that_stood_still_and_hurried() -> None:
    room = Room(manner=Manner(count_in=2))
    room.play(mido.Message("start"))
    began = room.time
    room.wait(0.4)
    room.play(*[mido.Message("clock")] * 20)  # all that had waited
    room.strike(*DM7)
    for tick in range(20, 24 * 11):
        room.wait(began + tick * BEAT_S / 24 - room.time)
        room.play(mido.Message("clock"))
    first, second = (at - began for at, _ in room.struck[:2])
    assert first == pytest.approx(8 * BEAT_S, abs=0.01)
    assert second - first < 0.2


def test_a_count_in_is_counted_by_the_clock_that_starts_not_by_the_chords_before() -> None:
    room = Room(manner=Manner(count_in=2))
    for _ in range(4):
        room.strike(*DM7)
        room.wait(0.8)
        room.lift(*DM7)
    room.wait(3)
    began = room.time
    room.play(mido.Message("start"))
    room.tick(0.05)
    room.strike(*DM7)
    room.tick(10)
    after = [at for at, _ in room.struck if at > began]
    assert (after[0] - began) / BEAT_S == pytest.approx(8, abs=0.01)


@pytest.mark.parametrize(("start", "beat"), [("beat", 1), ("bar", 4)])
def test_a_chord_struck_with_start_enters_by_the_clock(start: Literal["beat", "bar"], beat: int) -> None:
    room = Room(manner=Manner(start=start))
    room.play(mido.Message("start"))
    began = room.time
    room.tick(0.05)
    room.strike(*DM7)
    room.tick(6)
    assert (room.struck[0][0] - began) / BEAT_S == pytest.approx(beat, abs=0.01)


@pytest.mark.parametrize("manner", [Manner(count_in=2), Manner(start="bar")])
def test_a_start_that_no_clock_follows_keeps_no_chord_waiting_for_long(manner: Manner) -> None:
    room = Room(manner=manner)
    room.play(mido.Message("start"))
    room.strike(*DM7)
    room.wait(6)
    assert room.struck


def test_a_clock_that_is_not_the_source_keeps_no_chord_waiting() -> None:
    room = Room(manner=Manner(count_in=2), tempo=Tempo("chords"))
    room.play(mido.Message("start"))
    room.strike(*DM7)
    assert not waits_for_beat(room.session.manner, room.session.tempo, Seconds(room.time))


@pytest.mark.parametrize("bpm", [72, 120, 220])
@pytest.mark.parametrize("late_s", [-0.02, 0.01, 0.06])
def test_a_song_is_on_the_grid_from_its_first_beat_on(bpm: float, late_s: float) -> None:
    """Chords are struck with Start, before anybody can know the tempo."""
    room, struck = Room(feel=Feel(100)), False
    room.wait(1)
    began = room.time + 0.05
    room.wait(0.05 + min(0.0, late_s))
    if late_s < 0:
        room.strike(*DM7)
    room.wait(began - room.time)
    room.play(mido.Message("start"))
    for tick in range(24 * 8):
        room.play(mido.Message("clock"))
        if not struck and late_s >= 0 and room.time + 2.5 / bpm > began + late_s:
            room.wait(max(0.0, began + late_s - room.time))
            room.strike(*DM7)
            struck = True
        room.wait(began + (tick + 1) * 2.5 / bpm - room.time)
    beats = [(at - began) * bpm / 60 for at, _ in room.struck]
    assert len(beats) > 10
    off = [min(abs(beat % 1 - p) for p in (*POSITIONS, 1.0)) * 60 / bpm for beat in beats[1:]]
    assert max(off) < 0.001
    assert len(set(beats)) == len(beats), "no two notes share a place"
    assert room.scheduler.figures().late == 0


@pytest.mark.parametrize("feel", [Feel(60), Feel(30, 66), Feel(60, 50, -20), Feel(100, 60, 25)])
@pytest.mark.parametrize("bpm", [60, 120, 200])
@pytest.mark.parametrize("ramp", [1.0, 1.5, 0.7])
def test_notes_that_move_with_the_beat_are_not_late(feel: Feel, bpm: float, ramp: float) -> None:
    room, dice = Room(feel=feel), random.Random(1)
    room.play(mido.Message("start"))
    at, beats = room.time, 24
    for tick in range(24 * beats):
        room.wait(max(0.0, at + dice.uniform(0, 0.004) - room.time))
        room.play(mido.Message("clock"))
        if tick == 1:
            room.strike(*DM7)
        at += 2.5 / (bpm * ramp ** (tick / 24 / beats))
    assert len(room.struck) > 20
    assert max(room.scheduler.figures().lateness_ms) < 1


def test_notes_held_back_for_a_clock_that_does_not_come_are_played() -> None:
    room = Room(feel=Feel(100))
    room.play(mido.Message("start"))
    room.strike(*DM7)
    room.wait(1.2)
    assert len(room.struck) > 5


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("first", "last"), [(60, 300), (300, 60), (90, 140)])
def test_notes_planned_before_the_tempo_moved_are_on_the_grid_it_moved_to(
    first: float, last: float, seed: int
) -> None:
    room, dice = Room(feel=Feel(100)), random.Random(seed)
    beats, at, ticks = 64, room.time, []
    for tick in range(24 * beats + 1):
        ticks.append(at)
        at += 2.5 / (first + (last - first) * tick / (24 * beats))
    for tick in range(24 * beats):
        room.wait(ticks[tick] - room.time + dice.uniform(0, 0.001))
        room.play(mido.Message("clock"))
        if tick == 24:
            room.strike(*DM7)
    off = []
    for at, _ in room.struck[1:]:
        tick = bisect.bisect_right(ticks, at) - 1
        beat = (tick + (at - ticks[tick]) / (ticks[tick + 1] - ticks[tick])) / 24
        off.append(min(abs(beat % 1 - p) for p in (*POSITIONS, 1.0)) * 24 * (ticks[tick + 1] - ticks[tick]))
    assert len(off) > 60
    assert sorted(off)[int(0.99 * len(off))] < 0.012
    assert room.scheduler.figures().late == 0


def test_every_chord_of_a_count_in_is_silent() -> None:
    room, began = counting_in()
    room.tick(0.6)
    room.strike(*DM7)
    room.tick(3.4)
    room.lift(*DM7)
    room.tick(1.6)
    room.strike(*G7)
    room.tick(8)
    beats = [(at - began) / BEAT_S for at, _ in room.struck]
    assert beats[0] == pytest.approx(8, abs=0.02)
    assert beats[1] - beats[0] < 0.5


def test_after_the_count_in_answers_come_at_once_again() -> None:
    room = Room(manner=Manner(count_in=2))
    room.play(mido.Message("songpos", pos=4 * 32), mido.Message("continue"))
    room.tick(1.3)
    room.strike(*DM7)
    struck = room.time
    room.tick(4)
    assert room.struck[0][0] - struck < 0.1


def test_a_chord_changed_before_it_has_entered_enters_by_the_bar() -> None:
    room = Room(manner=Manner(start="bar"))
    began = room.time
    room.tick(4.3)
    room.strike(*DM7)
    room.tick(1.4)
    room.lift(*DM7)
    room.strike(*G7)
    room.tick(6)
    assert (room.struck[0][0] - began) / BEAT_S == pytest.approx(8, abs=0.02)
    assert room.struck[0][1] in G7


def test_the_engine_hears_of_a_tempo_that_changes_under_a_chord_that_is_held() -> None:
    room = Room()
    room.tick(4)
    room.strike(*DM7)
    room.tick(4)
    before = len(room.revisions)
    room.tick(8)
    assert len(room.revisions) == before, "a steady one is no news"
    room.tick(8, 180)
    told = room.revisions[-1].beats
    assert told
    assert told.length == pytest.approx(100 * 120 / 180, rel=0.01)
    assert before < len(room.revisions) < before + 12


def test_notes_go_up_with_the_force_of_the_chords() -> None:
    loudness = []
    for velocity in (30, 110):
        room = Room()
        room.play(*(mido.Message("note_on", note=pitch, velocity=velocity) for pitch in DM7))
        room.wait(1)
        loudness.append(next(m.velocity for _, m in room.heard if m.type == "note_on"))
    assert loudness[0] < 80 < loudness[1]


def test_strong_beats_are_told_and_stricter() -> None:
    room = Room()
    room.tick(4)
    room.strike(*DM7)
    room.tick(1)
    revise = room.revisions[-1]
    assert revise.beats
    assert revise.beats.length == pytest.approx(100, abs=1)
    assert revise.sampling.strong
    assert sum(revise.sampling.strong) < sum(revise.sampling.weights)
