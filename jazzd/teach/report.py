"""What `jazzd prepare` found in a folder: for people, for programs, and as a picture."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
from matplotlib.figure import Figure
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from jazzd.moonbeam.tokens import DURATION, ONSET, TICKS_PER_SECOND
from jazzd.music import chords
from jazzd.music.chords import NO_CHORD
from jazzd.teach.corpus import Gathered, Piece, Side
from jazzd.teach.voices import pitches

KEYS = 12
"""Every piece is learned in all of them."""
MOST_KINDS = 14
"""Chord qualities that are told apart, the most frequent ones."""
MOST_ROWS = 40
"""Files that the terminal lists one by one."""


def report(found: Gathered) -> dict[str, Any]:
    """Counts, shares and lists of what was found; times in seconds and hours, pitches as MIDI numbers."""
    pieces = found.pieces
    heights = np.concatenate([pitches(piece.rows) for piece in pieces])
    total_s = sum(map(seconds, pieces))
    return {
        "files": len(pieces) + len(found.refused),
        "pieces": len(pieces),
        "samples": KEYS * len(pieces),
        "notes": len(heights),
        "hours": round(total_s / 3600, 3),
        "notes_per_second": round(len(heights) / max(total_s, 1), 2),
        "pitch": {
            "low": int(heights.min()),
            "mean": round(float(heights.mean()), 1),
            "high": int(heights.max()),
        },
        "sides": {side: _side([piece for piece in pieces if piece.side == side]) for side in get_args(Side)},
        "voices": dict(Counter(piece.voice for piece in pieces)),
        "chords_from": dict(Counter(piece.chords_from or "nothing" for piece in pieces)),
        "chord_kinds": kinds(pieces),
        "refused": [{"file": item.name, "reason": item.reason} for item in found.refused],
        "each": [_row(piece) for piece in pieces],
    }


def seconds(piece: Piece) -> float:
    """From the first onset to the end of the last note."""
    ends = piece.rows[:, ONSET] + piece.rows[:, DURATION]
    return float(ends.max() - piece.rows[0, ONSET]) / TICKS_PER_SECOND


def kinds(pieces: Sequence[Piece]) -> dict[str, float]:
    """Share of the time of each quality of chord (`maj7`, `m7`, ...), the most frequent ones first."""
    time: Counter[str] = Counter()
    for piece in pieces:
        for tick, end, symbol in piece.spans:
            chord = chords.parse(symbol)
            time[(chord.quality or "major") if chord else NO_CHORD] += max(0, end - tick)
    total = max(time.total(), 1)
    shares = {quality: round(ticks / total, 4) for quality, ticks in time.most_common(MOST_KINDS)}
    others = sum(ticks for _, ticks in time.most_common()[MOST_KINDS:])
    return shares | ({"others": round(others / total, 4)} if others else {})


def _side(pieces: Sequence[Piece]) -> dict[str, int]:
    return {"pieces": len(pieces), "notes": sum(len(piece.rows) for piece in pieces)}


def _row(piece: Piece) -> dict[str, Any]:
    return {
        "file": piece.name,
        "side": piece.side,
        "voice": piece.voice,
        "chords_from": piece.chords_from or "nothing",
        "notes": len(piece.rows),
        "seconds": round(seconds(piece), 1),
        "chords": len(piece.chords),
    }


def shown(figures: dict[str, Any]) -> RenderableType:
    """The report for a terminal."""
    summary = Table(box=None, show_header=False, pad_edge=False)
    pitch, sides = figures["pitch"], figures["sides"]
    for words, value in (
        (
            "pieces",
            f"{figures['pieces']} of {figures['files']} files, in 12 keys {figures['samples']} samples",
        ),
        (
            "notes",
            f"{figures['notes']:,} in {figures['hours']:.2f} hours, {figures['notes_per_second']} a second",
        ),
        ("pitches", f"{pitch['low']} to {pitch['high']}, {pitch['mean']} in the mean"),
        (
            "sides",
            ", ".join(f"{side} {each['pieces']} ({each['notes']:,} notes)" for side, each in sides.items()),
        ),
        ("the solo is", _counted(figures["voices"])),
        ("chords are from", _counted(figures["chords_from"])),
        ("chord kinds", ", ".join(f"{kind} {share:.0%}" for kind, share in figures["chord_kinds"].items())),
    ):
        summary.add_row(words, Text(value or "none"))
    files = Table(
        "file", "side", "solo", "chords from", "notes", "seconds", "chords", box=None, pad_edge=False
    )
    for row in figures["each"][:MOST_ROWS]:
        files.add_row(*(Text(str(value)) for value in row.values()))
    more = len(figures["each"]) - MOST_ROWS
    return Group(files, Text(f"and {more} more" if more > 0 else ""), summary)


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{what} ({count})" for what, count in counts.items())


def draw(path: Path, pieces: Sequence[Piece]) -> None:
    """Pitches, densities, durations and kinds of chords, as a PNG."""
    figure = Figure(figsize=(10, 7), layout="constrained")
    (pitch, density), (duration, chord) = figure.subplots(2, 2)
    heights = np.concatenate([pitches(piece.rows) for piece in pieces])
    pitch.hist(heights, bins=np.arange(heights.min(), heights.max() + 2) - 0.5)
    pitch.set(xlabel="MIDI pitch", ylabel="notes", title="Pitch")
    density.hist([len(piece.rows) / max(seconds(piece), 1) for piece in pieces], bins=20)
    density.set(xlabel="notes a second", ylabel="pieces", title="Density")
    lengths = np.concatenate([piece.rows[:, DURATION] for piece in pieces]) / TICKS_PER_SECOND
    duration.hist(lengths, bins=np.geomspace(0.01, max(10.0, lengths.max()), 40))
    duration.set(xlabel="seconds", xscale="log", ylabel="notes", title="Duration")
    shares = kinds(pieces)
    chord.barh([*shares][::-1], [*shares.values()][::-1])
    chord.set(xlabel="share of the time", title="Chords")
    figure.savefig(path, format="png", dpi=120)
