"""The one clock of the player."""

import time
from typing import Protocol

AWAKE_S = 0.0003
"""Who sleeps to the very end wakes up late: the clock is watched for so long. Less than the switch interval
that the player sets, or another thread would be let in just before the time."""


class Clock(Protocol):
    def now(self) -> float:
        """Seconds since some fixed point; never steps back, whatever happens to the time of day."""
        ...


class Timer(Clock, Protocol):
    def sleep_until(self, at: float) -> None:
        """Returns at that time of the clock: not before, and hardly after."""
        ...


class MonotonicClock:
    """The system's monotonic clock."""

    def now(self) -> float:
        # time.monotonic() is the same clock on Linux, but moves in steps of 16 ms on Windows.
        return time.perf_counter()

    def sleep_until(self, at: float) -> None:
        while (left := at - self.now()) > 0:
            if left > AWAKE_S:
                time.sleep(left - AWAKE_S)
