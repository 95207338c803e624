"""MIDI clock -> beats: tick times smoothed, song position kept."""

from dataclasses import dataclass, replace

import mido

from jazzd.music.grid import Grid
from jazzd.music.notes import Seconds

TICKS_PER_BEAT = 24
TICKS_PER_SIXTEENTH = 6
SLOWEST_BPM, FASTEST_BPM = 20.0, 400.0
LOST_S, LOST_TICKS = 0.25, 4
"""The clock has stopped when no tick has come for this long, whichever is longer."""
BACK_S = 4.0
"""A clock that is back so soon had a hiccup: the song goes on."""
STEADY_TICKS, NIMBLE_TICKS = 48, 8
"""Memory of the two lines through the ticks: one averages jitter away, one follows a change of tempo."""
LEFT_BEHIND_S = 0.007
"""So far apart, the two lines mean that the tempo has changed; +-5 ms of jitter do not reach this."""
HELD_UP_S = 0.007
"""A tick later than this counts only if the next one is as late: where one was held up on its way, the next,
that waited with it, is less late by a whole tick."""
FIRST_TICKS = 6
"""Fewer ticks tell no tempo."""
ANOTHER_TEMPO = 0.1
"""After a hiccup a tempo that differs by so much is believed after a whole beat only: ticks that were held up
come all at once."""


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


@dataclass
class _Fit:
    """The two lines through the ticks."""

    steady: _Line
    nimble: _Line

    def tick(self, at: float) -> None:
        self.steady.tick(at)
        self.nimble.tick(at)
        if abs(self.nimble.at - self.steady.at) > LEFT_BEHIND_S:
            self.steady = _Line(STEADY_TICKS, self.nimble.at, self.nimble.period, NIMBLE_TICKS)

    @property
    def next_at(self) -> float:
        """When the next tick is to come."""
        return self.steady.at + self.steady.period

    def copy(self) -> "_Fit":
        return _Fit(replace(self.steady), replace(self.nimble))


@dataclass(frozen=True)
class _Doubt:
    """A tick that came late: it was held up on its way, or the clock has slowed down."""

    at: float
    late_s: float
    before: _Fit
    """The lines without it."""


class MidiClock:
    """Follows clock, Start, Continue, Stop and song position of one sender."""

    def __init__(self) -> None:
        self.started_at: Seconds | None = None
        """When the last Start, Continue or jump in play came; None before, and once stopped."""
        self._tick = -1
        """Number of the last tick, counted from the beginning of the song."""
        self._stood: int | None = None
        """The same at the place where Continue goes on: many clocks tick on while the song stands."""
        self._last = Seconds(float("-inf"))
        self._back_at = Seconds(0.0)
        self._fit: _Fit | None = None
        self._doubt: _Doubt | None = None
        self._before: _Line | None = None
        """The line before the clock was lost, for a beat after its return, or until it is started."""

    def feed(self, message: mido.Message, at: Seconds) -> bool:
        """A message that came at `at`; whether it was one of these."""
        match message.type:
            case "clock":
                self._heard(at)
            case "start":
                self._tick, self._stood, self.started_at, self._before = -1, None, at, None
            case "continue":
                if self._stood is not None:
                    self._tick, self._stood = self._stood, None
                self.started_at, self._before = at, None
            case "stop":
                if self._stood is None:  # said twice, it stands where it did
                    self._stood = self._tick
                self.started_at = None
            case "songpos":
                place = message.pos * TICKS_PER_SIXTEENTH - 1
                if self.started_at is None:
                    self._stood = place
                elif abs(place - self._tick) > TICKS_PER_SIXTEENTH:
                    self.started_at = at
                self._tick = place
            case _:
                return False
        return True

    def about_to_tell(self, now: Seconds) -> bool:
        """Whether the song has begun so lately that the clock cannot tell the beats yet."""
        return self.started_at is not None and self.grid(now) is None and now < self.tells_by

    def hiccups(self, now: Seconds) -> bool:
        """Whether the song goes on, and its clock is lost so lately that it may be back."""
        return self.started_at is not None and self.grid(now) is None and now < self.lost_at + BACK_S

    @property
    def tells_by(self) -> Seconds:
        """When a clock that was just started tells its beats, if it ticks at all."""
        return max(Seconds((self.started_at or self._last) + LOST_S), self.lost_at)

    def grid(self, now: Seconds) -> Grid | None:
        """The beats, None while no clock ticks."""
        line = self._fit.steady if self._fit else None
        if line is None or line.count < FIRST_TICKS or now >= self.lost_at:
            return None
        if not SLOWEST_BPM <= 60 / (TICKS_PER_BEAT * max(line.period, 1e-6)) <= FASTEST_BPM:
            return None
        if self._before and abs(line.period / self._before.period - 1) > ANOTHER_TEMPO:
            return None
        return Grid(Seconds(line.at - self._tick * line.period), TICKS_PER_BEAT * line.period)

    @property
    def lost_at(self) -> Seconds:
        """When the clock counts as stopped, if no tick comes before."""
        period = self._fit.steady.period if self._fit else 0.0
        return Seconds(self._last + max(LOST_S, LOST_TICKS * period))

    def _heard(self, at: Seconds) -> None:
        if at >= self.lost_at or self._fit is None:
            if self._fit and self.grid(self._last):
                self._before, self._back_at = self._fit.steady, at
            self._fit, self._doubt = _Fit(_Line(STEADY_TICKS, at), _Line(NIMBLE_TICKS, at)), None
        else:
            self._follow(self._fit, at)
        if self._before and at > self._back_at + TICKS_PER_BEAT * self._before.period:
            self._before = None
        self._last = at
        self._tick += 1

    def _follow(self, fit: _Fit, at: Seconds) -> None:
        doubt, self._doubt = self._doubt, None
        late_s = at - fit.next_at
        if doubt and late_s > max(HELD_UP_S, doubt.late_s - fit.steady.period / 4):
            self._fit = doubt.before
            self._fit.tick(doubt.at)
            self._fit.tick(at)
        elif late_s > HELD_UP_S and fit.steady.count > FIRST_TICKS:
            self._doubt = _Doubt(at, late_s, fit.copy())
            fit.tick(fit.next_at)
        else:
            fit.tick(at)
