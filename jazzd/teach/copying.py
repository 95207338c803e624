"""Who copies whom: the longest runs of notes that lines have in common, and bars that come again.

What is compared are the intervals of the melody alone. So a copy is found in whatever key, tempo and feel,
and a chance likeness, of scales and of repeated notes above all, comes out longer than it would with the
rhythm: that is why the same figure between human pieces stands beside it.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Int

from jazzd.moonbeam.tokens import ONSET
from jazzd.teach.line import Line

FEWEST = 3
"""Notes of a bar that can come again: one or two are soon alike."""
GRID = 4
"""Parts of a beat that tell where in the bar a note is."""


def longest_shared(lines: Sequence[Line], groups: Sequence[int]) -> list[int]:
    """For each line, how many notes its longest run has that a line of another group has too; 0 for none.

    All runs of one length are compared at a time, and only those that are shared can be part of a longer one
    that is. So it takes as many sorts as the longest one has notes, of ever fewer places.
    """
    melodies = [np.diff(line.pitches[line.top]) for line in lines]
    symbols = np.concatenate([np.zeros(0, np.int64), *melodies])
    owner = np.repeat(np.arange(len(lines)), list(map(len, melodies)))
    ends = np.cumsum(list(map(len, melodies)))[owner] if len(symbols) else owner
    group, longest = np.array(groups, np.int64)[owner], np.zeros(len(lines), np.int64)
    places, runs, length = np.arange(len(symbols)), symbols, 1
    while len(places):
        _, runs = np.unique(runs, return_inverse=True)
        shared = _shared(runs, group[places])
        places, runs = places[shared], runs[shared]
        longest[owner[places]] = length + 1
        further = places + length < ends[places]
        places, runs = places[further], runs[further]
        # An interval is less than 128 either way.
        runs = runs * 256 + symbols[places + length]
        length += 1
    return [int(notes) for notes in longest]


def _shared(runs: Int[np.ndarray, "P"], groups: Int[np.ndarray, "P"]) -> Bool[np.ndarray, "P"]:
    """Which of these runs, numbered from 0, are to be found in more than one group."""
    lowest = np.full(runs.max() + 1, groups.max())
    highest = np.zeros_like(lowest)
    np.minimum.at(lowest, runs, groups)
    np.maximum.at(highest, runs, groups)
    return np.asarray((lowest < highest)[runs])


def copying(solos: Sequence[Line], training: Sequence[Line]) -> dict[str, Any]:
    """The longest run of each solo, in notes, that a training piece has too, and how that is spread."""
    found = longest_shared([*training, *solos], [0] * len(training) + [1] * len(solos))
    return _spread(found[len(training) :])


def among(pieces: Sequence[Line], tunes: Sequence[int]) -> dict[str, Any]:
    """The same between human pieces of different tunes."""
    return _spread(longest_shared(pieces, tunes) if len(set(tunes)) > 1 else [])


def _spread(lengths: Sequence[int]) -> dict[str, Any]:
    """In notes."""
    if not lengths:
        return {"median": None, "p95": None, "longest": None}
    median, p95 = np.percentile(lengths, (50, 95))
    return {"median": float(median), "p95": float(p95), "longest": max(lengths)}


def repeated_bars(lines: Sequence[Line]) -> float | None:
    """The share of the bars with several notes that another bar of the same line repeats literally.

    That is, with the same pitches at the same sixteenths. None where no bars are known.
    """
    bars = repeated = 0
    for line in lines:
        again = Counter(_bars(line))
        bars += again.total()
        repeated += sum(count for count in again.values() if count > 1)
    return repeated / bars if bars else None


def _bars(line: Line) -> list[bytes]:
    """What is in each bar: sixteenth and pitch of every note."""
    if not (len(line.beats) and len(line.rows)):
        return []
    sixteenths = np.round(line.beats.places(line.rows[:, ONSET]) * GRID).astype(np.int64)
    beat = np.minimum(sixteenths // GRID, len(line.beats) - 1)
    bar = line.beats.bars[beat]
    begins = np.searchsorted(line.beats.bars, bar) * GRID
    facts = np.stack([sixteenths - begins, line.pitches], axis=1)
    parts = np.split(facts, np.flatnonzero(np.diff(bar)) + 1)
    return [part.tobytes() for part in parts if len(part) >= FEWEST]
