"""Folders as people have them -> pieces to learn from: whose notes, which chords, which side."""

import json
from collections.abc import Callable
from dataclasses import replace
from io import StringIO
from pathlib import Path

import disk
import mido
import numpy as np
import pytest
import tiny
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from jazzd.errors import MidiError
from jazzd.moonbeam.tokens import OCTAVE, ONSET, PITCH_CLASS
from jazzd.teach import corpus, prepare, report
from jazzd.teach.corpus import Gathered, Piece, Refused
from jazzd.teach.prepare import split, study

Run = Callable[..., tuple[int, str, str]]
CHANGES = [(0, "Dm7"), (400, "G7"), (800, "Cmaj7")]
HELD = [(at, 380, pitch) for at, chord in ((0, (50, 53, 57, 60)), (400, (43, 53, 59, 62))) for pitch in chord]


def studied(path: Path) -> Piece:
    piece = study(None, path, path.name)
    assert isinstance(piece, Piece)
    return piece


def with_track(path: Path, name: str, notes: list[tuple[int, int, int]]) -> Path:
    """The file with one track more."""
    file = mido.MidiFile(path)
    other = mido.MidiFile(tiny.write_midi(path.with_name("other.mid"), notes)).tracks[0]
    path.with_name("other.mid").unlink()
    other.insert(0, mido.MetaMessage("track_name", name=name))
    file.tracks.append(other)
    file.save(path)
    return path


def drums(path: Path) -> Path:
    file = mido.MidiFile(tiny.write_midi(path, tiny.walk(30)))
    for message in file.tracks[0]:
        if not message.is_meta:
            message.channel = 9
    file.save(path)
    return path


def test_marked_chords_come_before_all_others(tmp_path: Path) -> None:
    path = with_track(tiny.write_midi(tmp_path / "a.mid", tiny.walk(40), CHANGES), "chords", HELD)
    piece = studied(path)
    assert (piece.voice, piece.chords_from, piece.chords) == ("line", "markers", tuple(CHANGES))
    assert len(piece.rows) == 40


def test_a_track_of_chords_is_read(tmp_path: Path) -> None:
    path = with_track(tiny.write_midi(tmp_path / "a.mid", tiny.walk(40)), "chords", HELD)
    piece = studied(path)
    assert (piece.voice, piece.chords_from) == ("line", "track")
    assert piece.chords[:2] == ((0, "Dm7"), (400, "G7"))


def test_chords_are_told_from_an_accompaniment(tmp_path: Path) -> None:
    path = with_track(tiny.write_midi(tmp_path / "a.mid", tiny.walk(40)), "Piano", HELD)
    piece = studied(path)
    assert (piece.voice, piece.chords_from) == ("line", "notes")
    assert piece.chords


def test_a_line_alone_implies_no_chords(tmp_path: Path) -> None:
    piece = studied(tiny.write_midi(tmp_path / "a.mid", tiny.walk(40), program=66))
    assert (piece.voice, piece.chords_from, piece.chords) == ("line", "", ())


@pytest.fixture
def messy(tmp_path: Path) -> Path:
    """Good pieces and everything that is none."""
    for n in range(8):
        tiny.write_midi(tmp_path / f"tune{n}.mid", tiny.walk(40 + n, turn=n), CHANGES)
    copy = [(2 * on, lasts, pitch + 5) for on, lasts, pitch in tiny.walk(40)]
    tiny.write_midi(tmp_path / "Other Name.midi", copy)  # tune0, slower and a fourth higher
    drums(tmp_path / "drums.mid")
    tiny.write_midi(tmp_path / "silent.mid", [])
    (tmp_path / "broken.mid").write_bytes((tmp_path / "tune0.mid").read_bytes()[:40])
    (tmp_path / "empty.mid").touch()
    (tmp_path / "read me.txt").write_text("no music")
    return tmp_path


def test_every_file_is_a_piece_or_has_its_reason(messy: Path) -> None:
    found = prepare.prepare(messy)
    assert sorted(piece.name for piece in found.pieces) == [
        "Other Name.midi",
        *(f"tune{n}.mid" for n in range(1, 8)),
    ]
    reasons = {item.name: item.reason for item in found.refused}
    assert "only drums" in reasons["drums.mid"]
    assert "no notes" in reasons["silent.mid"]
    assert "not a MIDI file" in reasons["broken.mid"]
    assert "the notes of Other Name.midi" in reasons["tune0.mid"]
    assert reasons.keys() == {"drums.mid", "silent.mid", "broken.mid", "empty.mid", "tune0.mid"}


