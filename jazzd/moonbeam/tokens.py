"""Moonbeam's notation: a piece is rows of six integers, in 10 ms ticks (SPEC section 2).

One table, `FIELDS`, says what a row holds; vocabulary sizes, label offsets and the special values derive from
it. On the input side a row carries its absolute onset, on the output side the timeshift since the row before.
"""

from dataclasses import dataclass

import numpy as np

from jazzd.arrays import Int
from jazzd.errors import MidiError

TICKS_PER_SECOND = 100
DRUMS = 128
"""Instrument of the tenth channel."""
DRUM_CHANNEL = 9
OPEN_NOTE_TICKS = 25
"""Duration of a note that never ends."""
SOLO, COMPING = 0, 4
"""Programs that tell the soloist's rows from the chords that the human plays (an electric piano's)."""
SOS, EOS = -1, -2
"""What all six columns of the special rows hold."""
Rows = Int[np.ndarray, "N 6"]


@dataclass(frozen=True)
class Field:
    """One of the six sub-tokens of a note.

    `size` counts its output values, the last two of which stand for SOS and EOS; None means that the size
    belongs to the model (times). `base` is the base of its sinusoids and its RoPE theta, None for the
    looked-up instrument.
    """

    name: str
    size: int | None
    base: int | None


FIELDS = (
    Field("timeshift", None, 199999),
    Field("duration", None, 1031),
    Field("octave", 13, 19),
    Field("pitch_class", 14, 20),
    Field("instrument", 131, None),
    Field("velocity", 130, 131),
)
NAMES = tuple(field.name for field in FIELDS)
ONSET, DURATION, OCTAVE, PITCH_CLASS, INSTRUMENT, VELOCITY = range(len(FIELDS))


@dataclass(frozen=True)
class Vocabulary:
    """The flat space of output ids of a model whose two time fields have `times` values each (SPEC 2.4).

    Id 0 starts the note decoder; then the fields follow one another in table order.
    """

    times: int

    @property
    def sizes(self) -> tuple[int, ...]:
        """Values of each field, SOS and EOS included."""
        return tuple(field.size or self.times for field in FIELDS)

    @property
    def offsets(self) -> tuple[int, ...]:
        """Id of each field's value 0."""
        return tuple(1 + sum(self.sizes[:f]) for f in range(len(FIELDS)))

    @property
    def size(self) -> int:
        return 1 + sum(self.sizes)

    @property
    def longest(self) -> int:
        """Longest timeshift and duration, in ticks, that a note can have."""
        return self.times - 3

    def labels(self, rows: Int[np.ndarray, "N 6"]) -> Int[np.ndarray, "N 7"]:
        """Output ids of each row, the leading 0 included. Special rows get their fields' SOS or EOS values.

        Raises MidiError when a time is longer than the vocabulary.
        """
        values = rows.copy()
        note = rows[:, ONSET] >= 0
        before = np.concatenate([[0], np.where(note, rows[:, ONSET], 0)[:-1]])
        values[note, ONSET] = rows[note, ONSET] - before[note]
        for special, from_end in ((SOS, 2), (EOS, 1)):
            values[rows[:, ONSET] == special] = np.array(self.sizes) - from_end
        if values[note, ONSET].min(initial=0) < 0:
            raise MidiError("the notes are not in the order of their onsets")
        if values[note, :2].max(initial=0) > self.longest:
            raise MidiError(
                f"a rest or a note is longer than {self.longest / TICKS_PER_SECOND} s; split the piece there"
            )
        return np.concatenate([np.zeros((len(rows), 1), rows.dtype), values + np.array(self.offsets)], axis=1)


def framed(rows: Int[np.ndarray, "N 6"]) -> Int[np.ndarray, "N+2 6"]:
    """The rows between a SOS and an EOS row."""
    return np.concatenate([np.full((1, 6), SOS, rows.dtype), rows, np.full((1, 6), EOS, rows.dtype)])


def too_long(rows: Int[np.ndarray, "N 6"], longest: int) -> tuple[bool, bool]:
    """Whether a timeshift and whether a duration exceeds `longest`: the reference's filter (SPEC 2.2)."""
    return bool((timeshifts(rows) > longest).any()), bool((rows[:, DURATION] > longest).any())


def timeshifts(rows: Int[np.ndarray, "N 6"]) -> Int[np.ndarray, "N"]:
    """Ticks from the onset before (from 0 for the first row)."""
    return np.diff(rows[:, ONSET], prepend=0)


def chunks(rows: Int[np.ndarray, "N 6"], longest: int) -> list[Int[np.ndarray, "_ 6"]]:
    """The rows split where a timeshift exceeds `longest` ticks, the onsets of each part from 0."""
    parts = np.split(rows, np.flatnonzero(timeshifts(rows) > longest))
    return [np.concatenate([part[:, :1] - part[0, 0], part[:, 1:]], axis=1) for part in parts if len(part)]
