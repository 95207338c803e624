"""Training windows: solos with their chords interleaved as a live player voices them, packed to one length.

Every batch is drawn from (seed, step) alone: a resumed training sees what an uninterrupted one would have.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from jazzd.moonbeam.tokens import (
    COMPING,
    DRUMS,
    DURATION,
    EOS,
    INSTRUMENT,
    OCTAVE,
    ONSET,
    PITCH_CLASS,
    SOS,
    VELOCITY,
    Vocabulary,
    chunks,
)
from jazzd.music import chords, voicing
from jazzd.teach.corpus import Piece

PADDING_BLOCK = 0
LOWEST, HIGHEST = 21, 108
"""A piano's keys."""
SHORTEST_WINDOW = 32
KEEP_CHORDS = 0.85
"""Share of windows of a piece with chords that show them: the model must also know the bare solo."""
REBASED = 0.6
"""Share of windows that begin with SOS and onset 0; the others go on in mid-piece, as the reference packs."""


@dataclass(frozen=True)
class Batch:
    """B packed windows of L rows. `counted` marks the rows whose prediction is in the loss."""

    rows: Int[np.ndarray, "B L 6"]
    labels: Int[np.ndarray, "B L 7"]
    blocks: Int[np.ndarray, "B L"]
    counted: Bool[np.ndarray, "B L"]


