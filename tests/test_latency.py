import json

import pytest

from jazzd.player.latency import REMEMBERED, Latency, percentile


def test_nothing_measured_is_none_and_still_json() -> None:
    summary = Latency().summary()
    assert summary == {"p50": None, "p95": None, "p99": None, "max": None, "n": 0}
    json.dumps(summary)


def test_the_percentiles_are_values_that_were_measured() -> None:
    latency = Latency()
    for value in range(1, 101):
        latency.add(value / 1000)
    assert latency.summary() == {"p50": 50.0, "p95": 95.0, "p99": 99.0, "max": 100.0, "n": 100}


def test_only_the_last_thousand_count() -> None:
    latency = Latency()
    for _ in range(REMEMBERED):
        latency.add(9.0)
    for _ in range(REMEMBERED):
        latency.add(0.001)
    assert latency.summary()["max"] == 1.0


@pytest.mark.parametrize(("share", "value"), [(0.0, 3), (0.5, 3), (0.51, 7), (1.0, 7)])
def test_nearest_rank(share: float, value: int) -> None:
    assert percentile([7, 3], share) == value
