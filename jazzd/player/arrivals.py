"""When messages came that were read a little later."""

import math

WINDOW_S = 2.0
"""How long a quick reading is remembered."""
MOST_S = 0.02
"""A reading that seems later was not: the driver has kept messages to itself, and their time with them."""


class Arrivals:
    """Of one input, from what its driver says of the time between messages.

    By our clock a message came as much before it was read as reading took, which is not known; but some are
    read almost at once. So the driver's time is ours less the shortest delay of late.
    """

    def __init__(self) -> None:
        self._driver_s = 0.0
        """The driver's time: since the first message."""
        self._shortest = self._shortest_before = math.inf
        """Our time less the driver's, in this window and in the one before."""
        self._window_began = 0.0

    def at(self, since_last_s: float, now: float) -> float:
        """When a message came that is read `now`, so long after the one before."""
        self._driver_s += since_last_s
        ahead = now - self._driver_s
        if now - self._window_began > WINDOW_S:
            self._shortest_before, self._shortest, self._window_began = self._shortest, math.inf, now
        self._shortest = min(self._shortest, ahead)
        came = self._driver_s + min(self._shortest, self._shortest_before)
        if now - came > MOST_S:
            self._shortest = self._shortest_before = ahead
            return now
        return came
