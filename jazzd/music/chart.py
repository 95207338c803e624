"""Charts: chord symbols on one line, or a JSON file of bars."""

import itertools
from pathlib import Path

from pydantic import BaseModel, Field, ValidationError

from jazzd.errors import ConfigError
from jazzd.music.chords import Chord, parse, progression
from jazzd.music.grid import BEATS_PER_BAR

LARGEST_FILE = 1 << 20
MOST_BARS = 1024

Progression = list[tuple[Chord | None, float]]
"""Chords and their lengths in bars; None for a rest."""


class _Symbol(BaseModel):
    beat: float = Field(ge=1, lt=BEATS_PER_BAR + 1)
    chord: str


class _Chart(BaseModel):
    time_signature: str = "4/4"
    bars: list[list[_Symbol]] = Field(min_length=1, max_length=MOST_BARS)


def read(chart: str) -> Progression:
    """The chart that is written out (`Dm7 | G7 | Cmaj7 | %`), or that is in the file of that name.

    A file holds an object with `bars`, a list of lists of {"beat": 1..4, "chord": symbol}; a bar without a
    chord goes on with the one before. Raises ConfigError.
    """
    if not chart.endswith(".json"):
        return progression(chart)
    file = Path(chart)
    try:
        if file.stat().st_size > LARGEST_FILE:
            raise ConfigError(f"{file} is no chart: it is larger than 1 MiB")
        found = _Chart.model_validate_json(file.read_bytes())
    except OSError as error:
        raise ConfigError(f"the chart {file} cannot be read: {error.strerror}") from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "it"
        raise ConfigError(f"{file} is no chart: {where}: {first['msg']}") from None
    if found.time_signature != f"{BEATS_PER_BAR}/4":
        raise ConfigError(f"{file} is in {found.time_signature}; charts are played in {BEATS_PER_BAR}/4")
    return _lengths(found, file)


def _lengths(chart: _Chart, file: Path) -> Progression:
    symbols = [
        (BEATS_PER_BAR * number + symbol.beat - 1, parse(symbol.chord, f"bar {number + 1} of {file}"))
        for number, bar in enumerate(chart.bars)
        for symbol in sorted(bar, key=lambda symbol: symbol.beat)
    ]
    if not symbols:
        raise ConfigError(f"{file} is no chart: there is no chord in it")
    if symbols[0][0] > 0:
        symbols.insert(0, (0.0, None))
    places = [place for place, _ in symbols] + [float(BEATS_PER_BAR * len(chart.bars))]
    lengths = [(after - place) / BEATS_PER_BAR for place, after in itertools.pairwise(places)]
    return [(chord, bars) for (_, chord), bars in zip(symbols, lengths, strict=True) if bars > 0]
