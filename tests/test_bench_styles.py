"""The styles bench on few switches: every figure is there, and nothing is late because a style changed."""

from pathlib import Path

import pytest

from jazzd.bench import styles

pytestmark = pytest.mark.in_time


def test_switches_are_counted_and_nothing_hangs(tiny_base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(styles, "DROPS_EVERY", 6)
    monkeypatch.setattr(styles, "STEPS", 27)
    monkeypatch.setattr(styles, "RESIDENT", 4)
    figures = styles.measure(str(tiny_base), ["--base", str(tiny_base)], switches=12)
    assert figures["switches"] == 12
    assert figures["notes"] > 0
    assert (figures["stuck"], figures["dropped"], figures["recompilations"]) == (0, 0, 0)
    assert figures["file_to_ready_ms"]["n"] == 2
    assert 0 < figures["file_to_ready_ms"]["p50"] < 5000
    assert figures["resident"] == 4
    assert figures["step_ratio_32"] > 0.2
    assert {"hardware", "versions", "date", "late", "step_ratio_32_blend"} <= figures.keys()
