"""The tempo map of what was played: where each beat was, in as few straight lines as say it."""

import math
from collections import deque
from typing import NamedTuple

from jazzd.music.grid import BEATS_PER_BAR, Grid, Song

KEPT_S = 0.005
"""A beat so near to where the line puts it lies on it."""
SLOWEST_BPM, FASTEST_BPM = 10.0, 990.0
"""What every DAW can be told."""
IN_BARS = ("clock", "link")
"""Whose beat 0 is the first of a bar for others, too."""
GAP_S = 1.0
"""How long before a new song the map may begin to hurry to its bar."""
MOST_LINES = 4096
"""More than one a beat in ten minutes."""


class _Line(NamedTuple):
    at: float
    beat: float
    """Of the map, which counts on however often the song begins anew."""
    bpm: float

    def when(self, beat: float) -> float:
        return self.at + (beat - self.beat) * 60 / self.bpm

    def where(self, at: float) -> float:
        return self.beat + (at - self.at) * self.bpm / 60

    def begun(self, at: float, bpm: float) -> "_Line":
        """Another one from there on."""
        return _Line(at, self.where(at), bpm)

    def through(self, at: float, beat: float) -> "_Line":
        """The line from the same place through that one."""
        return self._replace(bpm=60 * (beat - self.beat) / max(at - self.at, 1e-6))

    @property
    def sane(self) -> bool:
        return SLOWEST_BPM <= self.bpm <= FASTEST_BPM


class TempoMap:
    """Told again and again where the beats lie."""

    def __init__(self) -> None:
        self.bar = BEATS_PER_BAR
        """Beats of a bar."""
        self._lines: deque[_Line] = deque(maxlen=MOST_LINES)
        self._seen = 0.0
        """When the beats were compared with the line last."""
        self._song: Song | None = None
        self._ahead = 0.0
        """What the map has counted more than the song."""

    def count(self, at: float, grid: Grid) -> None:
        """The beats lie so at `at`; every beat is looked at once."""
        self.bar = grid.bar
        if not self._lines:
            self._lines.append(_Line(at, grid.beat(at), grid.bpm))
            self._song, self._seen = grid.song, at
        elif grid.song != self._song:
            self._song = grid.song
            self._begin(at, grid)
        elif math.floor(self._lines[-1].where(self._seen)) != math.floor(grid.beat(at) + self._ahead):
            self._compare(at, grid)

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

    def _compare(self, at: float, grid: Grid) -> None:
        """A line that the beat is not on ends where it was kept to last; another goes on there."""
        beat, line = grid.beat(at) + self._ahead, self._lines[-1]
        if abs(line.when(beat) - at) > KEPT_S:
            from_here = line.begun(self._seen, grid.bpm)
            if abs(from_here.when(beat) - at) > KEPT_S:  # the tempo has changed since then
                from_here = from_here.through(at, beat)
            if not from_here.sane:
                return
            self._go_on(from_here)
        self._seen = at

    def _begin(self, at: float, grid: Grid) -> None:
        """Somebody counts anew: their bars are to be bars of the map, or their beats at least its beats."""
        since = grid.song[1] if grid.song else None
        at = since if since is not None and self._seen < since < at else at
        line = self._lines[-1]
        gap = line.begun(max(line.at, min(self._seen, at - GAP_S)), grid.bpm)
        apart, near = line.where(at) - grid.beat(at), KEPT_S / grid.beat_s
        self._ahead = apart
        for unit in (grid.bar, 1) if grid.song and grid.song[0] in IN_BARS else (1,):
            ahead = unit * (math.ceil((apart - near) / unit) if unit > 1 else round(apart))
            if abs(ahead - apart) <= near:
                self._ahead = ahead
                break
            bridge = gap.through(at, grid.beat(at) + ahead)
            if bridge.sane:
                self._ahead = ahead
                self._go_on(bridge)
                break
        self._go_on(_Line(at, grid.beat(at) + self._ahead, grid.bpm))
        self._seen = at

    def _go_on(self, line: _Line) -> None:
        if self._lines[-1].at == line.at:
            self._lines.pop()
        self._lines.append(line)
