import pytest
from hypothesis import given
from hypothesis import strategies as st

from jazzd.music.chords import Chord, parse
from jazzd.music.harmony import avoid, core, scale, weights

OCTAVE = "C Db D Eb E F Gb G Ab A Bb B"
SYMBOLS = "C Cm C7 Cm7 Cmaj7 C7alt C7b9 Cm7b5 Cdim7 C7#5 Csus4 C/Bb C13#11 Cmaj7#9 C5 Caug C7sus4b9 Dbm9"


def chord_of(symbol: str) -> Chord:
    chord = parse(symbol)
    assert chord is not None
    return chord


def spelled(pitch_classes: frozenset[int]) -> str:
    return " ".join(OCTAVE.split()[each] for each in sorted(pitch_classes))


@pytest.mark.parametrize(
    ("symbol", "tones"),
    [
        ("C", "C D E F G A B"),
        ("Cmaj7", "C D E F G A B"),
        ("Cmaj7#11", "C D E Gb G A B"),
        ("C7", "C D E F G A Bb"),
        ("Csus4", "C D E F G A Bb"),
        ("C7sus4", "C D E F G A Bb"),
        ("Cm7", "C D Eb F G A Bb"),
        ("Cm6", "C D Eb F G A Bb"),
        ("Cmmaj7", "C D Eb F G A B"),
        ("Cm7b5", "C Db Eb F Gb Ab Bb"),
        ("Cdim7", "C D Eb F Gb Ab A B"),
        ("C7b9", "C Db Eb E Gb G A Bb"),
        ("C7#9", "C Db Eb E Gb G A Bb"),
        ("C7alt", "C Db Eb E Gb Ab Bb"),
        ("C9#11", "C D E Gb G A Bb"),
        ("C7#5", "C D E Gb Ab Bb"),
        ("C7b9b13", "C Db E F G Ab Bb"),
        ("Cmaj7#5", "C D E Gb Ab A B"),
        ("C/Bb", "C D E F G A Bb"),
    ],
)
def test_the_usual_scale(symbol: str, tones: str) -> None:
    assert spelled(scale(chord_of(symbol))) == tones


@pytest.mark.parametrize(
    ("symbol", "tones"),
    [("Cmaj7", "F"), ("C7", "F"), ("Cm7", ""), ("Cm7b5", "Db"), ("C7alt", ""), ("C7b9", ""), ("C7sus4", "")],
)
def test_avoid_notes(symbol: str, tones: str) -> None:
    assert spelled(avoid(chord_of(symbol))) == tones


@given(st.integers(0, 11), st.sampled_from(SYMBOLS.split()), st.integers(0, 11))
def test_a_scale_holds_the_chord_whatever_it_is(root: int, symbol: str, bass: int) -> None:
    chord = Chord(root, chord_of(symbol).quality, bass)
    assert chord.tones <= scale(chord)
    assert avoid(chord) <= scale(chord) - chord.tones


@pytest.mark.parametrize("symbol", SYMBOLS.split())
def test_the_ends_of_the_knob(symbol: str) -> None:
    chord = chord_of(symbol)
    assert weights(chord, 0.0) == (1.0,) * 12
    assert weights(chord, 1.0) == tuple(float(each in core(chord)) for each in range(12))


@pytest.mark.parametrize(
    ("symbol", "tones"),
    [("Cm7", "C Eb G Bb"), ("Cm9", "C Eb G Bb"), ("C13", "C E G Bb"), ("C69", "C E G A"), ("C/D", "C D E G")],
)
def test_a_chords_core_leaves_its_tensions_out(symbol: str, tones: str) -> None:
    assert spelled(core(chord_of(symbol))) == tones
    assert core(chord_of(symbol)) <= chord_of(symbol).tones


@pytest.mark.parametrize("harmony", [0.0, 0.5, 1.0])
def test_without_a_chord_all_is_free(harmony: float) -> None:
    assert weights(None, harmony) == (1.0,) * 12


@given(st.sampled_from(SYMBOLS.split()), st.floats(0.0, 1.0), st.floats(0.0, 1.0))
def test_turning_up_the_knob_never_frees_a_tone(symbol: str, one: float, other: float) -> None:
    low, high = (weights(chord_of(symbol), harmony) for harmony in sorted((one, other)))
    assert all(0.0 <= after <= before <= 1.0 for before, after in zip(low, high, strict=True))


def test_outside_tones_fall_before_avoid_notes_and_those_before_colours() -> None:
    outside, avoided, colour, root = (OCTAVE.split().index(each) for each in ("Db", "F", "D", "C"))
    halfway = weights(chord_of("Cmaj7"), 64 / 127)
    assert 0.0 < halfway[outside] < halfway[avoided] < halfway[colour] == halfway[root] == 1.0
    high = weights(chord_of("Cmaj7"), 0.9)
    assert high[outside] == 0.0 < high[avoided] < high[colour] < 1.0


@pytest.mark.parametrize("alone", [0.65, 0.72, 0.80])
def test_the_default_knob_lifts_a_model_into_the_range_of_human_soloists(alone: float) -> None:
    """`alone`: the share of scale tones that the model plays by itself."""
    chord = chord_of("C7")
    inside = scale(chord)
    chances = [
        alone / len(inside) if each in inside else (1 - alone) / (12 - len(inside)) for each in range(12)
    ]
    guarded = [chance * weight for chance, weight in zip(chances, weights(chord, 64 / 127), strict=True)]
    assert 0.75 <= sum(guarded[each] for each in inside) / sum(guarded) <= 0.92
