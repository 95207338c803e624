"""Where in time a note goes: on the grid as far as the feel says, and never in the past."""

from dataclasses import dataclass

from jazzd.music.notes import Seconds
from jazzd.player.knobs import Knobs
from jazzd.player.tempo import Tempo

ONE_STROKE_TICKS = 2
"""Notes this near to each other are struck together, wherever the grid puts them."""


@dataclass(frozen=True)
class Placed:
    """A note that was given its place."""

    onset: int
    """Tick that the engine gave it."""
    position: float
    """Its beat."""


class Placing:
    """Of one note after the other: two that are not struck together do not share a position."""

    def __init__(self, tempo: Tempo, knobs: Knobs) -> None:
        self._tempo, self._knobs = tempo, knobs
        self._last: Placed | None = None

    def anew(self) -> None:
        """What was placed last has been taken back, or is of another phrase."""
        self._last = None

    def due(self, onset: int, due: Seconds, now: Seconds) -> Seconds:
        """When a note that the engine put at tick `onset`, our time `due`, is to sound."""
        grid, feel = self._tempo.grid(now), self._knobs.feel
        if grid is None or (feel.quantize == 0 and feel.swing == 50):
            return Seconds(due + feel.layback_s)
        last = self._last
        if last and onset - last.onset <= ONE_STROKE_TICKS:
            position = last.position
            placed = position if feel.quantize else feel.placed(grid.beat(due))
        else:
            after = max(last.position if last else -1e9, grid.beat(now - feel.layback_s))
            position = feel.nearest(grid.beat(due), after)
            placed = feel.placed(grid.beat(due), after)
        self._last = Placed(onset, position)
        return Seconds(grid.time(placed) + feel.layback_s)

    def on_beat(self, onset: int, at: Seconds, now: Seconds) -> Seconds:
        """When an answer that was asked for on the beat `at` is to sound."""
        if grid := self._tempo.grid(now):
            self._last = Placed(onset, grid.beat(at))
        return Seconds(at + self._knobs.feel.layback_s)
