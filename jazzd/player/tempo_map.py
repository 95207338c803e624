"""The tempo map of what was played: where each beat was, in as few straight lines as say it."""

import math
from collections import deque
from typing import NamedTuple

from jazzd.music.grid import BEATS_PER_BAR, Grid

KEPT_S = 0.005
"""A beat so near to where the line puts it lies on it."""
SAME_SONG = 1.5
"""A tempo that is more than so many times that before or after it is none: somebody counts anew."""
MOST_LINES = 4096
"""More than one a beat in ten minutes."""


class _Line(NamedTuple):
    at: float
    beat: float
    bpm: float

    def when(self, beat: float) -> float:
        return self.at + (beat - self.beat) * 60 / self.bpm

    def where(self, at: float) -> float:
        return self.beat + (at - self.at) * self.bpm / 60


class TempoMap:
    """Told again and again where the beats lie."""

    def __init__(self) -> None:
        self.bar = BEATS_PER_BAR
        """Beats of a bar."""
        self._lines: deque[_Line] = deque(maxlen=MOST_LINES)
        self._seen: _Line | None = None

    def count(self, at: float, grid: Grid) -> None:
        """The beats lie so at `at`; every beat is looked at once."""
        seen, now = self._seen, _Line(at, grid.beat(at), grid.bpm)
        self.bar = grid.bar
        if seen and math.floor(seen.beat) == math.floor(now.beat):
            return
        if seen is None or abs(self._lines[-1].when(now.beat) - at) > KEPT_S:
            self._bend(seen, now)
        self._seen = now

    def forget(self, before: float) -> None:
        """What was over by then."""
        while len(self._lines) > 1 and self._lines[1].at < before:
            self._lines.popleft()

    def tempi(self, begin: float) -> list[tuple[float, float]]:
        """Seconds, and beats a minute from then on; the first at `begin`."""
        then = [line.bpm for line in self._lines if line.at <= begin][-1:]
        then = then or [line.bpm for line in self._lines][:1]
        return [(begin, bpm) for bpm in then] + [
            (line.at, line.bpm) for line in self._lines if line.at > begin
        ]

    def bar_line(self, at: float) -> float:
        """The last one by then; `at` itself where no beats were told."""
        if not self._lines:
            return at
        line = next((line for line in reversed(self._lines) if line.at <= at), self._lines[0])
        beat = line.where(at + KEPT_S)
        return min(line.when(self.bar * math.floor(beat / self.bar)), at)

    def _bend(self, seen: _Line | None, now: _Line) -> None:
        """The line ends where it was kept to last, and another goes on there; or the count is a new one."""
        if seen is None or not _goes_on(seen, now):
            self._lines.append(now)
            return
        from_here = seen._replace(beat=self._lines[-1].where(seen.at))  # or what is kept to would add up
        line = from_here._replace(bpm=now.bpm)
        if abs(line.when(now.beat) - now.at) > KEPT_S:  # the tempo has changed in this very beat
            line = from_here._replace(bpm=_between(from_here, now))
        if self._lines[-1].at == seen.at:
            self._lines.pop()
        self._lines.append(line)


def _between(seen: _Line, now: _Line) -> float:
    """Beats a minute from the one to the other."""
    return 60 * (now.beat - seen.beat) / max(now.at - seen.at, 1e-3)


def _goes_on(seen: _Line, now: _Line) -> bool:
    slowest, fastest = sorted((seen.bpm, now.bpm))
    return slowest / SAME_SONG < _between(seen, now) < fastest * SAME_SONG
