"""Chords: from the symbols of a lead sheet, and from the keys that sound."""

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

from jazzd.errors import ConfigError
from jazzd.music.qualities import SIGNS, quality

NO_CHORD = "N.C."
"""The symbol of no chord at all; `parse` gives None for it."""

_ROOT = re.compile(r"([A-G][b#]{0,2})(.*?)(?:/([A-G][b#]?))?")
_LETTERS = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
_ROOTS = ("C", "Db", "D", "Eb", "E", "F", "Gb", "G", "Ab", "A", "Bb", "B")
_MINOR_ROOTS = ("C", "C#", "D", "Eb", "E", "F", "F#", "G", "G#", "A", "Bb", "B")
_STEPS = (0, 1, 1, 2, 2, 3, 4, 4, 5, 5, 6, 6)
"""How many letters up the scale an interval above the root is written."""


@dataclass(frozen=True)
class Chord:
    """A chord: pitch classes of its root and bass (C is 0), and a quality as jazzd spells it (`m7b5`)."""

    root: int
    quality: str
    bass: int

    @property
    def intervals(self) -> tuple[int, ...]:
        """Semitones above the root, the root first, without the bass of a slash chord."""
        return quality(self.quality).intervals

    @property
    def tones(self) -> frozenset[int]:
        """The pitch classes that sound, the bass included."""
        return frozenset((self.root + each) % 12 for each in self.intervals) | {self.bass}

    @property
    def symbol(self) -> str:
        """As on a lead sheet: `Dm7`, `F#m7b5`, `G7/B`."""
        root = (_MINOR_ROOTS if 3 in self.intervals and 4 not in self.intervals else _ROOTS)[self.root]
        # In `C(b5)` the flat belongs to the fifth, in `Cb5` to the root.
        kind = f"({self.quality})" if self.quality[:1] in ("b", "#") else self.quality
        return root + kind + (f"/{self._bass_beside(root)}" if self.bass != self.root else "")

    def _bass_beside(self, root: str) -> str:
        """The bass spelled as an interval of the root, so that D7 stands over F#, not Gb."""
        letters = tuple(_LETTERS)
        letter = letters[(letters.index(root[0]) + _STEPS[(self.bass - self.root) % 12]) % 7]
        off = (self.bass - _LETTERS[letter] + 6) % 12 - 6
        return {-1: f"{letter}b", 0: letter, 1: f"{letter}#"}.get(off, _ROOTS[self.bass])


def parse(symbol: str, place: str = "") -> Chord | None:
    """The chord of a lead-sheet symbol, None for `N.C.`. Raises ConfigError naming symbol and place."""
    written = symbol.strip().translate(SIGNS)
    if written.upper().rstrip(".") in ("N.C", "NC"):
        return None
    try:
        found = _ROOT.fullmatch(written)
        if found is None:
            raise ValueError(symbol)
        root = _pitch_class(found[1])
        return Chord(root, quality(found[2]).name, _pitch_class(found[3]) if found[3] else root)
    except ValueError:
        raise ConfigError(
            f"{symbol!r}{place and f' ({place})'} is not a chord symbol: write a root A-G with b or #, "
            "a quality such as m7, 7b9, maj7, 6, dim or sus4, and perhaps a bass as in C/E; N.C. is no chord"
        ) from None


def _pitch_class(note: str) -> int:
    return (_LETTERS[note[0]] + note.count("#") - note[1:].count("b")) % 12


def progression(text: str) -> list[tuple[Chord | None, float]]:
    """Chords and their lengths in bars: one a bar, or as `|` divides them.

    `%` is the bar before, `/` the chord before. Raises ConfigError naming the symbol that is none.
    """
    bars = [bar.split() for bar in text.split("|") if bar.strip()]
    if len(bars) == 1 and "|" not in text:
        bars = [[symbol] for symbol in bars[0]]
    chords: list[tuple[Chord | None, float]] = []
    before: list[tuple[Chord | None, float]] = []
    for number, bar in enumerate(bars, 1):
        if bar == ["%"] and not before:
            raise ConfigError("bar 1 of the progression is %, the bar before; write chords there")
        before = before if bar == ["%"] else list(_bar(bar, number))
        chords += before
    if not chords:
        raise ConfigError('the progression is empty: write chords such as "Dm7 G7 Cmaj7 Cmaj7"')
    return chords


