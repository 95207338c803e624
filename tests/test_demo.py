"""The demo's piece, and what it reads off a recording."""

import json
from itertools import pairwise
from pathlib import Path

import mido
import pytest

from jazzd import demo
from jazzd.music.notes import Note5D
from jazzd.rehearsal import Heard, Struck

pytestmark = pytest.mark.in_time


def message(at: float, kind: str, note: int = 60, velocity: int = 64, channel: int = 0) -> Heard:
    return Heard(at, mido.Message(kind, note=note, velocity=velocity, channel=channel))


def take(solo: list[Note5D], answers: list[float | None] | None = None) -> demo.Take:
    return demo.Take([], solo, [(0.0, "Dm7"), (2.0, "G7b9")], answers or [])


@pytest.mark.parametrize("seconds", [2.0, 8.0, 32.0])
def test_the_piece_is_a_chord_a_bar_as_a_pianist_plays_it(seconds: float) -> None:
    notes, symbols = demo.compose(seconds)
    assert [symbol for _, symbol in symbols][:3] == ["Dm7", "G7", "Cmaj7"][: len(symbols)]
    assert [at for at, _ in symbols] == [2.0 * bar for bar in range(round(seconds / 2))]
    assert min(note.onset_time for note in notes) >= 0
    assert seconds - 1 < max(note.end for note in notes) < seconds + 1
    onsets = [note.onset_time for note in notes]
    assert any(onset % 0.5 for onset in onsets), "a machine plays on the beat"
    assert len({note.velocity for note in notes}) > 1


def test_the_piece_is_the_same_every_time() -> None:
    assert demo.compose(8.0) == demo.compose(8.0)


def test_no_key_is_struck_while_it_is_down() -> None:
    notes, _ = demo.compose(64.0)
    for pitch in {note.pitch for note in notes}:
        same = sorted((note for note in notes if note.pitch == pitch), key=lambda note: note.onset_time)
        assert all(a.end <= b.onset_time for a, b in pairwise(same))


def test_notes_are_paired_by_key_and_channel() -> None:
    heard = [
        message(10.0, "note_on"),
        message(10.1, "note_on", channel=1, velocity=9),
        message(10.5, "note_off"),
        message(10.7, "note_on", channel=1, velocity=0),
        message(10.8, "note_off", note=3),  # a panic releases what never sounded
    ]
    assert demo.notes(heard, 10.0) == [
        Note5D.from_pitch(0.0, 0.5, 60, 64),
        Note5D.from_pitch(pytest.approx(0.1), pytest.approx(0.6), 60, 9),
    ]
    assert demo.hanging(heard) == set()
    assert demo.hanging(heard[:3]) == {(1, 60)}


def test_keys_close_together_are_one_chord() -> None:
    sent = [message(at, "note_on", note) for at, note in ((1.0, 60), (1.01, 64), (1.03, 67), (2.0, 62))]
    assert demo.chords_struck([*sent, message(2.5, "note_off")]) == [Struck(1.0, 1.03), Struck(2.0, 2.0)]


def test_a_note_is_held_against_the_scale_of_its_own_chord() -> None:
    b, a_flat = 71, 68
    assert take([Note5D.from_pitch(1.0, 0.1, b, 64), Note5D.from_pitch(1.5, 0.1, a_flat, 64)]).in_scale == 0.5
    assert take([Note5D.from_pitch(2.1, 0.1, b, 64), Note5D.from_pitch(2.5, 0.1, a_flat, 64)]).in_scale == 1.0


def test_the_answers_that_came_are_counted() -> None:
    figures = take([], [0.02, None, 0.04]).chord_to_note_ms
    assert figures["n"] == 2
    assert figures["max"] == pytest.approx(40)


@pytest.mark.parametrize(
    ("solo", "sentence"), [([], "no solo"), ([Note5D.from_pitch(0, 1, 30, 1)], "48..96")]
)
def test_a_solo_that_breaks_a_promise_is_refused(solo: list[Note5D], sentence: str) -> None:
    with pytest.raises(demo.JazzdError, match=sentence):
        demo._check(take(solo))


def test_the_whole_chain_plays(tiny_base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    demo.run(tmp_path, 4.0, ["--base", str(tiny_base)], {}, as_json=True)
    told = json.loads(capsys.readouterr().out)
    assert told["chord_to_note_ms"]["n"] == 3
    assert 4 < told["seconds"] < 10
    recorded = mido.MidiFile(told["midi"])
    assert [track.name for track in recorded.tracks[1:]] == ["chords", "solo"]
    played = [message for message in recorded.tracks[2] if message.type == "note_on"]
    assert len(played) == told["solo_notes"] > 0
    assert all(48 <= message.note <= 96 for message in played)
    assert Path(told["wav"]).stat().st_size > 4 * 44100