def test_a_dataset_is_what_was_found(messy: Path, tmp_path: Path) -> None:
    found = prepare.prepare(messy)
    target = tmp_path / "new" / "dataset"
    told = prepare.write(target, found)
    assert json.loads((target / "report.json").read_text()) == told
    assert (target / "report.png").read_bytes().startswith(b"\x89PNG")
    assert told["files"] == 13
    assert told["samples"] == 12 * told["pieces"] == 12 * 8
    assert told["notes"] == sum(side["notes"] for side in told["sides"].values())
    loaded = corpus.load(target / corpus.STORED)
    assert [(p.name, p.side, p.voice, p.chords_from, p.chords) for p in loaded] == [
        (p.name, p.side, p.voice, p.chords_from, p.chords) for p in found.pieces
    ]
    for one, other in zip(loaded, found.pieces, strict=True):
        np.testing.assert_array_equal(one.rows, other.rows)
    prepare.write(target, found)  # a dataset may be made again


def test_nothing_else_is_written_over(tmp_path: Path) -> None:
    (tmp_path / "letters.txt").write_text("dear")
    found = Gathered((studied(tiny.write_midi(tmp_path / "a.mid", tiny.walk(20))),), ())
    with pytest.raises(MidiError, match="other files"):
        prepare.write(tmp_path, found)


def test_what_does_not_fit_the_disk_leaves_the_dataset_before(messy: Path, tmp_path: Path) -> None:
    found, target = prepare.prepare(messy), tmp_path / "dataset"
    for size in (100, 3_000, 60_000):  # the picture, the report, the pieces
        with disk.full(size), pytest.raises(MidiError, match=r"File too large\); choose another folder"):
            prepare.write(target, heavy(found))
        assert not target.exists()
    prepare.write(target, found)
    before = {path.name: path.read_bytes() for path in target.iterdir()}
    with disk.full(60_000), pytest.raises(MidiError, match="File too large"):
        prepare.write(target, heavy(found))
    assert {path.name: path.read_bytes() for path in target.iterdir()} == before


def heavy(found: Gathered) -> Gathered:
    """With a piece that takes much room."""
    dice = np.random.default_rng(0)
    rows = np.concatenate([np.arange(60_000)[:, None], dice.integers(1, 100, (60_000, 5))], axis=1)
    rows[:, OCTAVE] %= 10
    rows[:, PITCH_CLASS] %= 12
    return replace(found, pieces=(*found.pieces, Piece("long.mid", rows)))


def test_only_drums_are_no_dataset(tmp_path: Path) -> None:
    drums(tmp_path / "kit.mid")
    with pytest.raises(MidiError, match="only drums"):
        prepare.prepare(tmp_path)


def pieces(sizes: list[int]) -> list[Piece]:
    """One of each size, and a second take of the first tune."""
    found = [Piece(f"Tune{n}_1.mid", tiny_rows(size)) for n, size in enumerate(sizes)]
    return [*found, Piece("Tune0_2.mid", tiny_rows(3))]


def tiny_rows(size: int) -> np.ndarray:
    return np.array([[20 * i, 10, 5, i % 12, 0, 80] for i in range(size)])


SIZES = st.lists(st.integers(1, 400), min_size=1, max_size=60)


@given(SIZES, st.integers(0, 5))
def test_takes_stay_together_and_most_of_the_music_is_learned_from(sizes: list[int], seed: int) -> None:
    found = split(pieces(sizes), seed=seed)
    sides: dict[str, set[str]] = {}
    for piece in found:
        sides.setdefault(piece.name.split("_")[0], set()).add(piece.side)
    assert all(len(of_tune) == 1 for of_tune in sides.values())
    counts = [sum(side == {name} for side in sides.values()) for name in ("train", "validation", "test")]
    assert counts[0] >= 1
    assert [count > 0 for count in counts] == [True, len(sizes) > 1, len(sizes) > 2]
    assert [p.side for p in split(pieces(sizes), seed=seed)] == [p.side for p in found]


