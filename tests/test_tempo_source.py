"""Who tells the beat, and what the chords say of it."""

import random

import mido
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jazzd.music.grid import Grid
from jazzd.music.notes import Seconds
from jazzd.player.tempo import Tempo, estimate

NOW = Seconds(100.0)


def struck(bpm: float, beats: list[float], off_s: float = 0.0) -> tuple[Seconds, ...]:
    dice = random.Random(3)
    return tuple(Seconds(50 + 60 / bpm * beat + dice.uniform(-off_s, off_s)) for beat in beats)


@pytest.mark.parametrize("bpm", [70, 96, 120, 150, 180])
@pytest.mark.parametrize("beats", [[0, 4, 8, 12], [0, 2, 4, 6, 8], [0, 4, 6, 8, 12, 14, 16], [0, 1, 2, 3, 4]])
def test_chords_in_time_tell_a_tempo_that_fits_them(bpm: float, beats: list[float]) -> None:
    found = estimate(struck(bpm, beats, 0.015), bpm=bpm)
    assert found
    ratio = found.bpm / bpm
    assert min(abs(ratio - each) for each in (0.5, 1, 2)) < 0.03
    for at in struck(bpm, beats):
        assert abs(found.beat(at) - round(found.beat(at))) < 0.12


def test_what_to_expect_decides_between_two_ways_to_count() -> None:
    bars = struck(120, [0, 4, 8, 12])
    assert estimate(bars, 120).bpm == pytest.approx(120)  # type: ignore[union-attr]
    assert estimate(bars, 60).bpm == pytest.approx(60)  # type: ignore[union-attr]


@pytest.mark.parametrize("pushed", [-0.5, 0.5])
@pytest.mark.parametrize("chords", [4, 6, 9])
@pytest.mark.parametrize("bpm", [100.0, 120.0, 150.0])
def test_a_chord_that_is_pushed_by_an_eighth_does_not_move_the_beat(
    bpm: float, chords: int, pushed: float
) -> None:
    for which in range(chords):
        beats = [4 * n + (pushed if n == which else 0) for n in range(chords)]
        grid = estimate(tuple(Seconds(beat * 60 / bpm) for beat in beats), 120)
        assert grid
        assert grid.bpm == pytest.approx(bpm, rel=0.01)
        assert (grid.beat(0.0) + 2) % 4 - 2 == pytest.approx(0, abs=0.05)


def test_a_hand_that_is_not_a_clock_is_followed() -> None:
    dice, wrong = random.Random(1), []
    for _ in range(1000):
        bpm, pushed = dice.uniform(90, 160), dice.randint(1, 7)
        beats = [4 * n - (0.5 if n == pushed else 0.0) for n in range(9)]
        played = tuple(Seconds(10 + beat * 60 / bpm + dice.gauss(0, 0.02)) for beat in beats)
        grid = estimate(played, 120)
        if not grid or abs(grid.bpm / bpm - 1) > 0.02 or abs(grid.beat(played[8]) - 32) > 0.35:
            wrong.append((bpm, pushed))
    assert len(wrong) < 10, wrong


def test_in_a_waltz_a_chord_a_bar_is_one_in_three_beats() -> None:
    bars = struck(120, [0, 3, 6, 9, 12])
    found = estimate(bars, 130, bar=3)
    assert found
    assert found.bpm == pytest.approx(120)
    assert found.bar == 3
    assert estimate(bars, 130).bpm == pytest.approx(160)  # type: ignore[union-attr]


@pytest.mark.parametrize("beats", [[0, 2, 3, 6, 9], [0, 3, 5, 6, 9], [0, 1, 3, 6, 9]])
def test_a_chord_more_in_a_waltz_does_not_move_its_bar(beats: list[float]) -> None:
    found = estimate(struck(120, beats), 120, bar=3)
    assert found
    assert found.bpm == pytest.approx(120, rel=0.02)
    assert (found.beat(50.0) + 1.5) % 3 - 1.5 == pytest.approx(0, abs=0.05)


