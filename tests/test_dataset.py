"""Training windows: what is in them, what is counted, and that a seed and a step say it all."""

import itertools
import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jazzd.moonbeam.tokens import (
    COMPING,
    DRUMS,
    DURATION,
    EOS,
    INSTRUMENT,
    OCTAVE,
    ONSET,
    PITCH_CLASS,
    SOS,
    VELOCITY,
    Vocabulary,
    timeshifts,
)
from jazzd.music import chords
from jazzd.teach.corpus import Piece
from jazzd.teach.dataset import (
    PADDING_BLOCK,
    SHORTEST_WINDOW,
    Batch,
    Dataset,
    comping,
    interleaved,
    stretched,
    transposed,
)

VOCABULARY = Vocabulary(1026)
LENGTH = 128
SOLO_VELOCITY = 101
"""No chord is struck with it here: it tells the solo's rows of a chord piece from all others."""
CHANGES = tuple((200 * i, symbol) for i, symbol in enumerate(["Dm7", "G7", "Cmaj7", "N.C.", "Ebm7"] * 8))


def line(n: int, every: int = 20, velocity: int = SOLO_VELOCITY, program: int = 0) -> np.ndarray:
    steps = np.arange(n)
    pitch = 60 + steps * 5 % 24
    columns = [
        steps * every,
        15 + steps % 7,
        pitch // 12,
        pitch % 12,
        0 * steps + program,
        0 * steps + velocity,
    ]
    return np.stack(columns, axis=1)


OVER_CHORDS = Piece("solo.mid", line(400), CHANGES)
PLAIN = Piece("plain.mid", line(300, every=31, velocity=50, program=66))
SHORT = Piece("short.mid", line(20, velocity=51, program=66))
RESTING = Piece("resting.mid", np.concatenate([line(60), line(60) + np.array([9000, 0, 0, 0, 0, 0])]))


def dataset(*pieces: Piece, chord_share: float = 0.5, keys: bool = True) -> Dataset:
    return Dataset(pieces, VOCABULARY, LENGTH, chord_share, keys)


