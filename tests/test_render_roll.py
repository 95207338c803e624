import io

from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from jazzd.music.notes import Note5D
from jazzd.render import piano_roll

SYMBOLS = [(0.0, "Dm7"), (2.0, "G7"), (4.0, "Cmaj7")]
COMPING = [Note5D.from_pitch(at, 1.0, 50, 70) for at, _ in SYMBOLS]


def drawn(
    comping: list[Note5D], solo: list[Note5D], symbols: list[tuple[float, str]], width: int
) -> list[str]:
    console = Console(width=width, file=io.StringIO(), color_system=None)
    with console.capture() as capture:
        console.print(piano_roll(comping, solo, symbols, width))
    return [line.rstrip() for line in capture.get().splitlines()]


def test_a_note_is_a_block_at_its_time_and_pitch() -> None:
    lines = drawn([], [Note5D.from_pitch(0.8, 0.8, 72, 80), Note5D.from_pitch(2.4, 0.8, 73, 80)], [], 46)
    assert lines[1:3] == ["0:00", "  C5 │┈┈┈┈┈┈┈┈┈┈▄▄▄▄▄▄▄▄▄▄┈┈┈┈┈┈┈┈┈┈▀▀▀▀▀▀▀▀▀▀"]


def test_chord_symbols_stand_over_their_beginning() -> None:
    lines = drawn(COMPING, [], SYMBOLS, 66)
    line = next(each for each in lines if "Dm7" in each)
    assert [line.index(symbol) for _, symbol in SYMBOLS] == [6, 30, 54]
    row = next(each for each in lines if "━" in each)
    assert [row[column] for column in (6, 30, 54)] == ["━"] * 3


def test_colours_tell_chord_tones_from_the_rest() -> None:
    solo = [Note5D.from_pitch(0.0, 0.5, pitch, 80) for pitch in (62, 64, 66)]
    roll = piano_roll([], solo, SYMBOLS, 66)
    styles = {str(span.style).split()[0] for span in roll.spans}
    assert {"#5af78e", "#57c7ff", "#ff6ac1"} <= styles


def test_long_music_is_broken_where_chords_change() -> None:
    symbols = [(2.0 * number, "Dm7") for number in range(12)]
    lines = drawn([Note5D.from_pitch(at, 1.9, 50, 70) for at, _ in symbols], [], symbols, 80)
    starts = [line.split()[0] for line in lines if "Dm7" in line]
    assert starts == ["0:00", "0:06", "0:12", "0:18"]


def test_silence_is_drawn_too() -> None:
    assert drawn([], [], SYMBOLS, 80) == ["(silence)"]


NOTES = st.builds(
    Note5D.from_pitch, st.floats(0.0, 20.0), st.floats(0.0, 9.0), st.integers(30, 90), st.just(80)
)


@given(st.sampled_from([1, 40, 100]), st.lists(NOTES, max_size=9), st.lists(st.floats(0.0, 20.0), max_size=9))
@settings(max_examples=40, deadline=None)
def test_whatever_is_played_fits_the_width(width: int, solo: list[Note5D], onsets: list[float]) -> None:
    roll = piano_roll([], solo, [(at, "G7alt") for at in sorted(onsets)], width)
    *lines, legend = roll.plain.splitlines()
    assert all(len(line.rstrip()) <= max(width, 26) for line in lines)
    assert "chord tone" in legend or not solo
