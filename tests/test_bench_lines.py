"""The bench of the lines: a figure of ours beside people's."""

from pathlib import Path

import pytest
import tiny

from jazzd.bench import lines
from jazzd.errors import ConfigError, StyleError
from jazzd.solo import SoloGenerator

CHART = '{"tempo_bpm": 160, "bars": [[{"beat": 1, "chord": "Dm7"}], [{"beat": 1, "chord": "G7"}]]}'


def test_ours_stand_beside_the_range_of_people(tmp_path: Path, tiny_base: Path) -> None:
    generator = SoloGenerator.load(tiny_base)
    with pytest.raises(ConfigError, match="no chart"):
        lines.measure(tmp_path, tmp_path, 1, generator, {})
    (tmp_path / "charts").mkdir()
    (tmp_path / "charts" / "tune.json").write_text(CHART)
    for turn in range(3):
        notes = tiny.walk(60, turn=turn, every=20 + turn)
        tiny.write_midi(tmp_path / "people" / f"{turn}.mid", notes, [(0, "Dm7"), (600, "G7")])
    found = lines.measure(tmp_path / "charts", tmp_path / "people", 1, generator, {})
    assert found["people"] == 3
    density = found["figures"]["notes_per_second"]
    assert 4 < density["low"] < density["high"] < 6
    assert density["within"] == (density["low"] <= density["ours"] <= density["high"])
    assert set(found["figures"]) >= {"chord_tones", "scale_tones", "interval", "repeated_bars"}
    with pytest.raises(StyleError, match="cool"):
        lines.measure(tmp_path / "charts", tmp_path / "people", 1, generator, {"cool": 1.0})
