"""How long an answer takes, over the last thousand of them."""

import math
from collections import deque
from collections.abc import Collection

REMEMBERED = 1000


def percentile(values: Collection[float], share: float) -> float:
    """The smallest of `values` that `share` (0..1) of them do not exceed (nearest rank)."""
    return sorted(values)[max(math.ceil(share * len(values)) - 1, 0)]


def summary(values_ms: Collection[float]) -> dict[str, float | None]:
    """p50, p95, p99 and max of milliseconds (None where there are none), and of how many."""
    shares = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "max": 1.0}
    figures = {
        key: round(percentile(values_ms, share), 2) if values_ms else None for key, share in shares.items()
    }
    return {**figures, "n": len(values_ms)}


class Latency:
    def __init__(self) -> None:
        self._values_ms: deque[float] = deque(maxlen=REMEMBERED)

    def add(self, seconds: float) -> None:
        self._values_ms.append(1000 * seconds)

    def summary(self) -> dict[str, float | None]:
        """In milliseconds; see the function."""
        return summary(self._values_ms)
