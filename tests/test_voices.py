"""Which notes of a file are the solo."""

from collections.abc import Sequence

import mido
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jazzd.moonbeam.tokens import DURATION, INSTRUMENT, ONSET, SOLO
from jazzd.teach import voices
from jazzd.teach.voices import Part

Note = tuple[int, int, int]
"""Onset and duration in ticks of 10 ms, pitch."""

LINE: list[Note] = [(i * 25, 24, 65 + i % 7) for i in range(32)]
COMPING: list[Note] = [(bar * 200, 180, pitch) for bar in range(4) for pitch in (48, 52, 55, 59)]
BASS: list[Note] = [(i * 50, 45, 36 + i % 5) for i in range(16)]


def part(notes: Sequence[Note], name: str = "", program: int = 0) -> Part:
    rows = np.array([[on, lasts, *divmod(pitch, 12), program, 80] for on, lasts, pitch in sorted(notes)])
    return Part(name, rows)


def file(*tracks: tuple[str, int, Sequence[Note]]) -> mido.MidiFile:
    """Of tracks by name, channel and notes; 120 BPM, a tick is 10 ms."""
    written = [mido.MidiTrack([mido.MetaMessage("set_tempo", tempo=500000)])]
    for name, channel, notes in tracks:
        events = [(on, "note_on", pitch) for on, _, pitch in notes]
        events += [(on + lasts, "note_off", pitch) for on, lasts, pitch in notes]
        track, now = mido.MidiTrack([mido.MetaMessage("track_name", name=name)]), 0
        for tick, kind, pitch in sorted(events):
            track.append(mido.Message(kind, channel=channel, note=pitch, time=tick - now))
            now = tick
        written.append(track)
    return mido.MidiFile(type=1, ticks_per_beat=50, tracks=written)


def heard(rows: np.ndarray) -> list[Note]:
    return [
        (int(r[ONSET]), int(r[DURATION]), int(p)) for r, p in zip(rows, voices.pitches(rows), strict=True)
    ]


def test_parts_are_tracks_and_channels_without_drums() -> None:
    found = voices.parts(file(("Sax", 2, LINE), ("Piano", 0, COMPING), ("Kit", 9, BASS), ("", 1, [])))
    assert [(each.name, len(each.rows)) for each in found] == [("Sax", 32), ("Piano", 16)]
    assert heard(found[0].rows) == LINE


def test_channels_of_one_track_are_taken_apart() -> None:
    both = mido.merge_tracks(file(("a", 0, LINE), ("b", 1, COMPING)).tracks)
    found = voices.parts(mido.MidiFile(type=0, ticks_per_beat=50, tracks=[both]))
    assert [heard(each.rows) for each in found] == [LINE, sorted(COMPING)]


def test_a_part_keeps_the_tempo_of_the_whole_file() -> None:
    slow = file(("Sax", 0, LINE), ("Piano", 1, COMPING))
    slow.tracks[0].append(mido.MetaMessage("set_tempo", tempo=1_000_000, time=100))
    found = voices.parts(slow)
    assert found[0].rows[4, ONSET] == 100
    assert found[0].rows[5, ONSET] == 150


def test_the_highest_line_is_the_solo() -> None:
    voice, rows = voices.choose([part(BASS), part(COMPING), part(LINE, program=66)])
    assert voice == "line"
    assert heard(rows) == LINE
    assert set(rows[:, INSTRUMENT]) == {SOLO}


def test_a_line_that_is_called_the_solo_beats_a_higher_one() -> None:
    higher = [(on, lasts, pitch + 12) for on, lasts, pitch in LINE]
    _, rows = voices.choose([part(higher, "Piccolo"), part(LINE, "Tenor Sax"), part(COMPING)])
    assert heard(rows) == LINE


def test_a_bass_and_a_few_notes_are_no_solo() -> None:
    voice, _ = voices.choose([part(BASS), part(COMPING * 4), part(LINE[:2])])
    assert voice != "line"


def test_legato_makes_no_chords() -> None:
    assert part([(on, lasts + 4, pitch) for on, lasts, pitch in LINE]).is_line
    assert not part(COMPING).is_line
    assert part(LINE[:1]).is_line


def test_of_two_hands_the_higher_one_plays_the_solo() -> None:
    thirds = [(on, lasts, pitch + third) for on, lasts, pitch in LINE for third in (0, 4)]
    voice, rows = voices.choose([part(COMPING, "down"), part(thirds, "up")])
    assert voice == "right-hand"
    assert heard(rows) == sorted(thirds)


def test_hands_on_one_track_are_told_by_height() -> None:
    thirds = [(on, lasts, pitch + third) for on, lasts, pitch in LINE for third in (0, 4)]
    voice, rows = voices.choose([part([*thirds, *COMPING])])
    assert voice == "right-hand"
    assert sorted(heard(rows)) == sorted(thirds)


def test_hands_that_cannot_be_told_apart_are_all_the_solo() -> None:
    voice, rows = voices.choose(
        [part([(0, 50, 60), *((i * 50, 45, p) for i in range(1, 20) for p in (70, 73))])]
    )
    assert voice == "all"
    assert len(rows) == 39


@pytest.mark.parametrize(("wanted", "notes"), [("line", 32), ("right-hand", 32), ("all", 64)])
def test_what_is_wanted_beats_the_rule(wanted: voices.Voice, notes: int) -> None:
    parts = [part([*LINE, *((on, lasts, 40) for on, lasts, _ in LINE)])]
    voice, rows = voices.choose(parts, wanted)
    assert (voice, len(rows)) == (wanted, notes)
    if notes == 32:
        assert heard(rows) == LINE


NOTES = st.lists(
    st.tuples(st.integers(0, 2000), st.integers(1, 400), st.integers(0, 127)), min_size=1, max_size=40
)


@given(st.lists(NOTES, min_size=1, max_size=4), st.sampled_from([None, "line", "right-hand", "all"]))
def test_there_is_always_a_solo_and_its_notes_are_the_files(
    notes: list[list[Note]], wanted: voices.Voice | None
) -> None:
    _, rows = voices.choose([part(each) for each in notes], wanted)
    every = [note for each in notes for note in each]
    assert len(rows)
    assert all(note in every for note in heard(rows))
    assert (np.diff(rows[:, ONSET]) >= 0).all()