def test_takes_are_told_by_their_names() -> None:
    takes = ("Tune", "Tune_2", "Tune_1961", "Tune_AlternateTake", "Tune (alt take)", "Tune - take 3")
    assert {Piece(f"{name}.mid", tiny_rows(1)).tune for name in takes} == {"Tune"}
    for name in ("001", "BWV862", "Cobalt", "Opus 12", "Intake"):
        assert Piece(f"{name}.mid", tiny_rows(1)).tune == name


@pytest.mark.parametrize("name", ["evans_{}.mid", "take {}.mid", "{}.mid"])
def test_numbered_files_are_tunes_of_their_own(name: str) -> None:
    found = split([Piece(name.format(n), tiny_rows(50)) for n in range(15)])
    assert {piece.side for piece in found} == {"train", "validation", "test"}


def test_another_seed_splits_another_way_and_the_shares_are_as_asked() -> None:
    sizes = [50] * 40
    sides = [[piece.side for piece in split(pieces(sizes), seed=seed)] for seed in (0, 1)]
    assert sides[0] != sides[1]
    thirds = [piece.side for piece in split(pieces(sizes), (0.4, 0.2, 0.4))]
    assert [thirds.count(side) for side in ("train", "validation", "test")] == [17, 8, 16]
    assert "test" not in [piece.side for piece in split(pieces(sizes), (0.8, 0.2, 0.0))]


def test_the_kinds_of_chords_are_shares_of_the_time() -> None:
    rows = tiny_rows(50)
    piece = Piece("a", rows, ((0, "Dm7"), (500, "G7"), (750, "N.C.")))
    assert rows[-1, ONSET] == 980
    assert report.kinds([piece]) == {"m7": 0.5102, "7": 0.2551, "N.C.": 0.2347}


def test_refusals_and_pieces_are_listed_for_people(tmp_path: Path) -> None:
    piece = studied(tiny.write_midi(tmp_path / "[bold].mid", tiny.walk(20), CHANGES))
    figures = report.report(Gathered((piece,), (Refused("b.mid", "b.mid: no notes in it"),)))
    assert figures["refused"] == [{"file": "b.mid", "reason": "b.mid: no notes in it"}]
    screen = StringIO()
    Console(file=screen, width=160).print(report.shown(figures))
    assert "[bold].mid" in screen.getvalue()


def test_the_command_shows_what_it_found(messy: Path, tmp_path: Path, jazzd: Run) -> None:
    target = tmp_path / "dataset"
    code, out, _ = jazzd("prepare", str(messy), "-o", str(target), "--json")
    assert code == 0
    assert json.loads(out) == json.loads((target / "report.json").read_text())
    code, out, _ = jazzd("prepare", str(messy), "-o", str(target), "--voice", "all", "--split", "50,50,0")
    assert code == 0
    assert "only drums" in out
    assert "test 0 (0 notes)" in " ".join(out.split())
    assert {piece.voice for piece in corpus.load(target / corpus.STORED)} == {"all"}


@pytest.mark.parametrize(
    ("words", "expected", "said"),
    [
        (["--split", "80,20"], 2, "three percentages"),
        (["--split", "80,10,20"], 2, "three percentages"),
        (["--split", "nan,10,20"], 2, "three percentages"),
        (["--split", "0,50,50"], 2, "three percentages"),
        (["--voice", "left"], 2, "left"),
        (["--seed", "-1"], 2, "seed"),
    ],
)
def test_what_cannot_be_is_said(words: list[str], expected: int, said: str, messy: Path, jazzd: Run) -> None:
    code, out, err = jazzd("prepare", str(messy), "-o", str(messy / "dataset"), *words)
    assert (code, out) == (expected, "")
    assert said in err
    assert "Traceback" not in err


def test_a_folder_that_is_none_is_one_sentence(tmp_path: Path, jazzd: Run) -> None:
    (tmp_path / "a file").touch()
    for words in (
        ["nowhere", "-o", "x"],
        [str(tmp_path), "-o", "x"],
        [str(tmp_path), "-o", str(tmp_path / "a file")],
    ):
        code, out, err = jazzd("prepare", *words)
        assert code in (1, 2)
        assert out == ""
        assert err.count("\n") == 1