def test_three_chords_one_of_which_is_pushed_tell_no_tempo() -> None:
    assert estimate(struck(120, [0, 3.5, 8]), 120) is None


def test_whoever_tells_the_beat_the_bar_is_ours() -> None:
    tempo = Tempo("auto", 100.0, bar=3)
    tempo.struck(Seconds(90.0))
    assert tempo.now(NOW) == ("bpm", Grid(Seconds(90.0), 0.6, 3))
    tempo.tapped(Seconds(91.0))
    tempo.tapped(Seconds(91.5))
    assert tempo.now(NOW) == ("taps", Grid(Seconds(91.0), 0.5, 3))


@pytest.mark.parametrize("times", [[], [1.0], [1.0, 2.0], [1.0, 1.0, 1.0], [0, 0.31, 2.17, 2.4, 5.0, 5.9]])
def test_chords_that_keep_no_time_tell_none(times: list[float]) -> None:
    assert estimate(tuple(Seconds(at) for at in times), 120) is None


@given(st.lists(st.floats(0, 1e4), max_size=9), st.floats(30, 300))
def test_any_times_are_survived(times: list[float], bpm: float) -> None:
    found = estimate(tuple(sorted(map(Seconds, times))), bpm)
    assert found is None or 30 <= found.bpm <= 300


def test_the_best_source_wins_and_the_others_step_in() -> None:
    tempo = Tempo("auto", 100)
    assert tempo.now(NOW) == ("bpm", None)
    tempo.struck(Seconds(90.0))
    assert tempo.now(NOW) == ("bpm", Grid(Seconds(90.0), 0.6))
    for at in (92.0, 94.0, 96.0):
        tempo.struck(Seconds(at))
    assert tempo.now(NOW)[0] == "chords"
    tempo.tapped(Seconds(98.0))
    tempo.tapped(Seconds(98.4))
    source, grid = tempo.now(NOW)
    assert source == "taps"
    assert grid
    assert grid.bpm == pytest.approx(150)
    for tick in range(48):
        tempo.feed(mido.Message("clock"), Seconds(99 + tick / 48))
    assert tempo.now(NOW)[0] == "clock"
    assert tempo.now(Seconds(101.0))[0] == "taps"


@pytest.mark.parametrize(("source", "told"), [("chords", "chords"), ("bpm", "bpm"), ("clock", "bpm")])
def test_a_source_that_was_chosen_is_the_only_one(source: str, told: str) -> None:
    tempo = Tempo(source)  # type: ignore[arg-type]
    for beat in range(4):
        tempo.struck(Seconds(90 + 2.0 * beat))
    assert tempo.now(NOW)[0] == told


def test_link_tells_while_it_has_peers() -> None:
    linked = [Grid(Seconds(0.0), 0.4), None]
    tempo = Tempo("auto", link=lambda: linked[0])
    assert tempo.now(NOW)[0] == "link"
    linked.reverse()
    assert tempo.now(NOW)[0] == "bpm"


@pytest.mark.parametrize(
    ("taps", "bpm"),
    [
        ((0.0, 0.5, 1.0, 10.0, 10.3, 10.6), 200),
        ((0.0, 0.5, 1.0, 2.7, 3.0, 3.3), 200),  # a short pause
        ((0.0, 0.5, 1.0, 2.7), 120),
        ((0.0, 0.5, 1.0, 1.3, 1.6), 200),  # none
        ((0.0, 0.5, 1.0, 2.0, 3.0), 60),
        ((0.0, 0.5, 1.0, 1.03, 1.5, 1.53, 2.0), 120),  # a pedal that bounces
        ((0.0, 0.52, 1.0, 1.48, 2.0), 120),  # a human
    ],
)
def test_taps_at_another_pace_begin_a_new_tempo(taps: tuple[float, ...], bpm: float) -> None:
    tempo = Tempo()
    for at in taps:
        tempo.tapped(Seconds(at))
    assert tempo.grid(NOW).bpm == pytest.approx(bpm)  # type: ignore[union-attr]
