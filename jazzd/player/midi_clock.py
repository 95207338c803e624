"""MIDI clock -> beats: tick times smoothed, song position kept."""

from dataclasses import dataclass

import mido

from jazzd.music.grid import Grid
from jazzd.music.notes import Seconds

TICKS_PER_BEAT = 24
TICKS_PER_SIXTEENTH = 6
SLOWEST_BPM, FASTEST_BPM = 20.0, 400.0
LOST_S, LOST_TICKS = 0.25, 4
"""The clock has stopped when no tick has come for this long, whichever is longer."""
STEADY_TICKS, NIMBLE_TICKS = 48, 8
"""Memory of the two lines through the ticks: one averages jitter away, one follows a change of tempo."""
LEFT_BEHIND_S = 0.007
"""So far apart, the two lines mean that the tempo has changed; +-5 ms of jitter do not reach this."""
FIRST_TICKS = 6
"""Fewer ticks tell no tempo."""


@dataclass
class _Line:
    """A straight line through the last ticks, older ones fading.

    An alpha-beta filter: up to `memory` ticks the gains are those of a least-squares fit (Brookner,
    "Tracking and Kalman Filtering Made Easy", 1998, section 1.2.10), from then on they stay.
    """

    memory: int
    at: float
    """The last tick's time as the line has it."""
    period: float = 0.0
    """Seconds between ticks."""
    count: int = 1

    def tick(self, at: float) -> None:
        if self.count == 1:
            self.period = at - self.at
        self.count += 1
        n = min(self.count, self.memory)
        error = at - (self.at + self.period)
        self.at += self.period + error * 2 * (2 * n - 1) / (n * (n + 1))
        self.period += error * 6 / (n * (n + 1))


class MidiClock:
    """Follows clock, Start, Continue, Stop and song position of one sender."""

    def __init__(self) -> None:
        self.started_at: Seconds | None = None
        """When the last Start or Continue came; None before, and once stopped."""
        self._tick = -1
        """Number of the last tick, counted from the beginning of the song."""
        self._stood: int | None = None
        """The same at the place where Continue goes on: many clocks tick on while the song stands."""
        self._last = Seconds(float("-inf"))
        self._steady: _Line | None = None
        self._nimble: _Line | None = None

    def feed(self, message: mido.Message, at: Seconds) -> bool:
        """A message that came at `at`; whether it was one of these."""
        match message.type:
            case "clock":
                self._heard(at)
            case "start":
                self._tick, self._stood, self.started_at = -1, None, at
            case "continue":
                if self._stood is not None:
                    self._tick, self._stood = self._stood, None
                self.started_at = at
            case "stop":
                self._stood, self.started_at = self._tick, None
            case "songpos":
                self._tick = self._stood = message.pos * TICKS_PER_SIXTEENTH - 1
            case _:
                return False
        return True

    def about_to_tell(self, now: Seconds) -> bool:
        """Whether the song has begun so lately that the clock cannot tell the beats yet."""
        return self.started_at is not None and self.grid(now) is None and now < self.tells_by

    @property
    def tells_by(self) -> Seconds:
        """When a clock that was just started tells its beats, if it ticks at all."""
        return max(Seconds((self.started_at or self._last) + LOST_S), self.lost_at)

    def grid(self, now: Seconds) -> Grid | None:
        """The beats, None while no clock ticks."""
        line = self._steady
        if line is None or line.count < FIRST_TICKS or now >= self.lost_at:
            return None
        if not SLOWEST_BPM <= 60 / (TICKS_PER_BEAT * max(line.period, 1e-6)) <= FASTEST_BPM:
            return None
        return Grid(Seconds(line.at - self._tick * line.period), TICKS_PER_BEAT * line.period)

    @property
    def lost_at(self) -> Seconds:
        """When the clock counts as stopped, if no tick comes before."""
        period = self._steady.period if self._steady else 0.0
        return Seconds(self._last + max(LOST_S, LOST_TICKS * period))

    def _heard(self, at: Seconds) -> None:
        if at >= self.lost_at or self._steady is None or self._nimble is None:
            self._steady, self._nimble = _Line(STEADY_TICKS, at), _Line(NIMBLE_TICKS, at)
        else:
            self._steady.tick(at)
            self._nimble.tick(at)
            if abs(self._nimble.at - self._steady.at) > LEFT_BEHIND_S:
                self._steady = _Line(STEADY_TICKS, self._nimble.at, self._nimble.period, NIMBLE_TICKS)
        self._last = at
        self._tick += 1
