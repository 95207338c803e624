"""Reviews for people: figures side by side, and distributions as a picture."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.table import Table

from jazzd.moonbeam.tokens import NAMES
from jazzd.teach.portrait import BINS, Portrait
from jazzd.teach.review import REFERENCE, Review

OVERLAPS = {
    "interval": "intervals",
    "duration": "durations",
    "inter_onset": "times from onset to onset",
    "velocity": "velocities",
    "degree": "degrees of the chord",
}
KINDS = {
    "by_count": "",
    "by_duration": ", by duration",
    "on_strong_beats": ", on strong beats",
    "low": ", 5 % of the solos below",
    "high": ", 5 % above",
}
ROWS = {
    "nats per note": ("nll_per_note",),
    **{f"  {name.replace('_', ' ')}": ("nll", name) for name in NAMES},
    **{
        f"{tones} tones{words}": ("music", f"{tones}_tones", kind)
        for tones in ("chord", "scale")
        for kind, words in KINDS.items()
    },
    "notes a second": ("music", "density", "per_second"),
    "notes a beat": ("music", "density", "per_beat"),
    "off the beat": ("music", "off_beat"),
    "mean interval, semitones": ("music", "interval"),
    "lowest pitch (5 %)": ("music", "range", "low"),
    "highest pitch (95 %)": ("music", "range", "high"),
    **{f"overlap of {words}": ("music", "overlap", name) for name, words in OVERLAPS.items()},
    "bars that come again": ("music", "repeated_bars"),
    "notes copied at a stretch, median": ("music", "copying", "median"),
    "notes copied at a stretch, most": ("music", "copying", "longest"),
    "solos": ("music", "solos"),
    "notes": ("music", "notes"),
}
"""What the table says, and where that is in the public keys."""
SHARES = {
    "chord\ntones": ("chord_tones", "by_count"),
    "by\nduration": ("chord_tones", "by_duration"),
    "on strong\nbeats": ("chord_tones", "on_strong_beats"),
    "scale\ntones": ("scale_tones", "by_count"),
    "off the\nbeat": ("off_beat",),
}
TITLES = {
    "interval": ("Intervals", "semitones"),
    "duration": ("Durations", "seconds"),
    "inter_onset": ("From onset to onset", "seconds"),
    "velocity": ("Velocities", "MIDI velocity"),
    "degree": ("Degrees", "semitones above the root"),
}


def table(review: Review) -> Table:
    """A column for each player, and one for the reference."""
    shown = Table("", box=None, pad_edge=False)
    columns = {opinion.name: opinion.to_json() for opinion in review.opinions}
    columns[REFERENCE] = {"music": review.to_json()["reference"]}
    for name in columns:
        shown.add_column(name, justify="right")
    for words, path in ROWS.items():
        values = [_at(column, path) for column in columns.values()]
        if any(value is not None for value in values):
            shown.add_row(words, *map(_written, values))
    return shown


def _at(figures: Any, path: tuple[str, ...]) -> Any:
    """What is at the end of a path of keys; None where it breaks off."""
    for key in path:
        figures = figures.get(key) if isinstance(figures, dict) else None
    return figures


def _written(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else f"{value:,}"


def draw(path: Path, portraits: Mapping[str, Portrait]) -> None:
    """The portraits' figures and distributions side by side, as a PNG. Raises OSError."""
    figure = Figure(figsize=(14, 7.5), layout="constrained")
    first, *others = figure.subplots(2, 3).flat
    _bars(first, portraits)
    for axes, (name, (title, unit)) in zip(others, TITLES.items(), strict=True):
        _outlines(axes, name, portraits)
        axes.set(title=title, xlabel=unit, ylabel="share of the notes")
    figure.legend(*first.get_legend_handles_labels(), loc="outside upper right", ncols=len(portraits))
    figure.savefig(path, format="png", dpi=120)


def _bars(axes: Axes, portraits: Mapping[str, Portrait]) -> None:
    width = 0.8 / len(portraits)
    for i, (name, drawn) in enumerate(portraits.items()):
        heights = [_at(drawn.figures, keys) or 0.0 for keys in SHARES.values()]
        places = np.arange(len(heights)) + (i - (len(portraits) - 1) / 2) * width
        axes.bar(places, heights, width, label=name)
    axes.set_xticks(range(len(SHARES)), list(SHARES))
    axes.set(title="Fit", ylabel="share of the notes", ylim=(0, 1))


def _outlines(axes: Axes, name: str, portraits: Mapping[str, Portrait]) -> None:
    """One distribution of each: the first filled, for the others to be seen against."""
    for i, drawn in enumerate(portraits.values()):
        if name in drawn.shares:
            axes.stairs(
                drawn.shares[name], BINS[name], color=f"C{i}", fill=not i, alpha=1 if i else 0.45, lw=2
            )
    if name in ("duration", "inter_onset"):
        axes.set_xscale("log")
