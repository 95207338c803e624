import pytest
from hypothesis import given
from hypothesis import strategies as st

from jazzd.errors import ConfigError
from jazzd.music.chords import Chord, name, parse, progression

LEAD_SHEET = (
    "Ab Ab11 Db13 C13sus4 F6 C69 E69#11 C7 G7#13 Gaug7 Baug7#9 Abaug7b9 A7#9 D7#9#11 B7alt A7b13 G7b5 A7b9 "
    "Bb7b9b13 Bb7sus4 Ab9/C B9#11 Bbaug9 Faug9#11 A9b13 Eb9sus4 Dbaug/C Abdim Ebdim7 Bbm Cm11 Bbm13 Cm6 Gm69 "
    "Gm7 F#m7b5 Gm7b9 Am9 Gmaj7 Abaugmaj7/C Emaj7#9 Ebmaj7#9#11 A#maj7b5 Gbmaj9 Dbmaj9#11/C Cmmaj13 Fmmaj7 "
    "Cmmaj9#11 Gsus/A C(b5) C6/9/E"
)
"""One symbol of every quality in the chord charts that jazzd learned from, and a few oddities."""

OCTAVE = "C Db D Eb E F Gb G Ab A Bb B"


def stacked(notes: str) -> list[int]:
    """MIDI pitches of note names from the bottom up, from C3 on."""
    pitches = [47]
    for note in notes.split():
        pitches.append(pitches[-1] + 1 + (OCTAVE.split().index(note) - pitches[-1] - 1) % 12)
    return pitches[1:]


@pytest.mark.parametrize("symbol", LEAD_SHEET.split())
def test_the_symbol_of_a_chord_reads_back_as_the_chord(symbol: str) -> None:
    chord = parse(symbol)
    assert chord is not None
    assert parse(chord.symbol) == chord


@pytest.mark.parametrize(
    ("written", "symbol"),
    [
        ("B♭-7", "Bbm7"),
        ("F♯ø", "F#m7b5"),
        ("DbΔ", "Dbmaj7"),
        ("G7/B", "G7/B"),
        ("D/Gb", "D/F#"),
        ("A/C#", "A/C#"),
        ("C/Bb", "C/Bb"),
        ("Cb5", "B5"),
        ("C(b5)", "C(b5)"),
        ("Gbm7", "F#m7"),
        ("F#7", "Gb7"),
        (" C6/9 ", "C69"),
    ],
)
def test_symbols_are_spelled_as_on_a_lead_sheet(written: str, symbol: str) -> None:
    chord = parse(written)
    assert chord is not None
    assert chord.symbol == symbol


def test_tones_are_pitch_classes_and_hold_the_bass() -> None:
    assert Chord(2, "m7", 2).tones == {2, 5, 9, 0}
    assert Chord(0, "", 10).tones == {0, 4, 7, 10}


@pytest.mark.parametrize("written", ["N.C.", "NC", "n.c."])
def test_no_chord_is_none(written: str) -> None:
    assert parse(written) is None


@pytest.mark.parametrize(
    "symbol", ["", "H7", "c", "Xm7", "Cfoo", "C/", "C/H", "Dm7 G7", "7", "\0", "C" + "b9" * 99]
)
def test_an_unknown_symbol_is_named_with_its_place(symbol: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(symbol, "bar 3")
    assert repr(symbol) in str(caught.value)
    assert "bar 3" in str(caught.value)


def test_a_plain_progression_has_one_chord_a_bar() -> None:
    chords = progression("Dm7 G7 Cmaj7 %")
    assert [(chord and chord.symbol, bars) for chord, bars in chords] == [
        ("Dm7", 1.0),
        ("G7", 1.0),
        ("Cmaj7", 1.0),
        ("Cmaj7", 1.0),
    ]


def test_bar_lines_divide_a_progression() -> None:
    chords = progression("| Dm7 G7 | Cmaj7 / / A7 | % | N.C. |")
    assert [(chord and chord.symbol, bars) for chord, bars in chords] == [
        ("Dm7", 0.5),
        ("G7", 0.5),
        ("Cmaj7", 0.75),
        ("A7", 0.25),
        ("Cmaj7", 0.75),
        ("A7", 0.25),
        (None, 1.0),
    ]


@pytest.mark.parametrize("text", ["", "  ", "|", "| | "])
def test_an_empty_progression_says_so(text: str) -> None:
    with pytest.raises(ConfigError, match="empty"):
        progression(text)


@pytest.mark.parametrize("text", ["% | Dm7", "%"])
def test_the_first_bar_has_none_before_it(text: str) -> None:
    with pytest.raises(ConfigError, match="bar 1 of the progression is %"):
        progression(text)


def test_a_wrong_symbol_in_a_progression_is_found_by_its_bar() -> None:
    with pytest.raises(ConfigError, match=r"'Gx' \(bar 2 of the progression\)"):
        progression("Dm7 Gx Cmaj7")


@pytest.mark.parametrize(
    ("notes", "symbol"),
    [
        # Triads and sevenths, with inversions.
        ("C E G", "C"),
        ("E G C", "C/E"),
        ("D F A C", "Dm7"),
        ("C D Gb A", "D7/C"),
        ("C E G A", "C6"),
        ("A C E G", "Am7"),
        ("B D F A", "Bm7b5"),
        ("C Eb Gb A", "Cdim7"),
        ("C E Ab", "Caug"),
        ("C F G", "Csus4"),
        ("C Eb G B", "Cmmaj7"),
        # Shells and intervals.
        ("C E Bb", "C7"),
        ("C B E", "Cmaj7"),
        ("C Bb Eb", "Cm7"),
        ("C E", "C"),
        ("C Eb", "Cm"),
        ("C G", "C5"),
        ("C Bb", "C7"),
        ("C", "C5"),
        # Colours.
        ("D F A C E", "Dm9"),
        ("G F A B E", "G13"),
        ("G F A C", "G9sus4"),
        ("E Ab D F", "E7b9"),
        ("E Ab D G", "E7#9"),
        ("E Ab D G C", "E7alt"),
        ("D G C F A", "Dm11"),
        ("F E A B", "Fmaj7#11"),
    ],
)
def test_voicings_are_named(notes: str, symbol: str) -> None:
    assert name(stacked(notes)).symbol == symbol


@pytest.mark.parametrize(("notes", "rootless"), [("F A B D", "G9"), ("F A C E", "Dm9"), ("E G B D", "Cmaj9")])
def test_a_rootless_voicing_is_named_by_tones_of_its_chord(notes: str, rootless: str) -> None:
    chord = parse(rootless)
    assert chord is not None
    assert name(stacked(notes)).tones <= chord.tones


@given(st.sets(st.integers(0, 127), min_size=1))
def test_whatever_sounds_gets_a_name(pitches: set[int]) -> None:
    chord = name(pitches)
    assert chord.bass == min(pitches) % 12
    assert parse(chord.symbol) == chord


@given(st.sets(st.integers(0, 115), min_size=1, max_size=6), st.integers(1, 11))
def test_a_name_moves_with_its_voicing(pitches: set[int], up: int) -> None:
    here, there = name(pitches), name({pitch + up for pitch in pitches})
    assert there.quality == here.quality
    assert (there.root - here.root) % 12 == up