def _bar(symbols: list[str], number: int) -> Iterator[tuple[Chord | None, float]]:
    first = 0
    for last in range(1, len(symbols) + 1):
        if last == len(symbols) or symbols[last] != "/":
            yield parse(symbols[first], f"bar {number} of the progression"), (last - first) / len(symbols)
            first = last


_NAMES = {  # the qualities a voicing is named by: how rare each is, and which intervals it may well leave out
    "": (0.0, (7,)),
    "m": (0.0, (7,)),
    "7": (0.0, (7,)),
    "m7": (0.0, (7,)),
    "maj7": (0.0, (7,)),
    "6": (0.3, (7,)),
    "m6": (0.3, (7,)),
    "dim": (0.3, ()),
    "m7b5": (0.1, ()),
    "dim7": (0.2, ()),
    "9": (0.2, (7,)),
    "m9": (0.2, (7,)),
    "maj9": (0.2, (7,)),
    "69": (0.4, (7,)),
    "m69": (0.5, (7,)),
    "13": (0.3, (7, 2)),
    "m11": (0.4, (7, 2)),
    "m13": (0.8, (7, 2)),
    "maj13": (0.6, (7, 2)),
    "7b9": (0.3, (7,)),
    "7#9": (0.4, (7,)),
    "7b13": (0.5, (7,)),
    "7b9b13": (0.5, (7,)),
    "7alt": (0.5, ()),
    "7#5": (0.5, ()),
    "7b5": (0.6, ()),
    "9#5": (0.7, ()),
    "9#11": (0.5, (7,)),
    "13#11": (0.6, (7, 2)),
    "13b9": (0.5, (7,)),
    "7sus4": (0.3, (7,)),
    "9sus4": (0.3, (7,)),
    "13sus4": (0.5, (7, 2)),
    "7sus4b9": (0.7, (7,)),
    "maj7#11": (0.5, (7,)),
    "maj9#11": (0.5, (7,)),
    "maj7#5": (0.7, ()),
    "mmaj7": (0.5, (7,)),
    "mmaj9": (0.6, (7,)),
    "aug": (0.4, ()),
    "sus4": (0.5, ()),
    "sus2": (0.6, ()),
    "add9": (0.5, (7,)),
    "madd9": (0.5, (7,)),
    "5": (0.9, (7,)),
}


class _Template(NamedTuple):
    """A quality on one root, as bit masks of intervals above the *bass*."""

    root: int
    name: str
    cost: float
    tones: int
    spare: int


def _mask(intervals: Collection[int], root: int) -> int:
    return sum(1 << (each + root) % 12 for each in intervals)


_TEMPLATES = tuple(
    _Template(root, name, cost + (root > 0), _mask(quality(name).intervals, root), _mask(spare, root))
    for root in range(12)
    for name, (cost, spare) in _NAMES.items()
)


def name(pitches: Collection[int]) -> Chord:
    """The likeliest chord that these sounding MIDI pitches (at least one) are a voicing of.

    Rootless and shell voicings, intervals and clusters get the nearest name there is.
    """
    bass = min(pitches) % 12
    root, kind = _likeliest(_mask({(pitch - bass) % 12 for pitch in pitches}, 0))
    return Chord((bass + root) % 12, kind, bass)


@cache  # a table of the 2048 sets of intervals above a bass, filled as they are met: then it is a look-up
def _likeliest(sounding: int) -> tuple[int, str]:
    best = min(_TEMPLATES, key=lambda template: _distance(template, sounding))
    return best.root, best.name


def _distance(template: _Template, sounding: int) -> float:
    """How far the sounding intervals are from the template: what is missing, and what it does not explain."""
    missing = template.tones & ~sounding
    root_missing = missing >> template.root & 1
    cheap = (missing & template.spare).bit_count()
    dear = missing.bit_count() - cheap - root_missing
    foreign = (sounding & ~template.tones).bit_count()
    return template.cost + 3.5 * root_missing + 0.7 * cheap + 4 * dear + 5 * foreign
