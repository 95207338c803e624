"""How long an answer takes, over the last thousand of them."""

import math
from collections import deque
from collections.abc import Collection

REMEMBERED = 1000


def percentile(values: Collection[float], share: float) -> float:
    """The smallest of `values` that `share` (0..1) of them do not exceed (nearest rank)."""
    return sorted(values)[max(math.ceil(share * len(values)) - 1, 0)]


class Latency:
    def __init__(self) -> None:
        self._values_ms: deque[float] = deque(maxlen=REMEMBERED)

    def add(self, seconds: float) -> None:
        self._values_ms.append(1000 * seconds)

    def summary(self) -> dict[str, float | None]:
        """p50, p95, p99 and max in milliseconds (None before the first), and of how many."""
        values = self._values_ms
        shares = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "max": 1.0}
        return {
            **{key: round(percentile(values, share), 1) if values else None for key, share in shares.items()},
            "n": len(values),
        }
