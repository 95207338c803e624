"""The latency bench on a few chords, through JACK where it is installed."""

from pathlib import Path

from jazzd.bench import latency


def test_every_chord_is_answered_and_counted(tiny_base: Path) -> None:
    figures = latency.measure(4, ["--base", str(tiny_base)])
    assert figures["transport"] in ("jack", "tcp")
    assert figures["chord_to_note_ms"]["n"] == 4
    assert figures["unanswered"] == 0
    assert 0 < figures["chord_to_note_ms"]["p50"] < 2000
    assert {"hardware", "versions", "date", "late", "dropped"} <= figures.keys()
