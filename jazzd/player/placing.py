"""Where in time a note goes: on the grid as far as the feel says, and never in the past."""

import math
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from jazzd.music.grid import Grid
from jazzd.music.notes import Seconds
from jazzd.player.knobs import Knobs
from jazzd.player.scheduler import PlannedNote
from jazzd.player.tempo import Tempo

ONE_STROKE_TICKS = 2
"""Notes this near to each other are struck together, wherever the grid puts them."""
ONE_PLACE_BEATS = 1 / 24
"""Half as far as two positions of the grid are apart: nearer than this is the same one."""
CROWDED_BEATS = 1 / 4
"""A note that finds its place taken moves on at most so far: a line that is faster than the grid loses notes
rather than fall behind."""
REMEMBERED = 256
"""Places; more notes than are ever planned at a time."""
AHEAD_S, MOVED_S = 1.0, 0.001
"""The beats have moved when they lie elsewhere by this much, now or as far ahead as notes are planned."""


@dataclass(frozen=True)
class Placed:
    """A note that was given its place."""

    onset: int
    """Tick that the engine gave it."""
    position: Seconds
    """When its position of the grid was, then: the beats may be counted anew since."""
    due: Seconds
    """When it is to sound."""


class Placing:
    """Of one note after the other: two that are not struck together do not share a position."""

    def __init__(self, tempo: Tempo, knobs: Knobs) -> None:
        self._tempo, self._knobs = tempo, knobs
        self._placed: deque[Placed] = deque(maxlen=REMEMBERED)
        self._grid: Grid | None = None
        """By which all notes that are still to come were placed."""

    def anew(self) -> None:
        """What comes next is of another phrase."""
        self._placed.clear()
        self._grid = None

    def take_back(self, dropped: Sequence[PlannedNote]) -> None:
        """Forgets the places of these, and of all that came after them."""
        if dropped:
            first = min(note.due for note in dropped)
            self._remember(placed for placed in self._placed if placed.due < first)

    def moved(self, now: Seconds) -> bool:
        """Whether the beats have come to lie elsewhere than where notes are placed."""
        source, grid = self._tempo.now(now)
        if self._free:
            return False
        if grid is None or self._grid is None:
            return grid is not None or source == "clock"
        apart = max(self._grid.apart(grid, at) for at in (now, now + AHEAD_S))
        return apart * grid.beat_s > MOVED_S

    def follow(self, now: Seconds) -> Callable[[float], Seconds] | None:
        """Moves the places that are still to come with the beats; returns how times move.

        None where somebody else tells the beats, so that these are others.
        """
        before, self._grid = self._grid, self._tempo.grid(now)
        grid = self._grid
        moved = before.onto(grid, now, ONE_PLACE_BEATS) if grid and before else None
        if moved is None:
            return None
        self._remember(
            replace(place, position=moved(place.position), due=moved(place.due)) if place.due > now else place
            for place in self._placed
        )
        return moved

    def due(self, onset: int, due: Seconds, now: Seconds) -> Seconds | None:
        """When a note that the engine put at tick `onset`, our time `due`, is to sound; None where there is
        no room for it."""
        feel = self._knobs.feel
        if self._free:
            return Seconds(due + feel.layback_s)
        source, told = self._tempo.now(now)
        grid = self._grid = self._grid or told
        if grid is None:  # the beats of a clock that was just started are soon known
            held = max(due, self._tempo.clock.tells_by) if source == "clock" else due
            return Seconds(held + feel.layback_s)
        last = self._placed[-1] if self._placed else None
        if last and onset - last.onset <= ONE_STROKE_TICKS:
            position = last.position
            at = last.due if feel.quantize else self._heard_at(grid, feel.placed(grid.beat(due)))
            at = max(at, now)
        else:
            beat = grid.beat(due)
            taken = grid.beat(last.position) + ONE_PLACE_BEATS if last else -math.inf
            if feel.placed(beat, taken) - feel.placed(beat) > CROWDED_BEATS + 1e-9:
                return None
            after = max(taken, grid.beat(now - feel.layback_s))
            position = grid.time(feel.nearest(beat, after))
            at = self._heard_at(grid, feel.placed(beat, after))
        self._placed.append(Placed(onset, position, at))
        return at

    def on_beat(self, onset: int, at: Seconds, now: Seconds) -> Seconds:
        """When an answer that was asked for on the beat `at` is to sound."""
        due = Seconds(at + self._knobs.feel.layback_s)
        if self._tempo.grid(now):
            self._placed.append(Placed(onset, at, due))
        return due

    def _remember(self, placed: Iterable[Placed]) -> None:
        self._placed = deque(placed, maxlen=REMEMBERED)

    @property
    def _free(self) -> bool:
        """Whether notes sound when the engine says, whatever the beat."""
        return self._knobs.feel.quantize == 0 and self._knobs.feel.swing == 50

    def _heard_at(self, grid: Grid, beat: float) -> Seconds:
        return Seconds(grid.time(beat) + self._knobs.feel.layback_s)
