"""The engine's timeline as the player knows it: its ticks in our seconds, and which of its notes stand."""

from collections.abc import Collection

from jazzd.music.notes import Seconds
from jazzd.music.tempo import to_seconds, to_ticks
from jazzd.player.scheduler import PlannedNote


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
        self._numbers: dict[int, int] = {}

    def tick(self, at: float) -> int:
        return max(0, to_ticks(at - self.origin))

    def time(self, tick: int) -> Seconds:
        return Seconds(self.origin + to_seconds(tick))

    def raise_floor(self, at: float) -> int:
        """Where a note that cannot come before `at` may begin: never before an older floor, as an answer
        that sounded early still has its place there."""
        self.floor = max(self.floor, self.tick(at))
        return self.floor

    def plan(self, note_id: int, number: int) -> None:
        self._numbers[note_id] = number
        self.last = number

    def sent(self, note_id: int) -> None:
        self._numbers.pop(note_id, None)

    def take_back(self, dropped: Collection[PlannedNote]) -> dict[int, int]:
        """Forgets notes that will not be sent; returns their numbers by their ids."""
        numbers = {note.note_id: self._numbers.pop(note.note_id) for note in dropped}
        self.last = min((number - 1 for number in numbers.values()), default=self.last)
        return numbers
