"""Beats on the clock, and where the feel puts a note between them."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from jazzd.music.notes import Seconds

BEATS_PER_BAR = 4
"""Where nobody says otherwise."""
LONGEST_BAR = 12
JUST_NOW_S = 2.5
"""A count that began so lately took over from the one before where it began."""
OFF_EIGHTH = 0.5
Song = tuple[str, float | None]
"""What beats are numbered in: who counts, and since when, if that is known."""
POSITIONS = (0.0, 1 / 4, 1 / 3, OFF_EIGHTH, 2 / 3, 3 / 4)
"""The sixteenths and the eighth-triplets of a beat."""


def strong(bar: int) -> int:
    """Beats from one strong beat to the next in a bar of so many: it is halved where that leaves whole beats,
    but 2/4 is not."""
    return bar // 2 if bar % 2 == 0 and bar > 2 else bar


@dataclass(frozen=True)
class Grid:
    """Beats of equal length; beat 0 is the first of a bar."""

    origin: Seconds
    """When beat 0 is."""
    beat_s: float
    bar: int = BEATS_PER_BAR
    """Beats of a bar."""
    song: Song | None = field(default=None, compare=False)
    """In one song the same number is the same beat, however the tempo changes; None where nobody says."""

    @property
    def bpm(self) -> float:
        return 60 / self.beat_s

    def beat(self, at: float) -> float:
        """The time in beats."""
        return (at - self.origin) / self.beat_s

    def time(self, beat: float) -> Seconds:
        return Seconds(self.origin + beat * self.beat_s)

    def next(self, after: float, beats: int = 1) -> Seconds:
        """The first beat at `after` or later whose number is a multiple of `beats`."""
        return self.time(beats * math.ceil(round(self.beat(after) / beats, 6)))

    def apart(self, other: "Grid", at: float, every: int = 1) -> float:
        """How far the beats of another lie from these at `at`, in beats; its beat 0 may be any multiple of
        `every` here."""
        beats = other.beat(at) - self.beat(at)
        return abs(beats - every * round(beats / every))

    def onto(self, other: "Grid", now: Seconds, within: float = 0.5) -> Callable[[float], Seconds] | None:
        """How times to come move, for what lies on these beats to lie on the same of another.

        None where that is of another song and more than `within` beats from these.
        """
        count = 0
        if self.song is None or self.song != other.song:
            began = other.song[1] if other.song else None
            at = began if began is not None and now - began < JUST_NOW_S else now
            if self.apart(other, at) > within:
                return None
            count = round(other.beat(at) - self.beat(at))
        return lambda at: max(other.time(self.beat(at) + count), now)


@dataclass(frozen=True)
class Feel:
    """How a line sits on the beat."""

    quantize: float = 0.0
    """Percent of the way to the nearest position, 0..100."""
    swing: float = 50.0
    """Percent of the beat before the off-eighth, 50..75."""
    layback_ms: float = 0.0

    def positions(self) -> tuple[float, ...]:
        """Where notes may begin within a beat, the off-eighth as it swings; ascending."""
        return tuple(sorted({*POSITIONS} - {OFF_EIGHTH} | {self.swing / 100}))

    def placed(self, beat: float, after: float = -math.inf) -> float:
        """Where a note at `beat` is to begin, in beats, later than the position `after`.

        The off-eighth swings however little is quantized; a triplet and a sixteenth never do.
        """
        share = self.quantize / 100
        position = self.nearest(beat, after)
        swung = self.swing / 100 - OFF_EIGHTH if _is_off_eighth(beat) else 0.0
        return beat + swung + share * (position - beat - swung)

    def nearest(self, beat: float, after: float = -math.inf) -> float:
        """The position of the grid that a note at `beat` belongs to, later than `after`; in beats."""
        whole = math.floor(beat)
        first = max(whole - 1, math.floor(after)) if after > -math.inf else whole - 1
        places = [first + n + position for n in range(4) for position in self.positions()]
        straight = whole + OFF_EIGHTH
        if _is_off_eighth(beat) and straight + self.swing / 100 - OFF_EIGHTH > after + 1e-9:
            return whole + self.swing / 100
        return min((p for p in places if p > after + 1e-9), key=lambda p: abs(p - beat))

    @property
    def layback_s(self) -> float:
        return self.layback_ms / 1000


def _is_off_eighth(beat: float) -> bool:
    """Whether the straight off-eighth is the nearest position of the straight grid."""
    within = beat - math.floor(beat)
    return min((*POSITIONS, 1.0), key=lambda position: abs(position - within)) == OFF_EIGHTH
