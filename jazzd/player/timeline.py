"""The engine's timeline as the player knows it: its ticks in our seconds, and which of its notes stand."""

from collections.abc import Collection
from typing import NamedTuple

from jazzd.music.notes import Seconds
from jazzd.music.tempo import to_seconds, to_ticks
from jazzd.player.scheduler import PlannedNote


class Made(NamedTuple):
    """What the engine said of a note."""

    number: int
    onset: int
    """Tick."""


class Timeline:
    """Begins at `origin`, seconds of the player's clock.

    A planned note has two names: the scheduler's id, which is never used twice, and the engine's number,
    which is given again when the note was taken back.
    """

    def __init__(self, origin: Seconds) -> None:
        self.origin = origin
        self.last = -1
        """Number of the last note that was planned and not taken back; -1 for none."""
        self.floor = 0
        """Tick before which no note may begin any more."""
        self._made: dict[int, Made] = {}

    def tick(self, at: float) -> int:
        return max(0, to_ticks(at - self.origin))

    def time(self, tick: int) -> Seconds:
        return Seconds(self.origin + to_seconds(tick))

    def raise_floor(self, at: float) -> int:
        """Where a note that cannot come before `at` may begin: never before an older floor, as an answer
        that sounded early still has its place there."""
        self.floor = max(self.floor, self.tick(at))
        return self.floor

    def plan(self, note_id: int, made: Made) -> None:
        self._made[note_id] = made
        self.last = made.number

    def sent(self, note_id: int) -> None:
        self._made.pop(note_id, None)

    def take_back(self, dropped: Collection[PlannedNote]) -> dict[int, Made]:
        """Forgets notes that will not be sent; returns what they were by their ids."""
        made = {note.note_id: self._made.pop(note.note_id) for note in dropped}
        self.last = min((note.number - 1 for note in made.values()), default=self.last)
        return made
