"""The tempo map: every beat where it was, in few lines."""

import math
from collections.abc import Sequence

import mido
import pytest
from hypothesis import given
from hypothesis import strategies as st
from room import Room

from jazzd.music.grid import Grid
from jazzd.music.notes import Seconds
from jazzd.player.tempo_map import KEPT_S, TempoMap

BEGAN = 100.0


def counted(bpms: Sequence[float], look_s: float = 0.02) -> tuple[TempoMap, list[float]]:
    """A map of beats of these tempi, looked at that often; and when the beats were."""
    tempo, at, beats = TempoMap(), BEGAN, []
    for number, bpm in enumerate(bpms):
        beats.append(at)
        grid = Grid(Seconds(at - number * 60 / bpm), 60 / bpm)
        for look in range(math.ceil(60 / bpm / look_s)):
            tempo.count(at + look * look_s, grid)
        at += 60 / bpm
    return tempo, beats


def beats_at(tempo: TempoMap, times: Sequence[float]) -> list[float]:
    """What beat a reader of the map finds at each time."""
    found, tempi = [], tempo.tempi(BEGAN)
    for time in times:
        beat = 0.0
        for (at, bpm), (until, _) in zip(tempi, [*tempi[1:], (math.inf, 0.0)], strict=True):
            beat += max(0.0, min(until, time) - at) * bpm / 60
        found.append(beat)
    return found


@given(st.lists(st.tuples(st.floats(60, 300), st.integers(1, 8)), min_size=1, max_size=12))
def test_every_beat_is_where_it_was(parts: list[tuple[float, int]]) -> None:
    bpms = [bpm for bpm, beats in parts for _ in range(beats)]
    tempo, beats = counted(bpms)
    fastest = max(bpms) / 60
    for number, found in enumerate(beats_at(tempo, beats)):
        assert abs(found - number) <= (KEPT_S + 0.02) * fastest  # it is looked at every 0.02 s


def test_what_the_lines_leave_does_not_add_up() -> None:
    bpms = [120 + 20 * math.sin(n / 3) for n in range(400)]
    tempo, beats = counted(bpms, look_s=0.001)
    for number, found in enumerate(beats_at(tempo, beats)):
        assert abs(found - number) <= 2.5 * (KEPT_S + 0.002)


def test_a_steady_tempo_is_one_line_and_a_change_another() -> None:
    tempo, beats = counted([100.0] * 24 + [160.0] * 24)
    tempi = tempo.tempi(BEGAN)
    assert tempi[0] == (BEGAN, 100.0)
    assert tempi[-1][1] == pytest.approx(160, rel=0.01)
    assert len(tempi) <= 4
    assert beats_at(tempo, beats[24:28]) == pytest.approx([24, 25, 26, 27], abs=0.05)


def test_a_count_that_begins_anew_changes_no_tempo() -> None:
    tempo = TempoMap()
    for song in range(3):
        began = BEGAN + 4 * song
        for beat in range(8):
            tempo.count(began + beat / 2, Grid(Seconds(began), 0.5, song=("clock", began)))
    assert {bpm for _, bpm in tempo.tempi(BEGAN)} == {120.0}


@given(st.floats(2.2, 60), st.floats(60, 240), st.booleans())
def test_bars_are_those_of_the_song_however_often_it_is_started(
    pause_s: float, bpm: float, ticks_on: bool
) -> None:
    tempo, began = TempoMap(), BEGAN
    starts = []
    for song in range(4):
        starts.append(began)
        grid = Grid(Seconds(began), 60 / bpm, song=("clock", began))
        for look in range(int(600 / bpm)):  # at its tenth beat or so it is stopped
            tempo.count(began + look, grid)
        stopped = began + int(600 / bpm)
        if ticks_on:
            tempo.count(stopped, Grid(grid.origin, grid.beat_s, song=("clock", None)))
        began = stopped + pause_s + song / 3
    for found in beats_at(tempo, starts):
        assert abs(found / 4 - round(found / 4)) < 0.01


def test_the_beat_goes_on_however_it_is_estimated_anew() -> None:
    tempo = TempoMap()
    for look in range(400):
        at = BEGAN + look * 0.05
        struck = (
            BEGAN + look // 20
        )  # every second somebody strikes a chord, late or early, which moves the estimate
        shift = (look // 20 % 3 - 1) * 0.03
        tempo.count(at, Grid(Seconds(struck + shift), 0.5, song=("chords", struck)))
    assert beats_at(tempo, [BEGAN + 19.9])[0] == pytest.approx(39.8, abs=0.2)
    assert all(60 < bpm < 240 for _, bpm in tempo.tempi(BEGAN))


def test_a_take_begins_with_a_bar() -> None:
    tempo, _ = counted([120.0] * 16)
    assert tempo.bar_line(BEGAN + 3.5) == pytest.approx(BEGAN + 2)
    assert tempo.bar_line(BEGAN + 3.999) == pytest.approx(BEGAN + 3.999)  # struck with the bar
    assert TempoMap().bar_line(5.0) == 5.0


def test_what_is_over_is_forgotten() -> None:
    tempo, _ = counted([60.0 + 3 * n for n in range(60)])
    before = tempo.tempi(BEGAN + 20)
    tempo.forget(BEGAN + 20)
    assert tempo.tempi(BEGAN + 20) == before
    assert not [at for at, _ in tempo.tempi(BEGAN) if BEGAN < at < BEGAN + 18]


def test_a_session_tells_of_a_tempo_that_changes_under_a_chord_that_is_held() -> None:
    room, tempo = Room(), TempoMap()
    room.session.counted = tempo.count
    room.play(mido.Message("start"))
    room.tick(4, 100)
    began = room.time
    room.strike(50, 53, 57)
    room.tick(8, 100)
    room.tick(8, 160)
    beats = (room.time - began, tempo.tempi(began))
    told = sum(
        (min(until, room.time) - at) * bpm / 60
        for (at, bpm), (until, _) in zip(beats[1], [*beats[1][1:], (room.time, 0.0)], strict=True)
    )
    assert told == pytest.approx(16, abs=0.1)
