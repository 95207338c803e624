"""Folders of MIDI files as strangers leave them."""

from dataclasses import astuple
from pathlib import Path
from typing import IO

import mido
import numpy as np
import pytest
import tiny

from jazzd.errors import MidiError
from jazzd.moonbeam import midi, tokens
from jazzd.teach import corpus
from jazzd.teach.corpus import VALIDATION_SHARE, Piece, Refused
from jazzd.teach.metre import steady

CHANGES = [(0, "Dm7"), (200, "G7b9"), (400, "Cmaj7"), (600, "N.C.")]
NOT_CHORDS = [(0, "take 2"), (0, "Intro"), (150, "H7"), (300, "1/4 = 120"), (500, "")]


@pytest.fixture
def messy(tmp_path: Path) -> Path:
    """Two good files, and everything that can be wrong."""
    tiny.write_midi(tmp_path / "b.mid", tiny.walk(10))
    tiny.write_midi(tmp_path / "Deep" / "er" / "A.MIDI", tiny.walk(5), CHANGES)
    whole = (tmp_path / "b.mid").read_bytes()
    (tmp_path / "cut.mid").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.mid").write_bytes(b"")
    (tmp_path / "text.mid").write_text("not music")
    tiny.write_midi(tmp_path / "silent.mid", [])
    mido.MidiFile(type=2, tracks=[mido.MidiTrack()]).save(tmp_path / "two.mid")
    (tmp_path / "notes.txt").write_text("not listed")
    (tmp_path / "folder.mid").mkdir()
    return tmp_path


def test_good_files_are_read_and_each_other_one_has_its_reason(messy: Path) -> None:
    steps: list[tuple[int, int]] = []
    found = corpus.read_folder(messy, lambda done, of: steps.append((done, of)))
    assert [item.name for item in found] == [
        "Deep/er/A.MIDI",
        "b.mid",
        "cut.mid",
        "empty.mid",
        "silent.mid",
        "text.mid",
        "two.mid",
    ]
    assert [type(item) for item in found] == [Piece, Piece] + [Refused] * 5
    assert steps == [(n, 7) for n in range(1, 8)]
    reasons = {item.name: item.reason for item in found if isinstance(item, Refused)}
    assert all(str(messy / name) in reason and "\n" not in reason for name, reason in reasons.items())
    assert "no notes" in reasons["silent.mid"]
    assert "type 2" in reasons["two.mid"]


def test_a_piece_is_its_notes_and_its_chords(tmp_path: Path) -> None:
    path = tiny.write_midi(tmp_path / "x.mid", tiny.walk(12), [*CHANGES, *NOT_CHORDS], program=66)
    piece = corpus.read(path, "x.mid")
    assert isinstance(piece, Piece)
    np.testing.assert_array_equal(piece.rows, midi.encode(mido.MidiFile(path)))
    assert len(piece.rows) == 12
    assert set(piece.rows[:, tokens.INSTRUMENT]) == {66}
    assert piece.chords == tuple(CHANGES)


def test_chord_times_follow_the_tempo(tmp_path: Path) -> None:
    track = mido.MidiTrack(
        [
            mido.MetaMessage("set_tempo", tempo=1_000_000),
            mido.Message("note_on", note=60, velocity=80),
            mido.MetaMessage("marker", text=" Dm7 ", time=480),
            mido.MetaMessage("set_tempo", tempo=250_000),
            mido.MetaMessage("marker", text="G7", time=960),
            mido.Message("note_off", note=60),
        ]
    )
    mido.MidiFile(ticks_per_beat=480, tracks=[track]).save(tmp_path / "x.mid")
    piece = corpus.read(tmp_path / "x.mid", "x")
    assert isinstance(piece, Piece)
    assert piece.chords == ((100, "Dm7"), (150, "G7"))


def test_markers_that_name_no_chord_make_no_chord_piece(tmp_path: Path) -> None:
    piece = corpus.read(tiny.write_midi(tmp_path / "x.mid", tiny.walk(3), NOT_CHORDS), "x")
    assert isinstance(piece, Piece)
    assert piece.chords == ()


def test_a_folder_without_midi_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "readme.txt").write_text("nothing here")
    with pytest.raises(MidiError, match=r"no \.mid or \.midi file"):
        corpus.files(tmp_path)
    with pytest.raises(MidiError, match="there is no such folder"):
        corpus.files(tmp_path / "nowhere")
    with pytest.raises(MidiError, match="it is a file"):
        corpus.files(tmp_path / "readme.txt")


