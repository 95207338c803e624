"""Folders of MIDI files as strangers leave them."""

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
        Piece("a.mid", _rows(7), ((5, "C♯ø/E"),)),
    ]
    corpus.save(tmp_path / "corpus.npz", pieces)
    loaded = corpus.load(tmp_path / "corpus.npz")
    assert [(p.name, p.chords) for p in loaded] == [(p.name, p.chords) for p in pieces]
    for ours, theirs in zip(pieces, loaded, strict=True):
        np.testing.assert_array_equal(ours.rows, theirs.rows)
        assert ours.lot == theirs.lot


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


def test_takes_of_one_tune_are_on_one_side() -> None:
    pieces = [Piece(f"folder{n}/tune {tune}_{n}.mid", _rows(1)) for tune in range(100) for n in (1, 2, 12)]
    taught, held_out = corpus.split(pieces)
    sides = [{piece.name.split("/")[1].rsplit("_", 1)[0] for piece in side} for side in (taught, held_out)]
    assert not sides[0] & sides[1]
    assert len(taught) + len(held_out) == len(pieces)


def test_about_the_given_share_validates_and_at_least_one_tune() -> None:
    pieces = [Piece(f"piece {n}.mid", _rows(1)) for n in range(4000)]
    assert len(corpus.split(pieces)[1]) / 4000 == pytest.approx(VALIDATION_SHARE, rel=0.3)
    for few in (2, 5, 30):
        taught, held_out = corpus.split(pieces[:few])
        assert taught
        assert held_out


def test_more_files_change_no_tunes_side() -> None:
    pieces = [Piece(f"piece {n}.mid", _rows(1)) for n in range(400)]
    assert set(map(id, corpus.split(pieces[:200])[1])) <= set(map(id, corpus.split(pieces)[1]))


def _rows(n: int) -> np.ndarray:
    return np.array([[10 * i, 5, 5, i % 12, 0, 80] for i in range(n)])
