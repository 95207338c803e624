"""Chords that are known before they sound: those a human has just played, or those of a chart."""

import math
from dataclasses import dataclass, replace
from typing import Self

from jazzd.music import voicing
from jazzd.music.chart import Progression
from jazzd.music.chords import Chord
from jazzd.music.grid import BEATS_PER_BAR, Grid
from jazzd.music.notes import Seconds

COMPING_VELOCITY = 64


@dataclass(frozen=True)
class Foreseen:
    """A chord to come: its keys with their velocities; none for a bar without a chord."""

    at: Seconds
    duration_s: float
    chord: Chord | None
    keys: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Form:
    """Chords in order, and when the music over them is over; None for never."""

    changes: tuple[Foreseen, ...]
    end: Seconds | None = None
    grid: Grid | None = None
    """The beats that it lies on, if it lies on any."""

    def carried(self, onto: Grid, now: Seconds) -> Self:
        """What is still to come of it on the same beats of another grid."""
        if self.grid is None or (moved := self.grid.onto(onto, now)) is None:
            return self

        def when(at: Seconds) -> Seconds:
            return moved(at) if at > now else at

        changes = []
        for change in self.changes:
            at, over = when(change.at), when(Seconds(change.at + change.duration_s))
            changes.append(replace(change, at=at, duration_s=over - at))
        end = None if self.end is None else when(self.end)
        return replace(self, changes=tuple(changes), end=end, grid=onto)

    def chord(self, at: float) -> Chord | None:
        """What sounds then."""
        begun = [change for change in self.changes if change.at <= at]
        return begun[-1].chord if begun else None

    def repeated(self, begin: Seconds, length_s: float, times: int) -> Self:
        """The same chords from `begin` on, so often, `length_s` from one time to the next.

        The first chord counts as the beginning, wherever in time it was.
        """
        first = self.changes[0].at
        changes = [
            replace(change, at=Seconds(begin + n * length_s + change.at - first))
            for n in range(times)
            for change in self.changes
        ]
        return replace(self, changes=tuple(changes), end=Seconds(begin + times * length_s))


class Chart:
    """A tune: chords with their lengths in bars, again and again from beat 0 on."""

    def __init__(self, progression: Progression, bar: int = BEATS_PER_BAR) -> None:
        """`bar`: its beats."""
        self.bar = bar
        self._changes: list[tuple[float, float, Chord | None]] = []
        beat = 0.0
        for chord, bars in progression:
            self._changes.append((beat, bars * bar, chord))
            beat += bars * bar
        self.beats = beat
        """Length of one chorus."""

    def form(self, grid: Grid, begin: float, end: float, over: bool = False) -> Form:
        """The chords that sound from beat `begin` up to beat `end`; `over`: the music ends there."""
        changes = []
        for chorus in range(math.floor(begin / self.beats), math.ceil(end / self.beats)):
            for place, beats, chord in self._changes:
                starts = chorus * self.beats + place
                if starts + beats > begin and starts < end:
                    keys = tuple((pitch, COMPING_VELOCITY) for pitch in voicing.plain(chord)) if chord else ()
                    changes.append(Foreseen(grid.time(starts), beats * grid.beat_s, chord, keys))
        return Form(tuple(changes), grid.time(end) if over else None, grid)
