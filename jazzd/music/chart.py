"""Charts: chord symbols on one line, or a JSON file of bars."""

import itertools
import os
import re
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel, Field, ValidationError

from jazzd.errors import ConfigError, place, plain
from jazzd.music.chords import Chord, parse, progression
from jazzd.music.grid import BEATS_PER_BAR, LONGEST_BAR

LARGEST_FILE = 1 << 20
MOST_BARS = 1024
FILE = re.compile(r"\S+\.\w+")
"""What looks like a file's name."""

Progression = list[tuple[Chord | None, float]]
"""Chords and their lengths in bars; None for a rest."""


class Sheet(NamedTuple):
    progression: Progression
    bar: int | None
    """Beats of a bar; None where the chart does not say."""


class _Symbol(BaseModel):
    beat: float = Field(ge=1, lt=LONGEST_BAR + 1)
    chord: str


class _Chart(BaseModel):
    time_signature: str = f"{BEATS_PER_BAR}/4"
    bars: list[list[_Symbol]] = Field(min_length=1, max_length=MOST_BARS)


def read(chart: str) -> Sheet:
    """The chart that is written out (`Dm7 | G7 | Cmaj7 | %`), or that is in the file of that name.

    A file holds an object with `bars`, a list of lists of {"beat": 1..4, "chord": symbol}, and where a bar
    has not four beats, a `time_signature`; a bar without a chord goes on with the one before. Raises
    ConfigError.
    """
    if not chart.endswith(".json"):
        try:
            return Sheet(progression(chart), None)
        except ConfigError:
            # Path.exists raises for a name that is too long, as a chart may be.
            if FILE.fullmatch(chart) or os.path.exists(chart):
                raise ConfigError(f"{chart}: a file that holds a chart ends in .json") from None
            raise
    file = Path(chart)
    try:
        if file.stat().st_size > LARGEST_FILE:
            raise ConfigError(f"{file} is no chart: it is larger than 1 MiB")
        found = _Chart.model_validate_json(file.read_bytes())
    except OSError as error:
        raise ConfigError(f"the chart {file} cannot be read: {error.strerror}") from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        if first["type"] == "model_type" and not first["loc"]:
            raise ConfigError(f"{file} is no chart: it must be an object with `bars`") from None
        where = place(first)
        raise ConfigError(f"{file} is no chart: {where and where + ': '}{plain(first)}") from None
    bar = _beats(found.time_signature, file)
    return Sheet(_lengths(found, bar, file), bar)


def _beats(time_signature: str, file: Path) -> int:
    """Of a bar. Raises ConfigError."""
    beats = re.fullmatch(r"(\d{1,2})/4", time_signature)
    if not (beats and 1 <= int(beats[1]) <= LONGEST_BAR):
        said = repr(time_signature[:20])  # by a stranger, who may have written a page
        raise ConfigError(f"{file} is in {said}; charts are played in 1/4 to {LONGEST_BAR}/4")
    return int(beats[1])


def _lengths(chart: _Chart, beats: int, file: Path) -> Progression:
    symbols = []
    for number, bar in enumerate(chart.bars):
        for symbol in sorted(bar, key=lambda symbol: symbol.beat):
            where = f"bar {number + 1} of {file}"
            if symbol.beat >= beats + 1:
                raise ConfigError(f"{where}: there is no beat {symbol.beat:g} in {beats}/4")
            symbols.append((beats * number + symbol.beat - 1, parse(symbol.chord, where)))
    if not symbols:
        raise ConfigError(f"{file} is no chart: there is no chord in it")
    if symbols[0][0] > 0:
        symbols.insert(0, (0.0, None))
    places = [place for place, _ in symbols] + [float(beats * len(chart.bars))]
    lengths = [(after - place) / beats for place, after in itertools.pairwise(places)]
    return [(chord, bars) for (_, chord), bars in zip(symbols, lengths, strict=True) if bars > 0]
