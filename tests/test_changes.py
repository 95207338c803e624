"""Chords told from notes."""

import itertools
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jazzd.moonbeam.tokens import DRUMS
from jazzd.music import voicing
from jazzd.music.chords import NO_CHORD, parse
from jazzd.teach import changes
from jazzd.teach.changes import Agreement, agreement, family, infer, struck
from jazzd.teach.corpus import Changes

BAR, BEAT = 200, 50
TUNE = ("Dm7", "G7", "Cmaj7", "Am", "Bm7b5", "E7", "Am", "F")


def comping(symbols: tuple[str, ...], seed: int = 0, onsets: tuple[int, ...] = (0, 120)) -> np.ndarray:
    """A bass note and a voicing, twice a bar."""
    dice, rows = random.Random(seed), []
    for bar, symbol in enumerate(symbols):
        chord = parse(symbol)
        assert chord
        for onset in onsets:
            pitches = [36 + chord.bass, *voicing.plain(chord)[1:]]
            at = BAR * bar + onset + dice.randint(0, 3)
            rows += [[at, 75, *divmod(pitch, 12), 0, 70] for pitch in pitches]
    return np.array(sorted(rows))


def beats(bars: int) -> np.ndarray:
    return np.arange(0, BAR * bars + 1, BEAT)


def at(tick: int, told: Changes) -> str:
    return [symbol for begin, symbol in told if begin <= tick][-1]


@pytest.mark.parametrize("seed", range(3))
def test_a_tune_is_told_from_its_comping(seed: int) -> None:
    told = infer(comping(TUNE, seed), beats(len(TUNE)))
    heard = [at(BAR * bar + 60, told) for bar in range(len(TUNE))]
    assert [parse(symbol).root for symbol in heard] == [parse(symbol).root for symbol in TUNE]  # type: ignore[union-attr]
    kinds = [(family(parse(a)), family(parse(b))) for a, b in zip(heard, TUNE, strict=True)]  # type: ignore[arg-type]
    assert sum(a == b for a, b in kinds) >= 7


def test_chords_begin_on_beats_and_differ_from_the_one_before() -> None:
    told = infer(comping(TUNE), beats(len(TUNE)))
    assert all(tick % BEAT == 0 for tick, _ in told)
    assert all(a[1] != b[1] and a[0] < b[0] for a, b in itertools.pairwise(told))


def test_drums_are_not_listened_to_and_silence_is_no_chord() -> None:
    rows = comping(("C", "G"))
    late = rows + np.array([1000, 0, 0, 0, 0, 0])
    kit = np.array([[t, 10, 3, 1, DRUMS, 90] for t in range(0, 1400, 25)])
    together = np.concatenate([rows, late, kit])
    together = together[np.argsort(together[:, 0], kind="stable")]
    told = infer(together, beats(7))
    assert NO_CHORD in {symbol for _, symbol in told}
    assert at(700, told) == NO_CHORD
    assert at(1050, told) == "C"
    assert infer(kit, beats(7)) == ()


def test_a_note_too_many_changes_no_chord() -> None:
    rows = comping(("C", "C", "C", "C"))
    wrong = np.array([[230, 30, 6, 1, 0, 60]])
    assert infer(np.concatenate([rows[:20], wrong, rows[20:]]), beats(4)) == ((0, "C"),)


def test_a_track_of_chords_is_named_as_it_is_struck() -> None:
    hands = ((50, 53, 57, 60), (43, 53, 59, 62), (43, 53, 59, 62), (48, 52, 55, 59))
    rows = [
        [BAR * i + n, 90, *divmod(p, 12), 0, 80] for i, hand in enumerate(hands) for n, p in enumerate(hand)
    ]
    assert struck(np.array(rows)) == ((0, "Dm7"), (BAR, "G7"), (3 * BAR, "Cmaj7"))


@given(st.integers(0, 11), st.permutations(TUNE))
def test_another_key_has_the_same_chords_there(shift: int, tune: list[str]) -> None:
    rows = comping(tuple(tune))
    moved = rows.copy()
    moved[:, 2], moved[:, 3] = np.divmod(rows[:, 2] * 12 + rows[:, 3] + shift, 12)
    here, there = infer(rows, beats(8)), infer(moved, beats(8))
    assert [tick for tick, _ in here] == [tick for tick, _ in there]
    for (_, one), (_, other) in zip(here, there, strict=True):
        a, b = parse(one), parse(other)
        assert (a and ((a.root + shift) % 12, a.quality)) == (b and (b.root, b.quality))


NOTES = st.lists(
    st.tuples(
        st.integers(0, 3000), st.integers(1, 900), st.integers(0, 127), st.sampled_from([0, 40, DRUMS])
    ),
    max_size=40,
)


@given(NOTES, st.lists(st.integers(0, 3500), max_size=20, unique=True))
def test_whatever_is_played_gets_chords_in_order(
    notes: list[tuple[int, int, int, int]], counted: list[int]
) -> None:
    rows = [[on, lasts, *divmod(p, 12), program, 80] for on, lasts, p, program in sorted(notes)]
    told = infer(np.array(rows, np.int64).reshape(-1, 6), np.array(sorted(counted), np.int64))
    ticks = [tick for tick, _ in told]
    assert ticks == sorted(set(ticks))
    assert all(tick >= 0 for tick in ticks)
    assert all(parse(symbol) or symbol == NO_CHORD for _, symbol in told)
    assert bool(told) == any(program != DRUMS for *_, program in notes)


def test_agreement_counts_the_time() -> None:
    written = ((0, "Dm7"), (100, "G7"), (200, "N.C."), (300, "C"))
    assert agreement(written, written, 400) == Agreement(300, 300, 300)
    assert agreement(((0, "Dm"), (150, "G")), written, 400) == Agreement(300, 150, 100)
    assert agreement((), written, 400) == Agreement(300, 0, 0)


@pytest.mark.parametrize(
    ("symbol", "expected"),
    [
        ("C6", "major"),
        ("C13", "dominant"),
        ("Cm69", "minor"),
        ("Cm7b5", "half-diminished"),
        ("Cdim7", "diminished"),
        ("Caug", "augmented"),
        ("C9sus4", "suspended"),
        ("C7#5", "dominant"),
    ],
)
def test_families(symbol: str, expected: str) -> None:
    chord = parse(symbol)
    assert chord
    assert changes.family(chord) == expected
