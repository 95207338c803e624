"""The chords told from notes beside those written down."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import tiny

from jazzd.bench import changes
from jazzd.errors import MidiError

Run = Callable[..., tuple[int, str, str]]
HANDS = {"C": (36, 60, 64, 67), "F": (41, 60, 65, 69), "G7": (43, 59, 62, 65)}
TUNE = ("C", "F", "G7", "C")


def write(path: Path, markers: list[tuple[int, str]]) -> None:
    notes = [(200 * i + 50 * n, 45, p) for i, s in enumerate(TUNE) for n in range(4) for p in HANDS[s]]
    tiny.write_midi(path, notes, markers)


def test_markers_are_compared_with(tmp_path: Path) -> None:
    write(tmp_path / "right.mid", [(200 * i, symbol) for i, symbol in enumerate(TUNE)])
    write(tmp_path / "wrong.mid", [(0, "Eb")])
    write(tmp_path / "silent.mid", [])
    (tmp_path / "broken.mid").write_bytes(b"MThd")
    found = changes.measure(tmp_path)
    assert found["files"] == 2
    assert found["root"] == pytest.approx(0.5, abs=0.06)
    assert list(found["worst"]) == ["wrong.mid", "right.mid"]
    assert found["worst"]["wrong.mid"] == 0


def test_annotations_in_seconds_are_compared_with(tmp_path: Path) -> None:
    write(tmp_path / "a.mid", [])
    spans = [[0.0, 2.0, "C:maj"], [2.0, 4.0, "F:maj/5"], [4.0, 6.0, "G:min7"], [6.0, 8.0, "N"]]
    (tmp_path / "a.json").write_text(json.dumps({"chords": spans}))
    found = changes.measure(tmp_path, tmp_path)
    assert found["root"] == pytest.approx(1.0, abs=0.06)
    assert found["root_and_quality"] == pytest.approx(2 / 3, abs=0.06)


def test_nothing_to_compare_with_is_one_sentence(tmp_path: Path, jazzd: Run) -> None:
    write(tmp_path / "a.mid", [])
    with pytest.raises(MidiError, match="--annotations"):
        changes.measure(tmp_path)
    code, out, err = jazzd("bench", "changes", str(tmp_path), "--json")
    assert (code, out) == (1, "")
    assert err.count("\n") == 1


@pytest.mark.parametrize("text", ["", "{}", '{"chords": [[0, 1, "H:maj9"]]}', '{"chords": 5}'])
def test_a_broken_annotation_leaves_its_file_out(text: str, tmp_path: Path) -> None:
    write(tmp_path / "a.mid", [])
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(MidiError, match="no chords as expected"):
        changes.read(tmp_path / "a.json")
    with pytest.raises(MidiError, match="no file has chords"):
        changes.measure(tmp_path, tmp_path)
