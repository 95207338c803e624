"""The piano roll: music as coloured blocks in a terminal."""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import pairwise
from math import ceil
from typing import NamedTuple

from rich.text import Text

from jazzd.music.chords import Chord, parse
from jazzd.music.harmony import scale
from jazzd.music.notes import Note5D

Symbols = Sequence[tuple[float, str]]
"""Chord symbols and the second each begins at, rising."""

_PALETTE = {  # what a solo note is to its chord: the colour of its attack, and of the rest of it
    "chord tone": ("#5af78e", "#2f9e5c"),
    "scale tone": ("#57c7ff", "#2d79a8"),
    "outside": ("#ff6ac1", "#a5447d"),
}
_COMPING, _GRID, _LABEL = "#6c6c80", "#3a3a46", "#8a8a99"
_MARGIN = 6
_NARROWEST = 20
_SECONDS_A_COLUMN = 0.09


class _System(NamedTuple):
    """One line of the roll: its span in seconds, and how many seconds a column is worth."""

    start: float
    end: float
    step: float

    @property
    def columns(self) -> range:
        return range(max(1, ceil((self.end - self.start) / self.step - 1e-6)))

    def column(self, at: float) -> int:
        return min(self.columns[-1], max(0, int((at - self.start) / self.step + 1e-6)))


def piano_roll(comping: Sequence[Note5D], solo: Sequence[Note5D], symbols: Symbols, width: int) -> Text:
    """The music on as many systems as a terminal of `width` columns asks for, two semitones a row.

    The solo is blocks, their colours tell chord tones, scale tones and the rest; the comping is thin lines.
    """
    notes = [*comping, *solo]
    if not notes:
        return Text("(silence)", _LABEL)
    pitches = [note.pitch // 2 for note in notes]
    roll = Text(no_wrap=True)
    end = max(_SECONDS_A_COLUMN, *(note.end for note in notes))
    for system in _systems([at for at, _ in symbols], end, width - _MARGIN):
        roll.append_text(_symbol_line(system, symbols))
        roll.append_text(_rows(system, comping, solo, symbols, range(max(pitches), min(pitches) - 1, -1)))
    roll.append("\n")
    for kind, (colour, _) in _PALETTE.items():
        roll.append(" " * _MARGIN + "█ ", colour).append(kind, _LABEL)
    return roll.append(" " * _MARGIN + "━ ", _COMPING).append("chords", _LABEL)


def _systems(changes: Sequence[float], end: float, columns: int) -> list[_System]:
    """The systems: as many whole chords on each as fit, and equal spans where there are no chords."""
    columns = max(_NARROWEST, columns)
    longest = columns * _SECONDS_A_COLUMN
    cuts = [0.0, *(at for at in changes if 0.0 < at < end), end]
    if len(cuts) == 2:
        parts = ceil(end / longest)
        cuts = [end * part / parts for part in range(parts + 1)]
    starts = cuts[:1]
    for before, after in pairwise(cuts):
        if after - starts[-1] > longest and before > starts[-1]:
            starts.append(before)
    spans = list(pairwise([*starts, end]))
    step = max(last - first for first, last in spans) / columns
    return [_System(first, last, step) for first, last in spans]


def _symbol_line(system: _System, symbols: Symbols) -> Text:
    """The time the system starts at, and each chord symbol over its beginning."""
    minutes, seconds = divmod(int(system.start), 60)
    line = Text("\n").append(f"{f'{minutes}:{seconds:02}':>{_MARGIN - 2}}  ", _LABEL)
    written = 0
    for at, symbol in symbols:
        if system.start <= at < system.end and (column := system.column(at)) >= written:
            shown = symbol[: len(system.columns) - column]
            line.append(" " * (column - written)).append(shown, "bold").append(" ")
            written = column + len(symbol) + 1
    return line.append("\n")


def _rows(
    system: _System, comping: Iterable[Note5D], solo: Iterable[Note5D], symbols: Symbols, rows: range
) -> Text:
    """The rows of one system; row n holds pitches 2n and 2n + 1."""
    held = {(column, pitch // 2) for column, pitch in _painted(system, comping, symbols)}
    sounding = _painted(system, solo, symbols)
    changes = {system.column(at) for at, _ in symbols if system.start <= at < system.end}
    text = Text()
    for row in rows:
        octave = row % 6 == 0
        text.append(f"{f'C{row // 6 - 1}' if octave else '':>{_MARGIN - 2}} ", _LABEL).append("│", _GRID)
        for column in system.columns:
            grid = "┊" if column in changes and column else "┈" if octave else " "
            pair = sounding.get((column, 2 * row + 1)), sounding.get((column, 2 * row))
            text.append(*_cell(*pair, (column, row) in held, grid))
        text.append("\n")
    return text


def _cell(upper: str | None, lower: str | None, held: bool, grid: str) -> tuple[str, str]:
    """A character and its style: the solo's two semitones, else the comping, else the grid."""
    if upper:
        return "▀", f"{upper} on {lower}" if lower else upper
    if lower:
        return "▄", lower
    return ("━", _COMPING) if held else (grid, _GRID)


def _painted(system: _System, notes: Iterable[Note5D], symbols: Symbols) -> dict[tuple[int, int], str]:
    """The colour at every (column, pitch) where a note sounds."""
    painted: dict[tuple[int, int], str] = {}
    for note in sorted(notes, key=lambda each: each.onset_time):
        if note.end <= system.start or note.onset_time >= system.end:
            continue
        attack, rest = _PALETTE[_kind(note, symbols)]
        first, last = system.column(note.onset_time), system.column(note.end - system.step / 2)
        painted |= {(column, note.pitch): rest for column in range(first, last + 1)}
        painted[first, note.pitch] = attack
    return painted


def _kind(note: Note5D, symbols: Symbols) -> str:
    """What the note is to the chord it begins over."""
    chord = _chord_at(symbols, note.onset_time)
    if chord is None or note.pitch_class in chord.tones:
        return "chord tone"
    return "scale tone" if note.pitch_class in scale(chord) else "outside"


def _chord_at(symbols: Symbols, at: float) -> Chord | None:
    begun = bisect_right(symbols, at, key=lambda each: each[0])
    return parse(symbols[begun - 1][1]) if begun else None
