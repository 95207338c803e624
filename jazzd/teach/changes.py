"""The chords of a piece, told from its notes.

Each beat's pitch classes are compared with the tones of every chord, the bass apart; the likeliest sequence
of chords is the one in which that fits well and changes are few (Viterbi). The idea is old: T. Fujishima,
"Realtime Chord Recognition of Musical Sound" (ICMC 1999), and J. Bello and J. Pickens, "A Robust Mid-level
Representation for Harmonic Content" (ISMIR 2005).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np

from jazzd.arrays import Float, Int
from jazzd.moonbeam.tokens import DRUMS, DURATION, INSTRUMENT, OCTAVE, ONSET, PITCH_CLASS, Rows
from jazzd.music.chords import NO_CHORD, Chord, name, parse
from jazzd.music.qualities import quality
from jazzd.teach.beats import Ticks
from jazzd.teach.corpus import Changes

QUALITIES = {
    "": 0.0,
    "m": 0.0,
    "7": 0.08,
    "m7": 0.08,
    "maj7": 0.08,
    "sus4": 0.12,
    "m7b5": 0.14,
    "dim7": 0.2,
    "aug": 0.2,
}
"""What is told apart, and how much better than a triad each must fit."""
MEMBERS = (1.0, 0.9, 0.8, 0.6)
"""Weights of root, third, fifth and seventh in a template."""
BASS, FOREIGN_BASS = 0.2, 0.1
"""What the root in the bass is worth, and what a bass that is no chord tone costs."""
CHANGE = 0.35
"""What a change of chord costs."""
FAMILIES = (
    "major",
    "minor",
    "dominant",
    "half-diminished",
    "diminished",
    "augmented",
    "suspended",
)
"""Kinds of chords as far as `agreement` tells them apart."""
STRUM_TICKS = 8
"""Keys that are struck within this time are one chord."""
DECAY_TICKS = 400
"""What sounds longer than this counts no more."""
BRIEF = 0.15
"""What sounds for a smaller share of a span is no bass."""


def infer(rows: Rows, beats: Ticks) -> Changes:
    """The chords that the notes imply and the ticks at which they begin, on beats; N.C. where nothing sounds.

    `rows` are all notes of the piece; drums are not listened to.
    """
    rows = rows[rows[:, INSTRUMENT] != DRUMS]
    if not len(rows):
        return ()
    edges = _edges(rows, beats)
    chroma, bass = _heard(rows, edges)
    path = _likeliest(_fit(chroma, bass))
    silent = chroma.sum(axis=1) == 0
    symbols = [NO_CHORD if quiet else _symbols()[state] for quiet, state in zip(silent, path, strict=True)]
    return _merged(zip(edges[:-1].tolist(), symbols, strict=True))


def struck(rows: Rows) -> Changes:
    """The chords that a track of chords plays, each named by the keys that are struck together."""
    groups: list[list[int]] = []
    for row in rows[np.argsort(rows[:, ONSET], kind="stable")]:
        if not groups or row[ONSET] - groups[-1][0] > STRUM_TICKS:
            groups.append([int(row[ONSET])])
        groups[-1].append(int(row[OCTAVE] * 12 + row[PITCH_CLASS]))
    return _merged((onset, name(pitches).symbol) for onset, *pitches in groups)


@dataclass(frozen=True)
class Agreement:
    """For how many ticks two accounts of a piece's chords say the same."""

    total: int = 0
    root: int = 0
    quality: int = 0
    """Root and family both."""

    def __add__(self, other: "Agreement") -> "Agreement":
        return Agreement(self.total + other.total, self.root + other.root, self.quality + other.quality)


def agreement(inferred: Changes, annotated: Changes, end: int) -> Agreement:
    """Up to tick `end`, where the annotation has a chord. Raises ConfigError for symbols that are none."""
    ours, theirs = _by_tick(inferred, end), _by_tick(annotated, end)
    known = theirs[:, 0] >= 0
    root = known & (ours[:, 0] == theirs[:, 0])
    return Agreement(int(known.sum()), int(root.sum()), int((root & (ours[:, 1] == theirs[:, 1])).sum()))


def _by_tick(changes: Changes, end: int) -> Int[np.ndarray, "T 2"]:
    """Root and family at each tick, -1 for no chord."""
    found = np.full((end, 2), -1)
    for tick, symbol in changes:
        chord = parse(symbol)
        found[tick:] = (chord.root, FAMILIES.index(family(chord))) if chord else -1
    return found


def family(chord: Chord) -> str:
    """What its third, fifth and seventh make of it."""
    has = set(chord.intervals)
    if 4 in has:
        return "dominant" if 10 in has else "augmented" if 8 in has and 7 not in has else "major"
    if 3 in has:
        return "minor" if 6 not in has or 7 in has else "half-diminished" if 10 in has else "diminished"
    return "suspended"


