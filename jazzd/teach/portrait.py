"""What lines are like, in figures and distributions: how they fit their chords, how dense they are."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from jazzd.moonbeam.tokens import DURATION, ONSET, TICKS_PER_SECOND, VELOCITY
from jazzd.music import harmony
from jazzd.teach.copying import repeated_bars
from jazzd.teach.line import Line

ON_BEAT = 1 / 6
"""Beats by which a note may be early or late and still be on the beat: half a triplet."""
WIDEST = 13
"""Semitones; leaps of an octave and more fall together in the distribution of intervals."""
TIMES = np.geomspace(0.02, 5.12, 25)
"""Bounds of the bins of times: seconds, three to the octave."""
BINS = {
    "interval": np.arange(-WIDEST, WIDEST + 2) - 0.5,
    "duration": TIMES,
    "inter_onset": TIMES,
    "velocity": np.arange(0, 129, 8.0),
    "degree": np.arange(13) - 0.5,
}
"""What is distributed, and the bounds of its bins. Degrees are semitones above the chord's root."""
Notes = Mapping[str, np.ndarray]
"""Facts of each note, or of each note of the melody but the first, by name."""


@dataclass(frozen=True)
class Portrait:
    """`figures` are numbers by name, None where nothing tells; `shares` the distributions, each of sum 1."""

    figures: dict[str, Any]
    shares: dict[str, Float[np.ndarray, "_"]]


def portrait(lines: Sequence[Line]) -> Portrait:
    """Of all notes of the lines together; times in seconds, intervals in semitones, pitches as MIDI numbers.

    Chord tones are all tones of the chord that a note begins over, scale tones those of its usual scale
    (`music.harmony`); notes without a chord do not count there, nor, where a beat is needed, lines without
    known beats.
    """
    drawn = [_notes(line) for line in lines]
    notes = {name: np.concatenate([each[name] for each in drawn]) for name in drawn[0]} if drawn else {}
    return Portrait(
        _figures(lines, notes) | _fits(drawn, notes) if notes else {"solos": 0},
        {name: distribution(notes[name], bounds) for name, bounds in BINS.items()} if notes else {},
    )


def _figures(lines: Sequence[Line], notes: Notes) -> dict[str, Any]:
    seconds, beats = sum(map(_seconds, lines)), sum(map(_beats, lines))
    timed = sum(len(line.rows) for line in lines if len(line.beats))
    low, high = map(round, np.percentile(notes["pitch"], (5, 95))) if len(notes["pitch"]) else (None, None)
    return {
        "solos": len(lines),
        "notes": len(notes["pitch"]),
        "seconds": seconds,
        "density": {
            "per_second": len(notes["pitch"]) / seconds if seconds else None,
            "per_beat": timed / beats if beats else None,
        },
        "off_beat": _share(notes["off_beat"], notes["timed"]),
        "interval": _mean(np.abs(notes["interval"])),
        "range": {"low": low, "high": high},
        "repeated_bars": repeated_bars(lines),
    }


def _notes(line: Line) -> Notes:
    """The facts of a line's notes."""
    over, pitches, melody = line.under >= 0, line.pitches, line.rows[line.top]
    tones, scales, roots = _tables(line)
    place = line.beats.places(line.rows[:, ONSET]) if len(line.beats) else np.zeros(len(pitches))
    nearest = np.round(place).astype(np.int64)
    off, timed = np.abs(place - nearest) > ON_BEAT, np.full(len(pitches), len(line.beats) > 0)
    strong = line.beats.strong[nearest] if len(line.beats) else timed
    return {
        "over_chord": over,
        "chord_tone": tones[line.under, pitches % 12],
        "scale_tone": scales[line.under, pitches % 12],
        "degree": (pitches - roots[line.under])[over] % 12,
        "timed": timed,
        "off_beat": off,
        "strong": strong & ~off,
        "pitch": pitches,
        "velocity": line.rows[:, VELOCITY],
        "duration": line.rows[:, DURATION] / TICKS_PER_SECOND,
        "interval": np.diff(line.pitches[line.top]),
        "inter_onset": np.diff(melody[:, ONSET]) / TICKS_PER_SECOND,
    }


def _tables(
    line: Line,
) -> tuple[Bool[np.ndarray, "C 12"], Bool[np.ndarray, "C 12"], Int[np.ndarray, "C"]]:
    """Of each change: which pitch classes are its tones and its scale's, and its root; last, of no chord."""
    chords = [*(chord for _, chord in line.changes), None]
    tones = [chord.tones if chord else frozenset[int]() for chord in chords]
    scales = [harmony.scale(chord) if chord else frozenset[int]() for chord in chords]
    return _marked(tones), _marked(scales), np.array([chord.root if chord else 0 for chord in chords])


def _marked(sets: Iterable[frozenset[int]]) -> Bool[np.ndarray, "C 12"]:
    return np.array([[each in members for each in range(12)] for members in sets])


def _fits(drawn: Sequence[Notes], notes: Notes) -> dict[str, dict[str, float | None]]:
    """Shares of the notes over chords: each counted once, or as long as it lasts, or only on strong beats.

    And between which `low` and `high` share of their own notes 90 % of the lines lie.
    """
    over, found = notes["over_chord"], {}
    for tone in ("chord_tone", "scale_tone"):
        own = [_share(each[tone], each["over_chord"]) for each in drawn]
        known = [share for share in own if share is not None]
        low, high = map(float, np.percentile(known, (5, 95))) if known else (None, None)
        found[f"{tone}s"] = {
            "by_count": _share(notes[tone], over),
            "by_duration": _share(notes[tone], notes["duration"] * over),
            "on_strong_beats": _share(notes[tone], over & notes["strong"]),
            "low": low,
            "high": high,
        }
    return found


def _share(hits: Bool[np.ndarray, "N"], weights: np.ndarray) -> float | None:
    """How much of the weight the hits have."""
    total = weights.sum()
    return float(weights[hits].sum() / total) if total else None


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if len(values) else None


def _seconds(line: Line) -> float:
    """From the first onset to the end of the last note."""
    if not len(line.rows):
        return 0.0
    return (
        float((line.rows[:, ONSET] + line.rows[:, DURATION]).max() - line.rows[0, ONSET]) / TICKS_PER_SECOND
    )


def _beats(line: Line) -> float:
    """From the first onset to the last, where that is known."""
    if not (len(line.beats) and len(line.rows)):
        return 0.0
    first, last = line.beats.places(line.rows[[0, -1], ONSET])
    return float(last - first)


def distribution(values: np.ndarray, bounds: Float[np.ndarray, "_"]) -> Float[np.ndarray, "_"]:
    """The share of the values in each bin; the first and the last take what lies beyond. Zeros of nothing."""
    edges = bounds.astype(np.float64)
    counts, _ = np.histogram(np.clip(values, edges[0], edges[-1]), edges)
    return np.asarray(counts / max(counts.sum(), 1))


def overlap(one: Float[np.ndarray, "B"], other: Float[np.ndarray, "B"]) -> float:
    """The overlapping area of two distributions, from 0 (nothing in common) to 1 (the same).

    After Yang and Lerch, "On the evaluation of generative models in music" (Neural Computing and
    Applications, 2018), who take it of densities of distances within and between two sets; here it is of the
    shares of the notes themselves.
    """
    return float(np.minimum(one, other).sum())


def overlaps(one: Portrait, other: Portrait) -> dict[str, float]:
    """The overlapping area of each distribution that both have."""
    return {
        name: overlap(share, other.shares[name])
        for name, share in one.shares.items()
        if name in other.shares and share.any() and other.shares[name].any()
    }
