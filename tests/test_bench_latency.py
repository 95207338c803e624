"""The latency bench on a few chords, through JACK where it is installed."""

from pathlib import Path

import pytest

from jazzd.bench import latency
from jazzd.errors import ConfigError

pytestmark = pytest.mark.in_time


def test_every_chord_is_answered_and_counted(tiny_base: Path) -> None:
    figures = latency.measure(latency.at_random(4), ["--base", str(tiny_base)])
    assert figures["transport"] in ("jack", "tcp")
    assert figures["chord_to_note_ms"]["n"] == 4
    assert figures["unanswered"] == 0
    assert 0 < figures["chord_to_note_ms"]["p50"] < 2000
    assert {"hardware", "versions", "date", "late", "dropped"} <= figures.keys()


def test_charts_are_played_at_their_own_tempo(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no chart"):
        latency.of_charts(tmp_path, 10)
    chords = '[[{"beat": 1, "chord": "Dm7"}, {"beat": 3, "chord": "G7"}]]'
    bars = '{"time_signature": "%s", "tempo_bpm": 240, "bars": ' + chords + "}"
    (tmp_path / "a.json").write_text(bars % "4/4")
    (tmp_path / "b.json").write_text(bars % "3/4")
    (tmp_path / "c.json").write_text(bars % "4/4")
    comped = latency.of_charts(tmp_path, 3)
    assert [chord.seconds for chord in comped] == [0.5, 0.5, 0.5]
    assert all(len(chord.pitches) >= 2 for chord in comped)
