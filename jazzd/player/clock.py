"""The one clock of the player."""

import time
from typing import Protocol


class Clock(Protocol):
    def now(self) -> float:
        """Seconds since some fixed point; never steps back, whatever happens to the time of day."""
        ...


class MonotonicClock:
    """The system's monotonic clock."""

    def now(self) -> float:
        # time.monotonic() is the same clock on Linux, but moves in steps of 16 ms on Windows.
        return time.perf_counter()