def test_a_folder_of_nothing_but_broken_files_names_the_first(tmp_path: Path) -> None:
    for name in ("a.mid", "b.mid"):
        (tmp_path / name).write_text("not music")
    with pytest.raises(MidiError, match=r"no file in it can be used, out of 2; .*a\.mid"):
        corpus.read_folder(tmp_path)


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    pieces = [
        Piece("déjà/vu_1.mid", midi.encode(midi.decode(_rows(3))), tuple(CHANGES)),
        Piece("plain", _rows(1)),
        Piece("a.mid", _rows(7), ((5, "C♯ø/E"),), "test", "right-hand", "notes", steady(130.0, 5.0)),
    ]
    corpus.save(tmp_path / "corpus.npz", pieces)
    loaded = corpus.load(tmp_path / "corpus.npz")
    for field in ("name", "chords", "side", "voice", "chords_from"):
        assert [getattr(p, field) for p in loaded] == [getattr(p, field) for p in pieces]
    for ours, theirs in zip(pieces, loaded, strict=True):
        np.testing.assert_array_equal(ours.rows, theirs.rows)
        assert ours.lot() == theirs.lot()
        for stated, kept in zip(astuple(ours.beats), astuple(theirs.beats), strict=True):
            np.testing.assert_array_equal(stated, kept)


def test_a_dataset_from_before_there_were_beats_has_none(tmp_path: Path) -> None:
    corpus.save(tmp_path / "new.npz", [Piece("a", _rows(2)), Piece("b", _rows(3))])
    with np.load(tmp_path / "new.npz") as stored:
        np.savez(tmp_path / "old.npz", **{name: stored[name] for name in stored if "beat" not in name})
    assert [(p.name, len(p.rows), len(p.beats)) for p in corpus.load(tmp_path / "old.npz")] == [
        ("a", 2, 0),
        ("b", 3, 0),
    ]


def test_a_save_that_is_killed_leaves_the_file_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that goes on takes what is under the final name for whole."""

    def killed(file: IO[bytes], **_: object) -> None:
        file.write(b"PK")
        raise KeyboardInterrupt

    corpus.save(tmp_path / "corpus.npz", [Piece("first", _rows(2))])
    monkeypatch.setattr(np, "savez_compressed", killed)
    with pytest.raises(KeyboardInterrupt):
        corpus.save(tmp_path / "corpus.npz", [Piece("second", _rows(2))])
    assert [path.name for path in tmp_path.iterdir()] == ["corpus.npz"]
    assert [piece.name for piece in corpus.load(tmp_path / "corpus.npz")] == ["first"]


def validating(pieces: list[Piece]) -> set[str]:
    """The names of those that do."""
    return {piece.name for piece in corpus.split(pieces) if piece.side == "validation"}


def test_takes_of_one_tune_are_on_one_side() -> None:
    pieces = [Piece(f"folder{n}/tune {tune}_{n}.mid", _rows(1)) for tune in range(100) for n in (1, 2, 12)]
    held_out = validating(pieces)
    tunes = {name.split("/")[1].rsplit("_", 1)[0] for name in held_out}
    assert len(held_out) == 3 * len(tunes) > 0


def test_about_the_given_share_validates_and_at_least_one_tune() -> None:
    pieces = [Piece(f"piece {n}.mid", _rows(1)) for n in range(4000)]
    assert len(validating(pieces)) / 4000 == pytest.approx(VALIDATION_SHARE, rel=0.3)
    for few in (2, 5, 30):
        assert 0 < len(validating(pieces[:few])) < few


def test_more_files_change_no_tunes_side() -> None:
    pieces = [Piece(f"piece {n}.mid", _rows(1)) for n in range(400)]
    assert validating(pieces[:200]) <= validating(pieces)


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 cut", b"no zip file"])
def test_what_is_no_dataset_is_one_sentence(damage: bytes, tmp_path: Path) -> None:
    (tmp_path / "corpus.npz").write_bytes(damage)
    with pytest.raises(MidiError, match="no dataset, or a damaged one"):
        corpus.load(tmp_path / "corpus.npz")


def test_an_array_of_another_kind_is_no_dataset(tmp_path: Path) -> None:
    np.savez(tmp_path / "corpus.npz", rows=np.zeros((3, 6)))
    with pytest.raises(MidiError, match="no dataset"):
        corpus.load(tmp_path / "corpus.npz")


def test_content_is_the_music_in_whatever_key_and_tempo() -> None:
    rows = _rows(20)
    moved = rows * np.array([2, 3, 1, 1, 1, 1])
    moved[:, 3] += 2
    moved[:, 2:4] = np.stack(np.divmod(moved[:, 2] * 12 + moved[:, 3], 12), axis=1)
    other = rows.copy()
    other[7, 3] += 1
    assert Piece("a", rows).content == Piece("b", moved).content != Piece("a", other).content


def _rows(n: int) -> np.ndarray:
    return np.array([[10 * i, 5, 5, i % 12, 0, 80] for i in range(n)])
