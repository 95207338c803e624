"""Beats, positions and the feel."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jazzd.music.grid import POSITIONS, Feel, Grid, strong
from jazzd.music.notes import Seconds

GRID = Grid(Seconds(10.0), 0.5)
beats = st.floats(-100, 100)


@pytest.mark.parametrize(("bar", "apart"), [(1, 1), (2, 2), (3, 3), (4, 2), (5, 5), (6, 3), (8, 4)])
def test_a_bar_is_halved_where_that_leaves_whole_beats(bar: int, apart: int) -> None:
    assert strong(bar) == apart


def test_beats_and_seconds() -> None:
    assert GRID.beat(11.0) == 2
    assert GRID.time(-1) == 9.5
    assert GRID.bpm == 120
    assert [GRID.next(10.1), GRID.next(10.5), GRID.next(10.51, 4), GRID.next(9.99, 4)] == [10.5, 10.5, 12, 10]


@given(beats)
def test_without_a_feel_nothing_moves(beat: float) -> None:
    assert Feel().placed(beat) == beat


@given(beats, st.floats(50, 75))
def test_at_a_hundred_percent_every_note_is_on_the_swung_grid(beat: float, swing: float) -> None:
    placed = Feel(100, swing).placed(beat)
    grid = [p if p != 0.5 else swing / 100 for p in POSITIONS] + [1.0]
    assert min(abs(placed % 1 - p) for p in grid) == pytest.approx(0, abs=1e-6)
    assert abs(placed - beat) <= 0.25 + 1 / 8


@given(beats, st.floats(0, 100))
def test_a_part_of_the_way_is_a_part_of_the_way(beat: float, quantize: float) -> None:
    whole, part = Feel(100).placed(beat), Feel(quantize).placed(beat)
    assert part - beat == pytest.approx(quantize / 100 * (whole - beat), abs=1e-9)


@pytest.mark.parametrize(
    ("beat", "placed"), [(3.5, 3.66), (3.47, 3.63), (3.25, 3.25), (3.67, 3.67), (3.0, 3.0)]
)
def test_only_the_off_eighth_swings_and_needs_no_quantizing_for_it(beat: float, placed: float) -> None:
    assert Feel(0, 66).placed(beat) == pytest.approx(placed)


@given(beats, st.integers(0, 12))
def test_a_place_that_is_taken_is_not_given_again(beat: float, sixths: int) -> None:
    taken = Feel(100).nearest(beat + sixths / 6 - 1)
    assert Feel(100).nearest(beat, after=taken) > taken