def excerpts(batch: Batch) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Rows, labels and counted of every block of every window."""
    found = []
    for rows, labels, blocks, counted in zip(
        batch.rows, batch.labels, batch.blocks, batch.counted, strict=True
    ):
        for block in range(1, blocks.max() + 1):
            of_it = blocks == block
            found.append((rows[of_it], labels[of_it], counted[of_it]))
    return found


def batches(data: Dataset, n: int = 12) -> list[Batch]:
    return [data.batch(4, 7, step) for step in range(n)]


def pitches(rows: np.ndarray) -> np.ndarray:
    found: np.ndarray = rows[:, OCTAVE] * 12 + rows[:, PITCH_CLASS]
    return found


def test_the_same_seed_and_step_give_the_same_batch_in_any_order() -> None:
    data = dataset(OVER_CHORDS, PLAIN)
    first = [data.batch(3, 1, step) for step in range(5)]
    for step in (4, 0, 2):
        for part in ("rows", "labels", "blocks", "counted"):
            again = dataset(OVER_CHORDS, PLAIN).batch(3, 1, step)
            np.testing.assert_array_equal(getattr(again, part), getattr(first[step], part))
    for a, b in itertools.combinations([*first, data.batch(3, 2, 0)], 2):
        assert (a.rows != b.rows).any()


def test_shapes_and_types() -> None:
    batch = dataset(OVER_CHORDS).batch(5, 0, 0)
    shapes = [part.shape for part in (batch.rows, batch.labels, batch.blocks, batch.counted)]
    assert shapes == [(5, LENGTH, 6), (5, LENGTH, 7), (5, LENGTH), (5, LENGTH)]
    assert [part.dtype for part in (batch.rows, batch.labels, batch.blocks)] == [np.int32] * 3
    assert batch.counted.dtype == bool


@pytest.mark.parametrize("pieces", [(OVER_CHORDS,), (PLAIN,), (SHORT,), (OVER_CHORDS, PLAIN, SHORT, RESTING)])
def test_windows_are_full_and_blocks_follow_one_another(pieces: tuple[Piece, ...]) -> None:
    for batch in batches(dataset(*pieces)):
        for blocks, rows, counted in zip(batch.blocks, batch.rows, batch.counted, strict=True):
            padding = blocks == PADDING_BLOCK
            assert padding.sum() < SHORTEST_WINDOW
            assert not padding[: LENGTH - padding.sum()].any()  # only at the end
            assert not counted[padding].any()
            assert not rows[padding].any()
            assert (np.diff(blocks[~padding]) <= 1).all()
            assert (np.diff(blocks[~padding]) >= 0).all()
            assert blocks[0] == 1


def test_each_excerpt_is_time_going_on_between_its_special_rows() -> None:
    begins = ends = 0
    for batch in batches(dataset(OVER_CHORDS, PLAIN, SHORT, RESTING)):
        for rows, _, _ in excerpts(batch):
            notes = rows[rows[:, ONSET] >= 0]
            assert (np.diff(notes[:, ONSET]) >= 0).all()
            assert timeshifts(notes)[1:].max(initial=0) <= VOCABULARY.longest
            assert notes[:, DURATION].min() >= 1
            assert notes[:, DURATION].max() <= VOCABULARY.longest
            special = rows[:, ONSET] < 0
            assert (rows[special] == rows[special][:, :1]).all()
            assert not (rows[1:] == SOS).any()
            assert not (rows[:-1] == EOS).any()
            if rows[0, 0] == SOS:
                begins += 1
                assert notes[0, ONSET] == 0
            ends += rows[-1, 0] == EOS
    assert begins > 10
    assert ends > 10


def test_a_whole_short_piece_stands_between_sos_and_eos() -> None:
    (rows, _, _), *_ = excerpts(dataset(SHORT).batch(1, 0, 0))
    np.testing.assert_array_equal(rows[1:-1], SHORT.rows)
    assert (rows[0] == SOS).all()
    assert (rows[-1] == EOS).all()


def test_labels_are_what_the_vocabulary_says_of_the_excerpt() -> None:
    """Timeshifts do not hang on where the excerpt begins; ids lie in their field."""
    offsets, sizes = np.array(VOCABULARY.offsets), np.array(VOCABULARY.sizes)
    for batch in batches(dataset(OVER_CHORDS, PLAIN, SHORT, RESTING)):
        for rows, labels, _ in excerpts(batch):
            assert (labels[:, 0] == 0).all()
            values = labels[:, 1:] - offsets
            assert ((values >= 0) & (values < sizes)).all()
            note = rows[:, ONSET] >= 0
            np.testing.assert_array_equal(values[note, 1:], rows[note, 1:])
            np.testing.assert_array_equal(
                values[note, 0], np.diff(rows[note, ONSET], prepend=rows[note, ONSET][0])
            )
            np.testing.assert_array_equal(values[rows[:, ONSET] == SOS], np.tile(sizes - 2, ((~note)[0], 1)))
            np.testing.assert_array_equal(
                values[rows[:, ONSET] == EOS], np.tile(sizes - 1, ((rows[-1, 0] == EOS), 1))
            )


def test_what_nothing_precedes_and_the_humans_chords_are_not_counted() -> None:
    shown = 0
    for batch in batches(dataset(OVER_CHORDS, PLAIN)):
        for rows, _, counted in excerpts(batch):
            comping_rows = rows[:, INSTRUMENT] == COMPING
            shown += comping_rows.any()
            assert not counted[0]
            np.testing.assert_array_equal(counted[1:], ~comping_rows[1:])
    assert shown > 10


def test_chords_are_shown_for_most_windows_of_chord_pieces_and_for_no_others() -> None:
    def share_shown(data: Dataset) -> float:
        shown = [
            (rows[:, INSTRUMENT] == COMPING).any()
            for batch in batches(data)
            for rows, _, _ in excerpts(batch)
        ]
        return float(np.mean(shown))

    assert 0.6 < share_shown(dataset(OVER_CHORDS)) < 1
    assert share_shown(dataset(PLAIN, SHORT)) == 0


@pytest.mark.parametrize("chord_share", [0.0, 0.3, 1.0])
def test_the_share_of_windows_from_chord_pieces_is_as_asked(chord_share: float) -> None:
    windows = np.concatenate(
        [batch.rows for batch in batches(dataset(OVER_CHORDS, PLAIN, chord_share=chord_share), 50)]
    )
    from_chords = (windows[:, :, 5] == SOLO_VELOCITY).any(axis=1)
    assert from_chords.mean() == pytest.approx(chord_share, abs=0.12)


def test_where_one_kind_is_missing_all_windows_come_from_the_other() -> None:
    assert excerpts(dataset(PLAIN, chord_share=1.0).batch(2, 0, 0))
    assert excerpts(dataset(OVER_CHORDS, chord_share=0.0).batch(2, 0, 0))


def test_longer_pieces_are_drawn_more_often() -> None:
    windows = np.concatenate([batch.rows for batch in batches(dataset(PLAIN, SHORT), 20)])
    assert (windows[:, 0, 5] == 50).sum() > (windows[:, 0, 5] == 51).sum()


def test_chord_pieces_come_in_all_twelve_keys_the_others_in_their_own() -> None:
    def first_classes(data: Dataset) -> set[int]:
        rows = np.concatenate([rows for batch in batches(data, 40) for rows, _, _ in excerpts(batch)])
        solo = rows[(rows[:, 5] == SOLO_VELOCITY) & (rows[:, ONSET] == 0)]
        return set(solo[:, PITCH_CLASS].tolist())

    one_note = line(400, every=400)
    one_note[:, PITCH_CLASS] = 0
    piece = Piece("c.mid", one_note, CHANGES)
    assert first_classes(dataset(piece)) == set(range(12))
    assert first_classes(dataset(piece, keys=False)) == {0}
    assert first_classes(dataset(Piece("c.mid", one_note))) == {0}


note_rows = st.lists(
    st.tuples(st.integers(0, 127), st.sampled_from([0, 4, 66, DRUMS])), min_size=1, max_size=30
).map(
    lambda notes: np.array(
        [[10 * i, 5, *divmod(pitch, 12), program, 80] for i, (pitch, program) in enumerate(notes)]
    )
)


@given(note_rows, st.integers(-6, 5))
def test_transposition_keeps_intervals_drums_and_the_compass(rows: np.ndarray, semitones: int) -> None:
    before = rows.copy()
    moved = transposed(rows, semitones)
    np.testing.assert_array_equal(rows, before)
    assert pitches(moved).min() >= 0
    assert pitches(moved).max() <= 127
    shift, drums = pitches(moved) - pitches(rows), rows[:, INSTRUMENT] == DRUMS
    assert (shift[drums] == 0).all()
    assert (shift[~drums] % 12 == semitones % 12).all()
    inner = ~drums & (pitches(rows) >= 6) & (pitches(rows) <= 122)
    assert (shift[inner] == semitones).all()
    others = [ONSET, DURATION, INSTRUMENT, 5]
    np.testing.assert_array_equal(moved[:, others], rows[:, others])


@pytest.mark.parametrize("semitones", [-6, 0, 5])
def test_comping_voices_the_chords_where_they_begin(semitones: int) -> None:
    for seed in range(20):
        rows = comping(OVER_CHORDS, semitones, random.Random(seed))
        assert (rows[:, INSTRUMENT] == COMPING).all()
        assert rows[:, DURATION].min() >= 10
        assert rows[:, DURATION].max() <= 400
        assert rows[:, ONSET].min() >= 0
        assert (np.diff(rows[:, ONSET]) >= 0).all()
        for tick, symbol in CHANGES:
            chord = chords.parse(symbol)
            near = rows[abs(rows[:, ONSET] - tick) < 40]
            if chord is None:
                assert not len(near)
                continue
            assert 2 <= len(near) <= 8
            heard = {(pitch - semitones) % 12 for pitch in pitches(near).tolist()}
            assert len(heard & chord.tones) >= 2


def test_comping_differs_from_time_to_time() -> None:
    made = [comping(OVER_CHORDS, 0, random.Random(seed)) for seed in (1, 1, 2)]
    np.testing.assert_array_equal(made[0], made[1])
    assert made[0].shape != made[2].shape or (made[0] != made[2]).any()


def test_a_chord_after_the_last_note_is_still_played() -> None:
    piece = Piece("late.mid", line(5), ((0, "C"), (500, "F")))
    rows = comping(piece, 0, random.Random(0))
    assert (rows[:, ONSET] > 480).any()
    assert (rows[:, DURATION] >= 10).all()


def test_at_one_tick_the_chord_comes_before_the_solo() -> None:
    solo = line(3)
    chord = np.array([[20, 9, 4, 0, COMPING, 60], [20, 9, 4, 4, COMPING, 60], [40, 9, 4, 4, COMPING, 60]])
    both = interleaved(solo, chord)
    assert both[:, ONSET].tolist() == [0, 20, 20, 20, 40, 40]
    assert (both[:, INSTRUMENT] == COMPING).tolist() == [False, True, True, False, True, False]


def test_another_tempo_stretches_all_times_and_nothing_else() -> None:
    slow = stretched(OVER_CHORDS, 1.5)
    np.testing.assert_array_equal(slow.rows[:, ONSET], np.round(OVER_CHORDS.rows[:, ONSET] * 1.5))
    np.testing.assert_array_equal(slow.rows[:, DURATION], np.round(OVER_CHORDS.rows[:, DURATION] * 1.5))
    np.testing.assert_array_equal(slow.rows[:, OCTAVE:], OVER_CHORDS.rows[:, OCTAVE:])
    assert slow.chords == tuple((300 * i, symbol) for i, (_, symbol) in enumerate(CHANGES))


def gaps(batch: Batch) -> set[int]:
    """Between the onsets of the notes without chords around them."""
    found: set[int] = set()
    for rows, _, _ in excerpts(batch):
        onsets = rows[rows[:, ONSET] >= 0, ONSET]
        found |= set(np.diff(onsets).tolist())
    return found


def test_windows_are_faster_and_slower() -> None:
    given = Dataset([PLAIN], VOCABULARY, LENGTH, 0.0, keys=False)
    assert set().union(*(gaps(batch) for batch in batches(given))) == {31}
    jittered = set().union(*(gaps(batch) for batch in batches(replace(given, tempo=0.1))))
    assert {28, 34} <= jittered <= set(range(27, 36))


def test_pieces_without_chords_come_in_every_key_where_that_is_wanted() -> None:
    given = Dataset([PLAIN], VOCABULARY, LENGTH, 0.0, keys=True)

    def lowest(data: Dataset) -> set[int]:
        pitches = [
            rows[:, OCTAVE] * 12 + rows[:, PITCH_CLASS]
            for b in batches(data, 40)
            for rows, _, _ in excerpts(b)
        ]
        return {int(pitch[pitch >= 0].min()) for pitch in pitches}

    assert lowest(given) == {60}
    assert lowest(replace(given, every_key=True)) == set(range(54, 66))


def test_a_short_piece_may_come_as_often_as_a_long_one() -> None:
    short = Piece("few.mid", line(40, velocity=51, program=66))
    given = Dataset([PLAIN, short], VOCABULARY, LENGTH, 0.0, keys=False)

    def share(data: Dataset) -> float:
        velocities = [
            rows[rows[:, ONSET] >= 0, VELOCITY][0] for b in batches(data, 40) for rows, _, _ in excerpts(b)
        ]
        return float(np.mean(np.array(velocities) == 51))

    assert share(given) < 0.25
    assert 0.4 < share(replace(given, even=True)) < 0.6
