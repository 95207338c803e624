"""Solos over the chords of pieces: the same charts and dice for everybody, to be measured and heard."""

from pathlib import Path

import mido
import numpy as np
import pytest
import tiny
from lines import line

from jazzd.engine.protocol import Sampling
from jazzd.styles.wardrobe import Wardrobe
from jazzd.teach import audition
from jazzd.teach.audition import CHARTS, Player, before_and_after, charts, improvised, own_chart, takes
from jazzd.teach.line import Line
from jazzd.teach.metre import steady

WILD = Player(sampling=Sampling(temperature=1.0, top_p=1.0))


def piece(name: str = "tune", begin: int = 100) -> Line:
    """Two chords and a rest, a second and a half each."""
    changes = [(0, "N.C."), (begin, "Dm7"), (begin + 150, "N.C."), (begin + 300, "G7"), (begin + 300, "G7b9")]
    return line([60] * 12, begin + 50 * np.arange(12), changes=changes, beats=steady(120.0, 10.0), name=name)


@pytest.fixture
def cool(tmp_path: Path) -> Player:
    tiny.write_style(tmp_path / "styles" / "cool.safetensors")
    wardrobe = Wardrobe.open(tmp_path / "styles", tiny.base())
    wardrobe.registry.rescan()
    return Player("cool", wardrobe.mix({"cool": 1.0}), WILD.sampling)


def test_a_chart_is_the_chords_of_a_piece_from_the_first_one_on() -> None:
    (chart,) = charts([piece()], 3)
    told = [(part.onset, part.duration, part.chord and part.chord.symbol) for part in chart.parts]
    assert told == [(0, 1.5, "Dm7"), (1.5, 1.5, None), (3.0, 2.7, "G7b9")]
    assert chart.parts[0].pitches
    assert not chart.parts[1].pitches
    assert chart.beats.ticks[:4].tolist() == [-100, -50, 0, 50]


def test_a_long_piece_is_left_after_a_minute() -> None:
    changes = [(1000 * n, "C7") for n in range(20)]
    (chart,) = charts([line([60, 62], [0, 20_000], changes=changes)], 1)
    assert chart.parts[-1].onset + chart.parts[-1].duration == audition.LONGEST_S


def test_charts_are_taken_evenly_and_one_is_our_own() -> None:
    lines = [piece(str(n)) if n % 2 else line([60], name=str(n)) for n in range(20)]
    assert [chart.name for chart in charts(lines, 4)] == ["1", "5", "11", "15"]
    assert len(charts(lines, 99)) == 10
    (own,) = charts([line([60]), line([60], changes=[(0, "N.C.")]), line([60], [0], 5, [(90, "C")])], 4)
    assert own.parts == own_chart().parts
    assert own.beats.tempo == pytest.approx(audition.FORM_TEMPO)


def test_the_same_seed_the_same_notes_and_a_style_others(cool: Player) -> None:
    (chart,) = charts([piece()], 1)
    plain = improvised(tiny.decoder(), WILD, chart, 3)
    assert plain
    assert improvised(tiny.decoder(), cool, chart, 3) != plain
    assert improvised(tiny.decoder(), WILD, chart, 3) == plain
    assert improvised(tiny.decoder(), WILD, chart, 4) != plain


def test_takes_are_lines_over_the_charts_in_turn() -> None:
    over = charts([piece("a"), piece("b", 40)], 2)
    steps: list[tuple[int, int]] = []
    found = takes(tiny.decoder(), WILD, over, 3, lambda done, of: steps.append((done, of)))
    assert [each.name for each in found] == [f"plain base over {name}" for name in "aba"]
    assert steps == [(1, 3), (2, 3), (3, 3)]
    for each, chart in zip(found, [*over, over[0]], strict=True):
        assert each.changes == tuple((round(100 * part.onset), part.chord) for part in chart.parts)
        assert each.rows[:, 0].max() < 570
        assert (np.diff(each.rows[:, 0]) >= 0).all()
        assert each.beats is chart.beats
    assert found[0].rows.tolist() != found[2].rows.tolist()


def test_before_and_after_are_over_the_same_charts(cool: Player, tmp_path: Path) -> None:
    lines = [piece(f"tune {n}") for n in range(6)]
    before_and_after(tmp_path / "audition", tiny.model(), WILD, cool, lines)
    names = [f"{word}_{n}.mid" for word in ("after", "before") for n in range(1, CHARTS + 1)]
    assert sorted(path.name for path in (tmp_path / "audition").iterdir()) == names
    for n in range(1, CHARTS + 1):
        before, after = (
            mido.MidiFile(tmp_path / "audition" / f"{word}_{n}.mid") for word in ("before", "after")
        )
        assert [track.name for track in before.tracks[1:]] == ["chords", "solo"]
        assert before.tracks[:2] == after.tracks[:2]
        assert before.tracks[2] != after.tracks[2]
        marks = [message.text for message in before.tracks[0] if message.type == "marker"]
        assert marks == ["Dm7", "N.C.", "G7b9"]
