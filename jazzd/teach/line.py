"""Lines over chords: what was played, over what, and where the beats were."""

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from multiprocessing import get_context
from pathlib import Path

import mido
import numpy as np
from jaxtyping import Bool, Float, Int

from jazzd.errors import MidiError
from jazzd.moonbeam import midi
from jazzd.moonbeam.tokens import DRUMS, INSTRUMENT, OCTAVE, ONSET, PITCH_CLASS, SOLO, TICKS_PER_SECOND
from jazzd.music import chords
from jazzd.music.chords import Chord
from jazzd.music.notes import Note5D
from jazzd.music.tempo import to_ticks
from jazzd.teach.corpus import Piece

MOST_BEATS = 100_000
"""What seems to last longer, a day of fast music, is a broken file."""


@dataclass(frozen=True)
class Beats:
    """Where the beats (quarters) are, in ticks of 10 ms, rising; none where nobody knows.

    `bars` are the numbers of the bars that they are in. `strong` is the first of every bar that has several,
    and the third of every bar of four.
    """

    ticks: Float[np.ndarray, "B"]
    bars: Int[np.ndarray, "B"]
    strong: Bool[np.ndarray, "B"]

    def __len__(self) -> int:
        return len(self.ticks)

    @property
    def tempo(self) -> float:
        """The usual one, in beats a minute; 120 where nobody knows."""
        if len(self) < 2:
            return 120.0
        return 60 * TICKS_PER_SECOND / max(1.0, float(np.median(np.diff(self.ticks))))

    def places(self, ticks: Int[np.ndarray, "N"]) -> Float[np.ndarray, "N"]:
        """Which beat each tick is at: 2.5 is halfway from the third to the fourth."""
        return np.asarray(np.interp(ticks, self.ticks, np.arange(len(self))))

    def since(self, tick: int) -> "Beats":
        """The same ones, counted from that tick."""
        return Beats(self.ticks - tick, self.bars, self.strong)


UNKNOWN = Beats(np.zeros(0), np.zeros(0, np.int64), np.zeros(0, bool))


def steady(tempo: float, seconds: float) -> Beats:
    """Beats in one tempo from 0 to beyond that second, in bars of four."""
    numbers = np.arange(int(seconds * tempo / 60) + 2)
    return Beats(numbers * 60 * TICKS_PER_SECOND / tempo, numbers // 4, numbers % 2 == 0)


def beats_of(file: mido.MidiFile) -> Beats:
    """The quarters of its tempo map, in the bars of its time signatures; none where it states no tempo.

    For then nobody has told the beat, and a beat of half a second is chance. Raises MidiError for type 2
    files.
    """
    at, seconds, tempo, knots, meters = 0, 0.0, None, [(0, 0.0)], [(0, 4.0)]
    for seconds, message in midi.timed(file):
        at += message.time
        knots.append((at, seconds))
        if message.type == "set_tempo":
            tempo = message.tempo
        if message.type == "time_signature":
            meters.append((at, max(1.0, 4 * message.numerator / message.denominator)))
    if tempo is None or at > MOST_BEATS * file.ticks_per_beat:
        return UNKNOWN
    knots.append((at + file.ticks_per_beat, seconds + tempo * 1e-6))
    quarters = np.arange(-(-at // file.ticks_per_beat) + 1) * file.ticks_per_beat
    ticks, seconds_at = np.array(knots).T
    return Beats(
        TICKS_PER_SECOND * np.interp(quarters, ticks, seconds_at),
        *_metrical(
            quarters / file.ticks_per_beat, [(tick / file.ticks_per_beat, size) for tick, size in meters]
        ),
    )


def _metrical(
    quarters: Float[np.ndarray, "B"], meters: Sequence[tuple[float, float]]
) -> tuple[Int[np.ndarray, "B"], Bool[np.ndarray, "B"]]:
    """The bar of each quarter and whether it is strong, by the metres (quarter it begins at, its size)."""
    bars, strong, first = np.zeros(len(quarters), np.int64), np.zeros(len(quarters), bool), 0
    for (begin, size), (end, _) in zip(meters, [*meters[1:], (np.inf, 0)], strict=True):
        within = (quarters >= begin) & (quarters < end)
        number, place = np.divmod(quarters[within] - begin, size)
        bars[within] = first + number
        strong[within] = ((place == 0) & (size > 1)) | ((place == 2) & (size == 4))
        first = int(bars[within].max(initial=first - 1)) + 1
    return bars, strong


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


def of_piece(piece: Piece, beats: Beats = UNKNOWN) -> Line:
    """The pitched notes of a piece over the chords of its markers."""
    rows = piece.rows[piece.rows[:, INSTRUMENT] != DRUMS]
    changes = tuple((tick, chords.parse(symbol)) for tick, symbol in piece.chords)
    return Line(piece.name, rows[np.argsort(rows[:, ONSET], kind="stable")], changes, beats)


def of_file(folder: Path, piece: Piece) -> Line:
    """The line of a piece that was read from `folder`, with its file's beats where that can still be read."""
    try:
        return of_piece(piece, beats_of(midi.read_midi(folder / piece.name)))
    except MidiError:
        return of_piece(piece)


def of_files(folder: Path, pieces: Sequence[Piece]) -> list[Line]:
    """`of_file` of each."""
    # Spawned, not forked: the caller may have JAX's threads.
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        return list(pool.map(partial(of_file, folder), pieces, chunksize=8))


def of_notes(
    name: str, notes: Sequence[Note5D], changes: tuple[tuple[int, Chord | None], ...], beats: Beats
) -> Line:
    """The line of notes that were improvised over these changes."""
    rows = [
        [to_ticks(n.onset_time), to_ticks(n.duration), n.octave, n.pitch_class, SOLO, n.velocity]
        for n in notes
    ]
    return Line(name, np.array(rows, np.int64).reshape(-1, 6), changes, beats)
