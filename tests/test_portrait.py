"""Figures of lines whose shares are known, and distributions."""

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from lines import line

from jazzd.teach.metre import steady
from jazzd.teach.portrait import BINS, distribution, overlap, overlaps, portrait

BEATS = steady(120.0, 60.0)
"""A beat is 50 ticks."""
SHARES = arrays.arrays(np.float64, 12, elements=st.floats(0.0, 1.0)).filter(lambda each: each.sum() > 0.1)


def test_chord_and_scale_tones_are_counted_and_weighed() -> None:
    """Over Cmaj7: C and E of the chord, D of the scale, C# of neither; the last note is over nothing."""
    solo = line(
        [60, 62, 64, 61, 66], [0, 60, 110, 150, 300], [10, 20, 30, 40, 99], [(0, "Cmaj7"), (300, "N.C.")]
    )
    figures = portrait([solo]).figures
    assert [*figures["chord_tones"].values()] == [0.5, pytest.approx(0.4), None, 0.5, 0.5]
    assert [*figures["scale_tones"].values()] == [0.75, pytest.approx(0.6), None, 0.75, 0.75]


def test_all_tones_of_the_chord_count_and_so_does_its_bass() -> None:
    solo = line([62, 57, 58, 61], changes=[(0, "C13/Bb")])  # D is the ninth, A the thirteenth, Bb the bass
    assert portrait([solo]).figures["chord_tones"]["by_count"] == 0.75


def test_how_the_solos_differ_is_told_of_each_as_a_whole() -> None:
    solos = [line([60] * n + [61] * (100 - n), changes=[(0, "C")]) for n in range(101)]
    figures = portrait([*solos, line([60])]).figures["chord_tones"]
    assert (figures["low"], figures["high"]) == (pytest.approx(0.05), pytest.approx(0.95))


def test_strong_beats_are_one_and_three_within_half_a_triplet() -> None:
    on_strong = line([60, 60, 60], [0, 108, 192], changes=[(0, "C")], beats=BEATS)
    elsewhere = line([61, 61, 61], [50, 110, 225], changes=[(0, "C")], beats=BEATS)
    figures = portrait([on_strong, elsewhere]).figures
    assert figures["chord_tones"]["by_count"] == 0.5
    assert figures["chord_tones"]["on_strong_beats"] == 1.0
    assert figures["off_beat"] == pytest.approx(2 / 6)


def test_density_interval_and_range() -> None:
    timed = line([60, 64, 62, 62], [0, 100, 200, 300], 100, beats=BEATS)
    free = line([72, 60], [1000, 1200], 200)
    figures = portrait([timed, free]).figures
    assert (figures["solos"], figures["notes"], figures["seconds"]) == (2, 6, 8.0)
    assert figures["density"] == {"per_second": 0.75, "per_beat": 4 / 6}
    assert figures["interval"] == (4 + 2 + 0 + 12) / 4
    assert figures["range"] == {"low": 60, "high": 70}


def test_what_is_not_known_is_none() -> None:
    figures = portrait([line([60])]).figures
    assert set(figures["chord_tones"].values()) == {None}
    assert figures["density"]["per_beat"] is None
    assert figures["off_beat"] is figures["interval"] is figures["repeated_bars"] is None


def test_silence_has_a_portrait() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert portrait([]).figures == {"solos": 0}
        drawn = portrait([line([], beats=BEATS, changes=[(0, "C")])])
    assert drawn.figures["notes"] == 0
    assert drawn.figures["range"] == {"low": None, "high": None}
    assert overlaps(drawn, portrait([line([60, 62])])) == {}


def test_distributions_are_of_what_they_say() -> None:
    solo = line([60, 64, 62], [0, 10, 40], 25, [(0, "D7")], velocity=81)
    shares = portrait([solo]).shares
    assert {name: len(share) for name, share in shares.items()} == {
        name: len(bounds) - 1 for name, bounds in BINS.items()
    }
    assert all(share.sum() == pytest.approx(1) for share in shares.values())
    assert np.flatnonzero(shares["interval"]).tolist() == [13 - 2, 13 + 4]
    assert np.flatnonzero(shares["degree"]).tolist() == [0, 2, 10]
    assert np.flatnonzero(shares["velocity"]).tolist() == [10]
    (bin_of_250_ms,) = np.flatnonzero(shares["duration"])
    assert BINS["duration"][bin_of_250_ms] <= 0.25 < BINS["duration"][bin_of_250_ms + 1]


@given(st.lists(st.floats(-1e6, 1e6), max_size=50))
def test_every_value_is_in_some_bin(values: list[float]) -> None:
    for bounds in BINS.values():
        shares = distribution(np.array(values, np.float64), bounds)
        assert shares.sum() == pytest.approx(1.0 if values else 0.0)


@given(SHARES, SHARES)
def test_an_overlap_is_a_likeness(one: np.ndarray, other: np.ndarray) -> None:
    one, other = one / one.sum(), other / other.sum()
    area = overlap(one, other)
    assert 0.0 <= area <= 1.0 + 1e-9
    assert area == overlap(other, one)
    assert overlap(one, one) == pytest.approx(1.0)
    assert area == pytest.approx(1 - np.abs(one - other).sum() / 2), (
        "one less the distance of total variation"
    )


def test_what_has_nothing_in_common_does_not_overlap() -> None:
    low, high = portrait([line([40, 41, 42])]), portrait([line([40, 50, 40], velocity=10)])
    found = overlaps(low, high)
    assert found["interval"] == found["velocity"] == 0.0
    assert found["duration"] == pytest.approx(1.0)
    assert "degree" not in found, "there are no chords"
