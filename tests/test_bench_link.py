from pathlib import Path

import pytest

from jazzd.bench import link

pytestmark = pytest.mark.in_time


def test_round_trips_of_both_kinds_are_measured(tiny_base: Path) -> None:
    figures = link.measure(20, ["--base", str(tiny_base)])
    for kind in ("unix_ms", "tcp_ms"):
        assert figures[kind]["n"] == 20
        assert 0 < figures[kind]["p50"] <= figures[kind]["p99"] <= figures[kind]["max"] < 5000