def _merged(changes: Iterator[tuple[int, str]]) -> Changes:
    """Without those that change nothing."""
    found: list[tuple[int, str]] = []
    for tick, symbol in changes:
        if not found or found[-1][1] != symbol:
            found.append((tick, symbol))
    return tuple(found)


def _edges(rows: Rows, beats: Ticks) -> Ticks:
    """Where the spans begin and end that have one chord each: the beats, and more of them at both ends."""
    first, last = int(rows[0, ONSET]), int((rows[:, ONSET] + rows[:, DURATION].clip(max=DECAY_TICKS)).max())
    step = max(1, int(np.median(np.diff(beats)))) if len(beats) > 1 else 50
    start = int(beats[0]) if len(beats) else first
    before = np.arange(start, first - step, -step)[::-1]
    after = np.arange(int(beats[-1]) if len(beats) else start, last + step, step)
    edges = np.unique(np.concatenate([before, beats, after]))
    return edges[max(0, int(np.searchsorted(edges, first, side="right")) - 1) :].clip(min=0)


def _heard(rows: Rows, edges: Ticks) -> tuple[Float[np.ndarray, "B 12"], Float[np.ndarray, "B 12"]]:
    """For what share of each span each pitch class sounds, and which one is the lowest (one-hot)."""
    spans, lengths = len(edges) - 1, np.diff(edges)
    sounds = np.zeros((spans, 132))  # by pitch; a multiple of 12 holds them all
    begins, ends = rows[:, ONSET], rows[:, ONSET] + rows[:, DURATION].clip(max=DECAY_TICKS)
    first = (np.searchsorted(edges, begins, side="right") - 1).clip(min=0)
    last = np.searchsorted(edges, ends).clip(max=spans)
    pitches = rows[:, OCTAVE] * 12 + rows[:, PITCH_CLASS]
    for begin, end, pitch, a, b in zip(begins, ends, pitches, first, last, strict=True):
        inside = np.minimum(end, edges[a + 1 : b + 1]) - np.maximum(begin, edges[a:b])
        sounds[a:b, pitch] += inside.clip(min=0) / lengths[a:b]
    audible = sounds > BRIEF
    bass = np.eye(12)[audible.argmax(axis=1) % 12] * audible.any(axis=1, keepdims=True)
    return sounds.reshape(spans, -1, 12).sum(axis=1), bass


@cache
def _symbols() -> tuple[str, ...]:
    """Of every chord that is told apart, root by root."""
    return tuple(Chord(root, kind, root).symbol for root in range(12) for kind in QUALITIES)


@cache
def _templates() -> tuple[Float[np.ndarray, "S 12"], Float[np.ndarray, "S 12"], Float[np.ndarray, "S"]]:
    """Each chord's tones, weighted and of unit length; what a bass is worth to it; and what it costs."""
    tones, basses, costs = [], [], []
    for root in range(12):
        for kind, cost in QUALITIES.items():
            template, worth = np.zeros(12), np.full(12, -FOREIGN_BASS)
            for interval, weight in zip(quality(kind).intervals, MEMBERS, strict=False):
                template[(root + interval) % 12] = weight
                worth[(root + interval) % 12] = 0.0
            worth[root] = BASS
            tones.append(template / np.linalg.norm(template))
            basses.append(worth)
            costs.append(cost)
    return np.array(tones), np.array(basses), np.array(costs)


def _fit(chroma: Float[np.ndarray, "B 12"], bass: Float[np.ndarray, "B 12"]) -> Float[np.ndarray, "B S"]:
    """How well each chord fits each span; all alike where nothing sounds."""
    tones, basses, costs = _templates()
    heard = np.sqrt(chroma)  # a note that is held for long is no better witness than several
    length = np.linalg.norm(heard, axis=1, keepdims=True)
    fit = heard / np.maximum(length, 1e-9) @ tones.T + bass @ basses.T - costs
    return np.where(length > 0, fit, 0.0)


def _likeliest(fit: Float[np.ndarray, "B S"]) -> Int[np.ndarray, "B"]:
    """The sequence of chords that fits best, less the price of its changes."""
    score, came = fit[0].copy(), np.zeros(fit.shape, np.int64)
    for span in range(1, len(fit)):
        best = int(score.argmax())
        moved = score[best] - CHANGE
        stays = score >= moved
        came[span] = np.where(stays, np.arange(len(score)), best)
        score = np.where(stays, score, moved) + fit[span]
    path = np.empty(len(fit), np.int64)
    path[-1] = score.argmax()
    for span in range(len(fit) - 1, 0, -1):
        path[span - 1] = came[span, path[span]]
    return path
