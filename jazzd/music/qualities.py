"""Chord qualities: what a lead sheet writes after the root, in any of its spellings.

A quality is a triad, a number and alterations, each a row of a table. It is spelled one way (`m7b5`), however
it was written (`-7(b5)`, `ø`). All intervals are semitones above the root.
"""

import re
from collections.abc import Collection
from functools import cache
from typing import NamedTuple

_TRIADS = {"": (0, 4, 7), "m": (0, 3, 7), "dim": (0, 3, 6), "aug": (0, 4, 8)}

_EXTENSIONS = {  # what each number adds to the triad, besides the seventh
    "": (),
    "5": (),
    "6": (9,),
    "69": (9, 2),
    "7": (),
    "9": (2,),
    "11": (2, 5),
    "13": (2, 9),
}
_WITH_SEVENTH = ("7", "9", "11", "13")

_ALTERATIONS = {  # what leaves the chord, what comes in
    "sus2": ((3, 4), (2,)),
    "sus4": ((3, 4), (5,)),
    "alt": ((7,), (8, 3)),
    "b5": ((7,), (6,)),
    "#5": ((7,), (8,)),
    "b9": ((2,), (1,)),
    "#9": ((2,), (3,)),
    "#11": ((5,), (6,)),
    "b13": ((9,), (8,)),
    "#13": ((9,), (10,)),
    "add9": ((), (2,)),
    "add11": ((), (5,)),
    "add13": ((), (9,)),
    "no3": ((3, 4), ()),
}

_ALTERATION_SPELLINGS = {
    **{name: name for name in _ALTERATIONS},
    **{"sus": "sus4", "4": "sus4", "+": "#5", "omit3": "no3"},
    **{"2": "add9", "9": "add9", "add2": "add9", "11": "add11", "add4": "add11", "13": "add13"},
    **{"-5": "b5", "+5": "#5", "-9": "b9", "+9": "#9", "#4": "#11", "+11": "#11", "b6": "b13", "-13": "b13"},
}

_TRIAD_SPELLINGS = {
    **{"m": "m", "-": "m", "mi": "m", "min": "m", "minor": "m", "Min": "m", "MIN": "m"},
    **{"dim": "dim", "o": "dim", "°": "dim", "aug": "aug", "+": "aug", "dom": "", "": ""},
    "ø": "ø",
}

_MAJOR_SPELLINGS = ("maj", "Maj", "MAJ", "major", "Major", "ma", "Ma", "M", "j", "^", "")


def _one_of(spellings: Collection[str]) -> str:
    return "|".join(map(re.escape, sorted(spellings, key=len, reverse=True)))


_QUALITY = re.compile(
    rf"(?P<triad>{_one_of(_TRIAD_SPELLINGS)})(?P<major>{_one_of(_MAJOR_SPELLINGS)})(?P<sus>(?:sus(?=7|9|1))?)"
    rf"(?P<number>{_one_of(_EXTENSIONS)})(?P<alterations>(?:{_one_of(_ALTERATION_SPELLINGS)})*)"
)
_ALTERATION = re.compile(_one_of(_ALTERATION_SPELLINGS))
SIGNS = str.maketrans("♭♯Δ△∆−–Ø∅º˚", "b#^^^--øø°°")
"""Signs that mean the same, for `str.translate`."""

_PUNCTUATION = str.maketrans("", "", "()[], ")
_LONGEST = 24
"""More characters than any quality has; it bounds what the grammar tries on garbage."""


class Quality(NamedTuple):
    """A kind of chord: how jazzd spells it, and its intervals in the order they were named."""

    name: str
    intervals: tuple[int, ...]


@cache
def quality(written: str) -> Quality:
    """The quality in any spelling. Raises ValueError where it is none."""
    text = written.translate(SIGNS).translate(_PUNCTUATION).replace("6/9", "69")
    found = _QUALITY.fullmatch(text) if len(text) <= _LONGEST else None
    if found is None:
        raise ValueError(written)
    triad, major, number = _TRIAD_SPELLINGS[found["triad"]], found["major"], found["number"]
    alterations = {_ALTERATION_SPELLINGS[each] for each in _ALTERATION.findall(found["alterations"])}
    if found["sus"]:
        alterations.add("sus4")
    if not number and ("alt" in alterations or triad == "ø" or major in ("j", "^")):
        number = "7"
    for higher in ("9", "13"):  # `m7(9)` is m9
        if number in ("7", "9") and f"add{higher}" in alterations:
            number = higher
            alterations.remove(f"add{higher}")
    major = "maj" if major and number in _WITH_SEVENTH else ""
    if triad == "ø" or (triad == "dim" and major):
        triad, alterations = "m", alterations | {"b5"}
    if triad == "aug" and number:
        triad, alterations = "", alterations | {"#5"}
    return _built(triad, major, number, [each for each in _ALTERATIONS if each in alterations])


def _built(triad: str, major: str, number: str, alterations: list[str]) -> Quality:
    intervals = list(_TRIADS[triad])
    if number in _WITH_SEVENTH:
        intervals.append(9 if triad == "dim" else 11 if major else 10)
    intervals += _EXTENSIONS[number]
    # A major third would clash with the eleventh, and a power chord has none.
    if 4 in intervals and number in ("5", "11"):
        intervals.remove(4)
    for leaves, comes in map(_ALTERATIONS.__getitem__, alterations):
        intervals = [each for each in intervals if each not in leaves]
        intervals += [each for each in comes if each not in intervals]
    return Quality(f"{triad}{major}{number}{''.join(alterations)}", tuple(intervals))
