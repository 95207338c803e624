"""What to expect of the human and of the engine, judged by what they did last."""

import itertools
from collections import deque
from statistics import median

from jazzd.music.notes import Seconds
from jazzd.music.tempo import to_ticks

SHORTEST_CHORD, USUAL_CHORD, LONGEST_CHORD = 50, 200, 400
"""Ticks."""
FIRST_LEAD_S, LONGEST_LEAD_S = 0.05, 0.5
"""An answer that took longer was an accident, not to be planned for."""


BEHIND_STRAINS, NOTE_EASES = 0.25, 0.01
"""What a note that came too late adds to the strain, and what one that came in time takes away."""


class Pace:
    def __init__(self) -> None:
        self.strain = 0.0
        """How hard it is for the engine to keep up: 0 (it does) to 1."""
        self._struck_at: deque[Seconds] = deque(maxlen=5)
        self._leads_s = deque([FIRST_LEAD_S], maxlen=8)

    def struck(self, at: Seconds) -> None:
        """The human struck a chord."""
        self._struck_at.append(at)

    def answered(self, delay_s: float) -> None:
        """The engine's answer came this long after the question."""
        self._leads_s.append(min(delay_s, LONGEST_LEAD_S))

    def fell_behind(self, by_s: float) -> None:
        """A note of the engine came this long after its time."""
        self.answered(self.lead_s + by_s)
        self.strain = min(1.0, self.strain + BEHIND_STRAINS)

    def kept_up(self) -> None:
        """A note of the engine came in time."""
        self.strain = max(0.0, self.strain - NOTE_EASES)

    @property
    def chord_ticks(self) -> int:
        """How long the human will hold a chord: nobody knows, but the last ones are a hint."""
        intervals = [later - earlier for earlier, later in itertools.pairwise(self._struck_at)]
        if not intervals:
            return USUAL_CHORD
        return min(max(to_ticks(median(intervals)), SHORTEST_CHORD), LONGEST_CHORD)

    @property
    def lead_s(self) -> float:
        """How long before its time a note has to be asked for."""
        return max(self._leads_s)
