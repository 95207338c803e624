"""Lines to measure, from a few numbers."""

from collections.abc import Sequence

import numpy as np

from jazzd.music import chords
from jazzd.teach.line import Line
from jazzd.teach.metre import UNKNOWN, Beats


def line(
    pitches: Sequence[int],
    onsets: Sequence[int] | None = None,
    lasts: int | Sequence[int] = 20,
    changes: Sequence[tuple[int, str]] = (),
    beats: Beats = UNKNOWN,
    velocity: int = 80,
    name: str = "line",
) -> Line:
    """These MIDI pitches at these ticks of 10 ms, every 25 of them unless told otherwise."""
    rows = np.zeros((len(pitches), 6), np.int64)
    rows[:, 0] = 25 * np.arange(len(pitches)) if onsets is None else onsets
    rows[:, 1], rows[:, 5] = lasts, velocity
    rows[:, 2], rows[:, 3] = np.divmod(np.array(pitches, np.int64), 12)
    return Line(name, rows, tuple((tick, chords.parse(symbol)) for tick, symbol in changes), beats)
