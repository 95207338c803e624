import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jazzd.music.chords import Chord, name, parse
from jazzd.music.harmony import scale
from jazzd.music.voicing import plain, voice

SYMBOLS = (
    "C Cm C5 C6 C69 Cm6 C7 C9 C11 C13 Cm7 Cm9 Cm11 Cm13 Cmaj7 Cmaj9 Cmaj13#11 Cm7b5 Cdim Cdim7 Caug C7alt "
    "C7b9 C7#9 C7b9b13 C13b9 C9#11 C7#5 C7sus4 C13sus4 Csus2 Csus4 Cmmaj7 Cmmaj9#11 Cadd9 C/E C7/Bb Cm7/F "
    "C7no3 C69#11"
)


def chord_of(symbol: str, up: int = 0) -> Chord:
    chord = parse(symbol)
    assert chord is not None
    return Chord((chord.root + up) % 12, chord.quality, (chord.bass + up) % 12)


@given(st.sampled_from(SYMBOLS.split()), st.integers(0, 11), st.integers())
def test_a_voicing_lies_under_the_hands_and_in_the_chord(symbol: str, up: int, seed: int) -> None:
    chord = chord_of(symbol, up)
    pitches = voice(chord, random.Random(seed))
    assert 3 <= len(pitches) <= 6
    assert sorted(set(pitches)) == pitches
    assert 43 <= pitches[0] < pitches[-1] <= 76
    assert {pitch % 12 for pitch in pitches} <= scale(chord)


@given(st.sampled_from(["Dm7", "G7", "Cmaj7", "Bm7b5", "E7b9", "G13", "G7alt"]), st.integers())
def test_a_voicing_has_the_guide_tones(symbol: str, seed: int) -> None:
    chord = chord_of(symbol)
    third, seventh = (
        (chord.root + next(each for each in kind if each in chord.intervals)) % 12
        for kind in ((4, 3), (11, 10))
    )
    assert {third, seventh} <= {pitch % 12 for pitch in voice(chord, random.Random(seed))}


def test_one_chord_is_voiced_in_many_ways() -> None:
    rng = random.Random(0)
    voicings = [voice(chord_of("Dm7"), rng) for _ in range(200)]
    assert len({tuple(pitches) for pitches in voicings}) > 25
    assert {len(pitches) for pitches in voicings} >= {3, 4, 5}
    rootless = sum(all(pitch % 12 != 2 for pitch in pitches) for pitches in voicings)
    assert 10 < rootless < 100


def test_the_same_seed_voices_the_same() -> None:
    assert voice(chord_of("G13"), random.Random(7)) == voice(chord_of("G13"), random.Random(7))


def test_a_range_that_is_too_narrow_is_refused() -> None:
    with pytest.raises(ValueError, match="no voicing of C7 fits between 60 and 64"):
        voice(chord_of("C7"), random.Random(0), low=60, high=64)


@pytest.mark.parametrize("symbol", SYMBOLS.split())
@pytest.mark.parametrize("up", range(12))
def test_the_plain_voicing_is_over_its_bass_and_near_middle_c(symbol: str, up: int) -> None:
    chord = chord_of(symbol, up)
    bass, *hand = plain(chord)
    assert bass % 12 == chord.bass
    assert 40 <= bass < 52 <= hand[0]
    assert hand[-1] <= 79
    assert chord.bass != chord.root or name([bass, *hand]).root == chord.root


def test_two_five_one_moves_little() -> None:
    two, five, one = (plain(chord_of(symbol))[1:] for symbol in ("Dm7", "G7", "Cmaj7"))
    for before, after in ((two, five), (five, one)):
        assert max(abs(here - there) for here, there in zip(before, after, strict=True)) <= 2
