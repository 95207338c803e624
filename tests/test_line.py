"""Where the beats of a file are, and what a line is over."""

from pathlib import Path

import mido
import numpy as np
import pytest
import tiny
from lines import line

from jazzd.errors import MidiError
from jazzd.moonbeam import midi
from jazzd.music.notes import Note5D
from jazzd.teach import corpus, prepare
from jazzd.teach.corpus import Piece
from jazzd.teach.line import of_notes, of_piece
from jazzd.teach.metre import UNKNOWN, beats_of, steady


def conducted(*events: tuple[int, mido.MetaMessage], end: int = 4000) -> mido.MidiFile:
    """A file of these events at ticks, 100 a quarter."""
    track, now = mido.MidiTrack(), 0
    for tick, event in [*events, (end, mido.MetaMessage("end_of_track"))]:
        track.append(event.copy(time=tick - now))
        now = tick
    return mido.MidiFile(type=1, ticks_per_beat=100, tracks=[track])


def tempo(bpm: float) -> mido.MetaMessage:
    return mido.MetaMessage("set_tempo", tempo=mido.bpm2tempo(bpm))


def meter(numerator: int, denominator: int = 4) -> mido.MetaMessage:
    return mido.MetaMessage("time_signature", numerator=numerator, denominator=denominator)


def test_beats_follow_the_tempo_map() -> None:
    beats = beats_of(conducted((0, tempo(60)), (200, tempo(120)), (250, tempo(60)), end=400))
    assert beats.ticks.tolist() == [0, 100, 200, 275, 375]
    assert beats.bars.tolist() == [0, 0, 0, 0, 1]
    assert beats.strong.tolist() == [True, False, True, False, True]
    assert beats.places(np.array([0, 150, 250, 275])).tolist() == pytest.approx([0, 1.5, 2 + 2 / 3, 3])
    assert beats.tempo == 60


def test_bars_follow_the_time_signatures() -> None:
    beats = beats_of(conducted((0, tempo(60)), (0, meter(3)), (500, meter(4)), (900, meter(2, 2)), end=1200))
    assert beats.bars.tolist() == [0, 0, 0, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3]
    strong = np.flatnonzero(beats.strong)
    assert strong.tolist() == [0, 3, 5, 7, 9, 11]


def test_a_bar_of_one_beat_tells_nothing() -> None:
    beats = beats_of(conducted((0, tempo(60)), (0, meter(1)), end=300))
    assert beats.bars.tolist() == [0, 1, 2, 3]
    assert not beats.strong.any()


def test_without_a_tempo_nobody_knows_the_beat() -> None:
    assert len(beats_of(conducted((0, meter(4))))) == 0
    assert UNKNOWN.tempo == 120
    two = mido.MidiFile(type=2, tracks=[mido.MidiTrack()])
    with pytest.raises(MidiError):
        beats_of(two)


def test_broken_files_have_beats_of_some_kind_or_none() -> None:
    odd = beats_of(conducted((0, tempo(60)), (0, meter(0)), (200, meter(3, 2**40)), (300, meter(4)), end=500))
    assert odd.bars.tolist() == [0, 1, 2, 3, 3, 3]
    still = beats_of(conducted((0, mido.MetaMessage("set_tempo", tempo=0)), end=500))
    assert still.tempo > 0
    assert len(beats_of(conducted((0, tempo(3000)), end=2**27))) == 0
    with pytest.raises(MidiError, match="for days"):
        beats_of(conducted((0, tempo(60)), end=2**27))


def test_steady_beats_reach_beyond_the_end() -> None:
    beats = steady(120.0, 3.9)
    assert beats.ticks.tolist() == [0, 50, 100, 150, 200, 250, 300, 350, 400]
    assert beats.bars.tolist() == [0, 0, 0, 0, 1, 1, 1, 1, 2]
    assert np.flatnonzero(beats.strong).tolist() == [0, 2, 4, 6, 8]
    assert beats.since(100).ticks.tolist()[:4] == [-100, -50, 0, 50]


def test_each_note_is_over_the_chord_that_it_begins_over() -> None:
    over = line([60] * 6, [0, 10, 19, 20, 35, 40], changes=[(10, "C"), (20, "N.C."), (40, "G7")])
    assert over.under.tolist() == [-1, 0, 0, -1, -1, 2]
    assert line([60, 62]).under.tolist() == [-1, -1]


def test_the_melody_is_the_highest_of_notes_that_begin_together() -> None:
    chordal = line([60, 64, 67, 50, 72, 71], [0, 0, 0, 30, 30, 40])
    assert chordal.pitches[chordal.top].tolist() == [67, 72, 71]


def test_the_line_of_a_piece_is_its_pitched_notes() -> None:
    rows = np.array([[5, 10, 5, 0, 0, 80], [0, 10, 3, 0, 128, 80], [0, 10, 5, 2, 0, 80]])
    found = of_piece(Piece("x", rows, ((0, "Dm7"), (20, "N.C."))))
    assert found.pitches.tolist() == [62, 60]
    assert [(tick, chord and chord.symbol) for tick, chord in found.changes] == [(0, "Dm7"), (20, None)]


def test_a_piece_has_the_beats_of_its_file(tmp_path: Path) -> None:
    path = tiny.write_midi(tmp_path / "x.mid", tiny.walk(8))
    silent = corpus.read(path, "x.mid")
    file = midi.read_midi(path)
    file.tracks[0].insert(0, tempo(120))
    file.save(path)
    for found in (corpus.read(path, "x.mid"), prepare.study(None, path, "x.mid")):
        assert isinstance(found, Piece)
        assert of_piece(found).beats.ticks.tolist() == pytest.approx([0, 50, 100, 150, 200])
    assert isinstance(silent, Piece)
    assert len(of_piece(silent).beats) == 0


def test_notes_in_seconds_become_rows() -> None:
    found = of_notes("x", [Note5D.from_pitch(0.5, 0.251, 61, 90)], (), UNKNOWN)
    assert found.rows.tolist() == [[50, 25, 5, 1, 0, 90]]
    assert of_notes("x", [], (), UNKNOWN).rows.shape == (0, 6)
