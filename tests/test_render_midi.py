from contextlib import suppress
from pathlib import Path

import mido
import pretty_midi
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jazzd.errors import MidiError
from jazzd.music.chords import Chord
from jazzd.music.notes import Note5D
from jazzd.render import read_chords, write_midi

SYMBOLS = [(0.0, "Dm7"), (1.0, "G7")]
COMPING = [
    *(Note5D.from_pitch(0.0, 0.9, pitch, 70) for pitch in (50, 53, 57, 60)),
    *(Note5D.from_pitch(1.0 + strum, 0.9, pitch, 70) for strum, pitch in ((0, 43), (0.02, 53), (0.04, 59))),
]
SOLO = [Note5D.from_pitch(0.5 * number, 0.4, 72 + number, 60 + number) for number in range(4)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "out.mid"


def save(path: Path, *tracks: list[mido.Message], file_type: int = 1) -> None:
    mido.MidiFile(type=file_type, tracks=[mido.MidiTrack(track) for track in tracks]).save(path)


def test_both_tracks_are_named_and_hold_their_notes(path: Path) -> None:
    write_midi(path, SOLO, COMPING, SYMBOLS, tempo=90.0, solo_program=26, comping_program=4)
    heard = pretty_midi.PrettyMIDI(str(path))
    assert [(each.name, each.program) for each in heard.instruments] == [("chords", 4), ("solo", 26)]
    assert [each.notes for each in heard.instruments] != []
    for note, written in zip(heard.instruments[1].notes, SOLO, strict=True):
        assert (note.pitch, note.velocity) == (written.pitch, written.velocity)
        assert (note.start, note.end) == pytest.approx((written.onset_time, written.end), abs=0.002)
    assert heard.get_tempo_changes()[1] == pytest.approx([90.0])


def test_markers_name_the_chords(path: Path) -> None:
    write_midi(path, SOLO, None, SYMBOLS)
    file = mido.MidiFile(path)
    assert file.type == 1
    assert [track.name for track in file.tracks] == ["jazzd", "solo"]
    assert [message.text for message in file.tracks[0] if message.type == "marker"] == ["Dm7", "G7"]


@given(
    st.lists(
        st.builds(
            Note5D.from_pitch,
            st.floats(0.0, 5.0),
            st.floats(0.01, 5.0),
            st.integers(60, 64),
            st.integers(1, 127),
        ),
        max_size=20,
    )
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
def test_every_note_on_has_its_off_and_no_key_is_struck_twice(path: Path, solo: list[Note5D]) -> None:
    write_midi(path, solo, None, [])
    sounding: dict[int, int] = {}
    for message in mido.MidiFile(path):
        if message.type == "note_on":
            sounding[message.note] = sounding.get(message.note, 0) + 1
        elif message.type == "note_off":
            sounding[message.note] -= 1
    assert set(sounding.values()) <= {0}


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(MidiError, match=r"cannot write .*nowhere"):
        write_midi(tmp_path / "nowhere" / "out.mid", SOLO, None, [])


def test_the_chords_of_a_written_file_are_read_back(path: Path) -> None:
    write_midi(path, SOLO, COMPING, SYMBOLS)
    first, second = read_chords(path)
    assert first.chord == Chord(2, "m7", 2)
    assert first.pitches == (50, 53, 57, 60)
    assert (first.onset, first.duration) == pytest.approx((0.0, 0.9), abs=0.01)
    assert second.chord == Chord(7, "7", 7)
    assert second.pitches == (43, 53, 59)
    assert (second.onset, second.duration) == pytest.approx((1.0, 0.94), abs=0.01)


def test_without_markers_the_notes_name_the_chords(path: Path) -> None:
    write_midi(path, [], COMPING, [])
    assert [played.chord.symbol for played in read_chords(path)] == ["Dm7", "G7"]


def test_keys_that_stay_down_belong_to_the_next_chord(path: Path) -> None:
    write_midi(path, [], [Note5D.from_pitch(0.0, 2.0, 48, 70), *COMPING[4:]], [])
    first, second = read_chords(path)
    assert first.pitches == (48,)
    assert second.pitches == (43, 48, 53, 59)


def test_any_file_with_notes_will_do_and_its_drums_are_left_out(path: Path) -> None:
    strike = [mido.Message("note_on", note=pitch) for pitch in (48, 52, 55, 58)]
    release = [mido.Message("note_on", note=pitch, velocity=0, time=240) for pitch in (48, 52, 55, 58)]
    drums = [
        mido.Message("note_on", channel=9, note=42, time=240),
        mido.Message("note_off", channel=9, note=42),
    ]
    save(path, [mido.MetaMessage("set_tempo", tempo=1_000_000)], strike + release, drums)
    (played,) = read_chords(path)
    assert played.chord.symbol == "C7"
    assert (played.onset, played.duration) == pytest.approx((0.0, 2.0))


def test_markers_alone_are_chords_and_rehearsal_marks_are_not(path: Path) -> None:
    marks = [("Intro", 0), ("DmΔ", 0), ("N.C.", 480), ("G7", 480), ("A", 960)]
    track = [
        mido.MetaMessage("marker", text=text.encode().decode("latin1"), time=after)
        for text, after in marks[:4]
    ]
    melody = [mido.Message("note_on", note=72), mido.Message("note_off", note=72, time=2880)]
    save(path, track, melody)
    first, last = read_chords(path)
    assert (first.chord.symbol, first.onset, first.duration) == ("Dmmaj7", 0.0, 0.5)
    assert (last.chord.symbol, last.onset, last.duration) == ("G7", 1.0, 2.0)
    assert len(last.pitches) == 5


def test_a_file_without_chords_says_so(path: Path) -> None:
    save(path, [])
    with pytest.raises(MidiError, match="holds no chords"):
        read_chords(path)


def test_a_missing_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(MidiError, match="does not exist"):
        read_chords(tmp_path / "missing.mid")


def test_a_file_that_ends_too_early_says_so(path: Path) -> None:
    write_midi(path, SOLO, COMPING, SYMBOLS)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(MidiError, match="not a MIDI file that can be read: it ends too early"):
        read_chords(path)


def test_tracks_that_run_apart_are_refused(path: Path) -> None:
    save(path, [], file_type=2)
    with pytest.raises(MidiError, match="not a MIDI file that can be read"):
        read_chords(path)


@given(st.binary(max_size=300), st.integers(0, 400))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_broken_file_is_one_sentence(path: Path, garbage: bytes, at: int) -> None:
    write_midi(path, SOLO, COMPING, SYMBOLS)
    data = path.read_bytes()
    path.write_bytes(data[:at] + garbage)
    with suppress(MidiError):
        assert read_chords(path)


def test_chords_that_last_for_days_are_one_sentence(tmp_path: Path) -> None:
    track = mido.MidiTrack([mido.MetaMessage("marker", text="Dm7"), mido.Message("note_on", time=10**12)])
    mido.MidiFile(tracks=[track]).save(tmp_path / "endless.mid")
    with pytest.raises(MidiError, match=r"endless\.mid .* for days"):
        read_chords(tmp_path / "endless.mid")
