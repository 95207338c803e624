"""Are the lines like people's? Solos over charts at default settings, beside the solos of people."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track

from jazzd.bench import machine
from jazzd.bench.latency import Tune, tunes
from jazzd.engine.protocol import Sampling
from jazzd.music.tempo import to_ticks
from jazzd.solo import SoloGenerator, laid_out
from jazzd.teach.corpus import Piece, read_folder
from jazzd.teach.line import Line, of_notes, of_piece
from jazzd.teach.metre import steady
from jazzd.teach.portrait import portrait

LOW, HIGH = 10, 90
"""Percentiles of people's solos between which ours are to lie."""
LONGEST_S = 60.0
"""Of each chart this much is played."""


def measure(
    charts: Path,
    people: Path,
    solos: int,
    generator: SoloGenerator,
    shares: Mapping[str, float],
) -> dict[str, Any]:
    """Plays a solo over each of so many charts (`.json`), evenly taken from the folder, in a mix of styles,
    and sets their figures, all notes together, beside the percentiles of people's solos (a folder of MIDI
    files with markers).

    Raises ConfigError for a folder without charts, MidiError for one without pieces, StyleError for a style
    that is none.
    """
    liked = generator.wear(shares)
    found = tunes(charts)
    chosen = [found[n * len(found) // solos] for n in range(min(solos, len(found)))]
    pieces = [piece for piece in read_folder(people) if isinstance(piece, Piece)]
    human = [_figures([line]) for line in map(of_piece, pieces) if len(line.rows)]
    ours = _figures(_played(chosen, generator, Sampling.model_validate(liked)))
    return machine.describe() | {
        "solos": len(chosen),
        "people": len(human),
        "figures": {
            name: _beside(value, [figures[name] for figures in human]) for name, value in ours.items()
        },
    }


def _beside(ours: float | None, people: Sequence[float | None]) -> dict[str, Any]:
    known = [figure for figure in people if figure is not None]
    if ours is None or not known:
        return {"ours": ours, "low": None, "high": None, "within": None}
    low, high = (float(np.percentile(known, share)) for share in (LOW, HIGH))
    return {"ours": ours, "low": low, "high": high, "within": low <= ours <= high}


def _played(chosen: Sequence[Tune], generator: SoloGenerator, sampling: Sampling) -> list[Line]:
    lines = []
    for seed, tune in enumerate(track(chosen, "solos", console=Console(stderr=True))):
        beat_s = 60 / tune.bpm
        parts = laid_out(tune.progression, 4 * beat_s, choruses=8)
        parts = [part for part in parts if part.onset + part.duration <= LONGEST_S] or parts[:1]
        notes = list(generator.improvise(parts, sampling, seed, beat_s=beat_s))
        changes = tuple((to_ticks(part.onset), part.chord) for part in parts)
        lines.append(of_notes(tune.name, notes, changes, steady(tune.bpm, LONGEST_S)))
    return lines


def _figures(lines: Sequence[Line]) -> dict[str, float | None]:
    """The figures of `jazzd evaluate` that have a usual range, by short names."""
    whole = portrait(lines)
    all_of_it = whole.figures
    same = [float(np.mean(np.diff(line.pitches[line.top]) == 0)) for line in lines if len(line.top) > 1]
    return {
        "chord_tones": all_of_it["chord_tones"]["by_count"],
        "chord_tones_on_strong_beats": all_of_it["chord_tones"]["on_strong_beats"],
        "scale_tones": all_of_it["scale_tones"]["by_count"],
        "notes_per_second": all_of_it["density"]["per_second"],
        "interval": all_of_it["interval"],
        "repeated_bars": all_of_it["repeated_bars"],
        "same_pitch_again": float(np.mean(same)) if same else None,
    }