@dataclass(frozen=True)
class Dataset:
    """Pieces to draw windows from.

    `chord_share` of the windows come from pieces with chords, however few they are; `keys` transposes them
    into all twelve keys (the others have keys of their own, unless `every_key`). Each window is faster or
    slower by up to the share `tempo` and, where its touch is a human's, louder or softer by up to `velocity`.
    Each note comes as often as every other, or, if `even`, each piece.
    """

    pieces: Sequence[Piece]
    vocabulary: Vocabulary
    length: int
    chord_share: float
    keys: bool
    every_key: bool = False
    tempo: float = 0.0
    velocity: int = 0
    even: bool = False

    def batch(self, size: int, seed: int, step: int) -> Batch:
        """The batch of this step: the same for the same arguments."""
        rng = np.random.default_rng((seed, step))
        with_chords, without = self._weights(True), self._weights(False)
        windows = []
        for _ in range(size):
            from_chords = with_chords.any() and (not without.any() or rng.random() < self.chord_share)
            windows.append(self._window(rng, with_chords if from_chords else without))
        return Batch(*(np.stack(part) for part in zip(*windows, strict=True)))

    def _weights(self, with_chords: bool) -> Float[np.ndarray, "P"]:
        """How often each piece is to come among those with chords, or those without."""
        sizes = [
            (1 if self.even else len(piece.rows)) if bool(piece.chords) == with_chords else 0
            for piece in self.pieces
        ]
        return np.array(sizes, np.float64) / max(sum(sizes), 1)

    def _window(self, rng: np.random.Generator, weights: np.ndarray) -> tuple[np.ndarray, ...]:
        """One row of a batch: excerpts, each in a block of its own, until the length is full."""
        rows, labels, blocks, counted, block = [], [], [], [], PADDING_BLOCK
        left = self.length
        while left >= SHORTEST_WINDOW:
            block += 1
            piece = self.pieces[rng.choice(len(self.pieces), p=weights)]
            excerpt = self._excerpt(piece, left, rng)
            rows.append(excerpt)
            labels.append(self.vocabulary.labels(_rebased(excerpt)))
            blocks.append(np.full(len(excerpt), block))
            counted.append((excerpt[:, INSTRUMENT] != COMPING) & (np.arange(len(excerpt)) > 0))
            left -= len(excerpt)
        pad = [(0, left)]
        return (
            np.pad(np.concatenate(rows), [*pad, (0, 0)]).astype(np.int32),
            np.pad(np.concatenate(labels), [*pad, (0, 0)]).astype(np.int32),
            np.pad(np.concatenate(blocks), pad).astype(np.int32),
            np.pad(np.concatenate(counted), pad),
        )

    def _excerpt(self, piece: Piece, limit: int, rng: np.random.Generator) -> Int[np.ndarray, "_ 6"]:
        """At most `limit` rows of the piece from a random place, special rows included."""
        shift = int(rng.integers(-6, 6)) if self.every_key or (self.keys and piece.chords) else 0
        if self.tempo:
            piece = stretched(piece, rng.uniform(1 - self.tempo, 1 + self.tempo))
        shift += _octaves(piece.rows, shift)
        notes = transposed(piece.rows, shift)
        if self.velocity and np.ptp(notes[:, VELOCITY]):
            notes = struck(notes, int(rng.integers(-self.velocity, self.velocity + 1)))
        if piece.chords and rng.random() < KEEP_CHORDS:
            notes = interleaved(
                notes, comping(piece, (shift + 6) % 12 - 6, random.Random(int(rng.integers(2**32))))
            )
        parts = chunks(clamped(notes, self.vocabulary), self.vocabulary.longest)
        part = parts[rng.choice(len(parts), p=np.array([len(p) for p in parts]) / sum(len(p) for p in parts))]
        # Beginning before the first row gives a piece's opening its share.
        start = max(0, int(rng.integers(-limit // 2, max(1, len(part) - SHORTEST_WINDOW))))
        rows = part[start : start + limit]
        if start > 0 and rng.random() > REBASED:
            return rows
        rows = _with_special(_rebased(rows), SOS, 0)[:limit]
        ends = start + limit > len(part) and len(rows) < limit
        return _with_special(rows, EOS, len(rows)) if ends else rows


def _with_special(rows: Int[np.ndarray, "_ 6"], value: int, at: int) -> Int[np.ndarray, "_ 6"]:
    return np.insert(rows, at, value, axis=0)


def _rebased(rows: Int[np.ndarray, "_ 6"]) -> Int[np.ndarray, "_ 6"]:
    """Onsets from 0 at the first note; special rows as they are."""
    note = rows[:, ONSET] >= 0
    first = rows[note, ONSET].min(initial=2**31)
    return np.concatenate(
        [np.where(note, rows[:, ONSET] - first, rows[:, ONSET])[:, None], rows[:, 1:]], axis=1
    )


def clamped(rows: Int[np.ndarray, "N 6"], vocabulary: Vocabulary) -> Int[np.ndarray, "N 6"]:
    """Durations cut to what the vocabulary holds."""
    return np.concatenate([rows[:, :1], rows[:, 1:2].clip(1, vocabulary.longest), rows[:, 2:]], axis=1)


def stretched(piece: Piece, factor: float) -> Piece:
    """The piece at another tempo: all its times are `factor` as long."""
    times = np.round(piece.rows[:, : DURATION + 1] * factor).astype(piece.rows.dtype)
    changes = tuple((round(tick * factor), symbol) for tick, symbol in piece.chords)
    return Piece(piece.name, np.concatenate([times, piece.rows[:, DURATION + 1 :]], axis=1), changes)


def transposed(rows: Int[np.ndarray, "N 6"], semitones: int) -> Int[np.ndarray, "N 6"]:
    """The pitched rows moved by `semitones`, an octave back where they would leave 0..127."""
    if not semitones:
        return rows
    pitch = rows[:, OCTAVE] * 12 + rows[:, PITCH_CLASS] + np.where(rows[:, INSTRUMENT] == DRUMS, 0, semitones)
    pitch += np.where(pitch < 0, 12, 0) - np.where(pitch > 127, 12, 0)
    moved = rows.copy()
    moved[:, OCTAVE], moved[:, PITCH_CLASS] = np.divmod(pitch, 12)
    return moved


def _octaves(rows: Int[np.ndarray, "N 6"], semitones: int) -> int:
    """What keeps pitched rows moved by `semitones` on a piano's keys, where an octave can do that."""
    pitches = (rows[:, OCTAVE] * 12 + rows[:, PITCH_CLASS])[rows[:, INSTRUMENT] != DRUMS] + semitones
    if not len(pitches):
        return 0
    fits = (
        octave
        for octave in (0, -12, 12)
        if LOWEST <= min(pitches) + octave <= max(pitches) + octave <= HIGHEST
    )
    return next(fits, 0)


def struck(rows: Int[np.ndarray, "N 6"], harder: int) -> Int[np.ndarray, "N 6"]:
    """The rows with every velocity `harder`, within 1..127."""
    velocities = (rows[:, VELOCITY:] + harder).clip(1, 127)
    return np.concatenate([rows[:, :VELOCITY], velocities], axis=1)


def interleaved(solo: Int[np.ndarray, "N 6"], comp: Int[np.ndarray, "C 6"]) -> Int[np.ndarray, "_ 6"]:
    """Both in time order; at one tick the chord comes first."""
    rows = np.concatenate([comp, solo])
    return rows[np.argsort(rows[:, ONSET], kind="stable")]


def comping(piece: Piece, semitones: int, rng: random.Random) -> Int[np.ndarray, "C 6"]:
    """Rows of a human comping over the piece's chords: voiced, timed and struck differently each time.

    The duration is what a live player's chord is thought to last when it is struck.
    """
    rows: list[list[int]] = []
    touch = rng.randint(45, 95)
    for tick, end, symbol in piece.spans:
        chord = chords.parse(symbol)
        if chord is None:
            continue
        strikes = [tick, (tick + end) // 2] if end - tick > 120 and rng.random() < 0.2 else [tick]
        pitches = voicing.voice(chord, rng)
        for strike, until in zip(strikes, [*strikes[1:], end], strict=True):
            at, lasts = max(0, strike + round(rng.gauss(0, 2))), until - strike
            lasts = rng.randint(50, 400) if rng.random() < 0.3 else round(lasts * rng.uniform(0.5, 1.0))
            for i, pitch in enumerate(pitches):
                octave, pitch_class = divmod(pitch + semitones, 12)
                velocity = min(127, max(1, touch + rng.randint(-12, 12)))
                spread = i * rng.randint(0, 1)
                rows.append([at + spread, min(max(lasts, 10), 400), octave, pitch_class, COMPING, velocity])
    return np.array(sorted(rows), np.int64).reshape(-1, 6)
