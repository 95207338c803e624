"""The tokenizer against the reference's rows, labels and files, and against itself."""

from pathlib import Path

import mido
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jazzd.errors import MidiError
from jazzd.moonbeam import midi, tokens

GOLDEN = Path(__file__).parent / "golden" / "midi"
NAMES = ["chords_overlap", "drums_multi", "long_rest", "many_instruments", "tempo_pedal"]
MEDIUM, SMALL = tokens.Vocabulary(4099), tokens.Vocabulary(1026)


def test_vocabulary_is_the_published_one() -> None:
    assert MEDIUM.size == 8487
    assert SMALL.size == 2341
    assert MEDIUM.offsets == (1, 4100, 8199, 8212, 8226, 8357)
    assert SMALL.offsets == (1, 1027, 2053, 2066, 2080, 2211)


@pytest.mark.parametrize("name", NAMES)
def test_rows_labels_and_inverse_equal_the_reference(name: str, tmp_path: Path) -> None:
    golden = np.load(GOLDEN / f"{name}.npz")
    rows = midi.encode(midi.read_midi(GOLDEN / f"{name}.mid"))
    np.testing.assert_array_equal(rows, golden["rows"])
    for vocabulary, size in ((MEDIUM, "839M"), (SMALL, "309M")):
        shift, duration = tokens.too_long(rows, vocabulary.longest)
        assert shift == bool(golden[f"reject_timeshift_{size}"])
        assert duration == bool(golden[f"reject_duration_{size}"])
    framed = tokens.framed(rows)
    np.testing.assert_array_equal(framed, golden["input_rows"])
    if len(golden["label_ids"]):
        np.testing.assert_array_equal(MEDIUM.labels(framed), golden["label_ids"])
    else:
        with pytest.raises(MidiError, match="longer than"):
            MEDIUM.labels(framed)
    midi.decode(rows).save(tmp_path / "out.mid")
    assert (tmp_path / "out.mid").read_bytes() == (GOLDEN / f"{name}.inverse.mid").read_bytes()
    np.testing.assert_array_equal(midi.encode(mido.MidiFile(tmp_path / "out.mid")), golden["rows_of_inverse"])


@pytest.mark.parametrize("name", NAMES)
def test_chunks_equal_the_reference(name: str) -> None:
    golden = np.load(GOLDEN / f"{name}.npz")
    parts = tokens.chunks(golden["rows"], 1024)
    assert [len(part) for part in parts] == golden["chunk1024_lengths"].tolist()
    np.testing.assert_array_equal(np.concatenate(parts), golden["chunk1024_rows"])


note_rows = st.lists(
    st.tuples(
        st.integers(0, 300),
        st.integers(1, 200),
        st.integers(0, 127),
        st.sampled_from([0, 4, 66, 128]),
        st.integers(1, 127),
    ),
    max_size=40,
).map(
    lambda notes: np.array(
        [[on, dur, *divmod(pitch, 12), program, vel] for on, dur, pitch, program, vel in sorted(notes)],
        np.int64,
    ).reshape(-1, 6)
)


@given(note_rows)
def test_a_file_gives_its_rows_back(rows: np.ndarray) -> None:
    """Onsets and pitches always; durations too where no pitch is struck again while it sounds."""
    back = midi.encode(midi.decode(rows))
    key = [tokens.ONSET, tokens.INSTRUMENT, tokens.OCTAVE, tokens.PITCH_CLASS, tokens.VELOCITY]
    assert sorted(map(tuple, back[:, key])) == sorted(map(tuple, rows[:, key]))


@given(note_rows)
def test_labels_stay_in_their_field(rows: np.ndarray) -> None:
    labels = SMALL.labels(tokens.framed(rows))
    low = np.array(SMALL.offsets)
    assert (labels[:, 0] == 0).all()
    assert (labels[:, 1:] >= low).all()
    assert (labels[:, 1:] < low + np.array(SMALL.sizes)).all()


@pytest.mark.parametrize(
    "data", [b"", b"MThd", b"hello", b"MThd\0\0\0\6\0\1\0\1\1\xe0MTrk\0\0\0\4\0\xff\x2f"]
)
def test_a_broken_file_is_one_sentence(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "broken.mid"
    path.write_bytes(data)
    with pytest.raises(MidiError, match=r"broken\.mid"):
        midi.read_midi(path)


@pytest.mark.parametrize("ticks", [10**9, 10**18, 10**400])
def test_a_file_that_claims_to_last_for_days_is_refused(ticks: int) -> None:
    track = mido.MidiTrack([mido.Message("note_on", note=60, velocity=60, time=ticks)])
    with pytest.raises(MidiError, match="for days"):
        midi.encode(mido.MidiFile(tracks=[track]))


@pytest.mark.parametrize("kind", [2, 3, 300])
def test_a_file_of_another_type_is_refused(kind: int, tmp_path: Path) -> None:
    file = mido.MidiFile()
    file.type = kind
    with pytest.raises(MidiError, match=f"type {kind}"):
        midi.encode(file)
    file.save(tmp_path / "odd.mid")
    with pytest.raises(MidiError, match=rf"odd\.mid is of MIDI type {kind}"):
        midi.read_midi(tmp_path / "odd.mid")
