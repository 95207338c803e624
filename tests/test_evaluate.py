"""Held-out figures: the reference's numbers, and every note counted once."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import tiny
from hypothesis import given
from hypothesis import strategies as st
from reference import TOLERANCE, golden, model

from jazzd.errors import MidiError, ModelError
from jazzd.moonbeam.tokens import COMPING, DURATION, INSTRUMENT, NAMES, ONSET, SOS, Vocabulary, framed
from jazzd.teach import evaluate
from jazzd.teach.corpus import Refused
from jazzd.teach.evaluate import Likelihood, score_rows, windows

VOCABULARY = Vocabulary(1026)
CHANGES = [(0, "Dm7"), (400, "G7"), (800, "Cmaj7")]


@cache
def likelihood() -> Likelihood:
    return Likelihood(tiny.model())


def rows(n: int, every: int = 10) -> np.ndarray:
    """Notes that can be told apart by their duration."""
    return np.array([[every * i, i + 1, 5, i % 12, 0, 80] for i in range(n)])


def scored(path: Path, sequences: np.ndarray) -> np.ndarray:
    np.savez(path / "rows.npz", rows=sequences)
    score_rows(tiny.model(), path / "rows.npz", path / "out.npz")
    with np.load(path / "out.npz") as stored:
        return np.array(stored["token_nll"])


def test_given_rows_score_as_the_reference_scores_them(tmp_path: Path) -> None:
    np.savez(tmp_path / "rows.npz", rows=golden("tiny_inputs")["A_input_ids"])
    score_rows(model(), tmp_path / "rows.npz", tmp_path / "out.npz")
    with np.load(tmp_path / "out.npz") as stored:
        assert stored["token_nll"].dtype == np.float32
        np.testing.assert_allclose(stored["token_nll"], golden("tiny_outputs")["A_token_nll"], atol=TOLERANCE)


def test_an_end_may_be_given(tmp_path: Path) -> None:
    ended = framed(rows(6))[None]
    nll = scored(tmp_path, ended)
    assert nll.shape == (1, 7, 6)
    assert np.isfinite(nll).all()
    np.testing.assert_allclose(nll[:, :-1], scored(tmp_path, ended[:, :-1]), rtol=1e-5)


def test_small_whole_numbers_will_do(tmp_path: Path) -> None:
    given = framed(rows(4))[None, :-1]
    np.testing.assert_array_equal(scored(tmp_path, given.astype(np.int8)), scored(tmp_path, given))


def bent(sequence: int, row: int, column: int, value: int) -> np.ndarray:
    given = np.stack([framed(rows(4))[:-1]] * 2)
    given[sequence, row, column] = value
    return given


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (np.zeros((2, 3), int), "shape"),
        (np.zeros((1, 4, 7), int), "shape"),
        (np.zeros((0, 4, 6), int), "shape"),
        (np.full((1, 1, 6), SOS), "shape"),
        (np.full((1, 4, 6), -1.0), "whole numbers"),
        (np.zeros((1, 4, 6), np.uint8), "SOS"),
        (framed(rows(4))[None, 1:], "SOS"),
        (bent(1, 2, 0, -3), "-3 in row 2 of sequence 1 is no onset"),
        (bent(0, 3, 1, 1024), "1024 in row 3 of sequence 0 is no duration"),
        (bent(0, 1, 2, 11), "no octave"),
        (bent(0, 1, 3, 12), "no pitch_class"),
        (bent(0, 1, 3, -1), "no pitch_class"),
        (bent(0, 1, 4, 129), "no instrument"),
        (bent(0, 1, 5, 128), "no velocity"),
        (bent(0, 1, 0, 2**31), "no onset"),
        (bent(0, 4, 0, 1100), "a rest or a note is longer"),
        (bent(0, 4, 0, 10), "order of their onsets"),
    ],
)
def test_rows_that_are_none_are_one_sentence(tmp_path: Path, given: np.ndarray, reason: str) -> None:
    with pytest.raises(ModelError, match=reason) as error:
        scored(tmp_path, given)
    assert str(tmp_path / "rows.npz") in str(error.value)
    assert not (tmp_path / "out.npz").exists()


def test_files_that_hold_no_rows_are_one_sentence(tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", columns=rows(3))
    np.savez(tmp_path / "objects.npz", rows=np.array([{}, 1], object))
    np.save(tmp_path / "array.npy", rows(3))
    np.savez_compressed(tmp_path / "good.npz", rows=framed(rows(50))[None])
    whole = (tmp_path / "good.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "flipped.npz").write_bytes(
        whole[:80] + bytes(~byte & 0xFF for byte in whole[80:120]) + whole[120:]
    )
    (tmp_path / "empty.npz").write_bytes(b"")
    (tmp_path / "text.npz").write_text("not an archive")
    bad = (
        "other.npz",
        "objects.npz",
        "array.npy",
        "cut.npz",
        "flipped.npz",
        "empty.npz",
        "text.npz",
    )
    for name in bad:
        with pytest.raises(ModelError, match=r"no npz file with an array `rows`, or a damaged one$"):
            score_rows(tiny.model(), tmp_path / name, tmp_path / "out.npz")
    for name, reason in (("no.npz", "no such file"), ("", "it is a folder")):
        with pytest.raises(ModelError, match=reason):
            score_rows(tiny.model(), tmp_path / name, tmp_path / "out.npz")


def test_a_place_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    np.savez(tmp_path / "rows.npz", rows=framed(rows(4))[None])
    with pytest.raises(ModelError, match="cannot be written"):
        score_rows(tiny.model(), tmp_path / "rows.npz", tmp_path / "nowhere" / "out.npz")
    with pytest.raises(ModelError, match="it is a folder"):
        score_rows(tiny.model(), tmp_path / "rows.npz", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["rows.npz"]


def test_the_scores_go_where_they_were_sent(tmp_path: Path) -> None:
    np.savez(tmp_path / "rows.npz", rows=np.stack([framed(rows(4))[:-1]] * 2))
    told = score_rows(tiny.model(), tmp_path / "rows.npz", tmp_path / "scores")
    assert told == {"sequences": 2, "tokens": 2 * 4 * 6, "output": str(tmp_path / "scores")}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rows.npz", "scores"]


@given(st.integers(1, 300), st.integers(8, 65))
def test_windows_score_each_note_once_and_not_without_context(n: int, length: int) -> None:
    found = list(windows(rows(n), VOCABULARY, length, chorded=False))
    seen: list[int] = []
    for i, window in enumerate(found):
        assert len(window.rows) == len(window.scored) <= length
        assert (window.rows[0] == SOS).all()
        assert window.rows[1, ONSET] == 0
        assert not window.scored[0]
        chosen = np.flatnonzero(window.scored)
        seen += window.rows[chosen, DURATION].tolist()
        assert (np.diff(window.rows[1:, ONSET]) == 10).all()
        assert i == 0 or not len(chosen) or chosen[0] >= length // 2
    assert seen == list(range(1, n + 1))


def test_a_long_rest_begins_a_new_excerpt_and_a_long_note_counts_as_the_longest() -> None:
    given = rows(10)
    given[5:, ONSET] += 5000
    given[3, DURATION] = 5000
    first, second = windows(given, VOCABULARY, 96, chorded=False)
    assert first.rows[1:, DURATION].tolist() == [1, 2, 3, VOCABULARY.longest, 5]
    assert second.rows[1:, ONSET].tolist() == [0, 10, 20, 30, 40]
    assert first.scored.sum() + second.scored.sum() == 10


def test_a_folder_is_scored_note_by_note(tmp_path: Path) -> None:
    """Against every note scored by itself with all that its window shows before it."""
    tiny.write_midi(tmp_path / "long.mid", tiny.walk(150))
    tiny.write_midi(tmp_path / "sub" / "rhodes.mid", tiny.walk(20, every=33), program=COMPING)
    (tmp_path / "bad.mid").write_text("left out")
    steps: list[tuple[int, int]] = []
    left_out: list[Refused] = []
    figures = evaluate.evaluate(
        tiny.model(), tmp_path, step=lambda done, of: steps.append((done, of)), left_out=left_out.append
    )
    assert [refused.name for refused in left_out] == ["bad.mid"]
    assert figures["refused"] == 1
    assert figures["notes"] == 150 + 20
    expected = np.zeros(6)
    for notes, program in ((tiny.walk(150), 0), (tiny.walk(20, every=33), COMPING)):
        given = np.array([[on, lasts, *divmod(pitch, 12), program, 80] for on, lasts, pitch in notes])
        size = tiny.CONFIG.window - 1
        for i in range(len(given)):
            start = 0 if i < size else (i - size) // (size // 2) * (size // 2) + size // 2
            excerpt = given[start : i + 1] - np.array([given[start, 0], 0, 0, 0, 0, 0])
            padded = np.concatenate(
                [framed(excerpt)[:-1], np.repeat(excerpt[-1:], size - len(excerpt), axis=0)]
            )
            expected += likelihood()(padded[None])[0, i - start]
    assert list(figures["nll"]) == list(NAMES)
    np.testing.assert_allclose(list(figures["nll"].values()), expected / 170, rtol=1e-4)
    assert figures["nll_per_note"] == pytest.approx(sum(figures["nll"].values()))
    assert steps[-1][0] == steps[-1][1]


def test_chords_are_given_not_scored(tmp_path: Path) -> None:
    tiny.write_midi(tmp_path / "solo.mid", tiny.walk(60), CHANGES)
    over, bare = (evaluate.evaluate(tiny.model(), tmp_path, with_chords) for with_chords in (True, False))
    assert over["notes"] == bare["notes"] == 60
    assert over["nll_per_note"] != pytest.approx(bare["nll_per_note"], rel=1e-3)


def test_chord_rows_are_never_scored() -> None:
    given = rows(30)
    given[::3, INSTRUMENT] = COMPING
    (window,) = windows(given, VOCABULARY, 96, chorded=True)
    np.testing.assert_array_equal(window.scored[1:], given[:, INSTRUMENT] != COMPING)


def test_a_folder_without_a_note_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(MidiError, match=r"no \.mid"):
        evaluate.evaluate(tiny.model(), tmp_path)
    tiny.write_midi(tmp_path / "silent.mid", [])
    with pytest.raises(MidiError, match=r"silent\.mid: no notes in it"):
        evaluate.evaluate(tiny.model(), tmp_path)
