"""Lines over chords: what was played, over what, and where the beats were."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Int

from jazzd.moonbeam.tokens import DRUMS, INSTRUMENT, OCTAVE, ONSET, PITCH_CLASS, SOLO
from jazzd.music import chords
from jazzd.music.chords import Chord
from jazzd.music.notes import Note5D
from jazzd.music.tempo import to_ticks
from jazzd.teach.corpus import Piece
from jazzd.teach.metre import UNKNOWN, Beats


@dataclass(frozen=True)
class Line:
    """A solo: note rows in ticks of 10 ms by onset, the changes (tick, chord) under it, and the beats."""

    name: str
    rows: Int[np.ndarray, "N 6"]
    changes: tuple[tuple[int, Chord | None], ...]
    beats: Beats = UNKNOWN

    @cached_property
    def pitches(self) -> Int[np.ndarray, "N"]:
        """MIDI pitches."""
        return np.asarray(self.rows[:, OCTAVE] * 12 + self.rows[:, PITCH_CLASS])

    @cached_property
    def top(self) -> Int[np.ndarray, "M"]:
        """Places of the notes that one hears as the melody: of those that begin together, the highest."""
        order = np.lexsort((-self.pitches, self.rows[:, ONSET]))
        return np.asarray(order[np.diff(self.rows[order, ONSET], prepend=-1) > 0])

    @cached_property
    def under(self) -> Int[np.ndarray, "N"]:
        """Place of the change that each note begins over; -1 where there is no chord."""
        found = np.searchsorted([tick for tick, _ in self.changes], self.rows[:, ONSET], side="right") - 1
        silent = np.array([chord is None for _, chord in self.changes] + [True])
        return np.where(silent[found], -1, found)


def of_piece(piece: Piece) -> Line:
    """The pitched notes of a piece over its chords."""
    rows = piece.rows[piece.rows[:, INSTRUMENT] != DRUMS]
    changes = tuple((tick, chords.parse(symbol)) for tick, symbol in piece.chords)
    return Line(piece.name, rows[np.argsort(rows[:, ONSET], kind="stable")], changes, piece.beats)


def of_notes(
    name: str, notes: Sequence[Note5D], changes: tuple[tuple[int, Chord | None], ...], beats: Beats
) -> Line:
    """The line of notes that were improvised over these changes."""
    rows = [
        [to_ticks(n.onset_time), to_ticks(n.duration), n.octave, n.pitch_class, SOLO, n.velocity]
        for n in notes
    ]
    return Line(name, np.array(rows, np.int64).reshape(-1, 6), changes, beats)
