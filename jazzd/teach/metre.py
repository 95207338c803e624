"""The beats and bars that a MIDI file states."""

from collections.abc import Sequence
from dataclasses import dataclass

import mido
import numpy as np
from jaxtyping import Bool, Float, Int

from jazzd.moonbeam import midi
from jazzd.moonbeam.tokens import TICKS_PER_SECOND

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
