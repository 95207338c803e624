"""Keeping and replaying, from outside: the real daemon on a tiny base, over TCP MIDI."""

import json
import subprocess
import sys
import time
from pathlib import Path

import mido
import pytest

from jazzd import takes
from jazzd.player import control
from jazzd.rehearsal import TcpLine, daemon

pytestmark = pytest.mark.in_time

CHORDS = ((50, 53, 57, 60), (43, 53, 59, 62), (48, 52, 55, 59))


def jazzd(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "jazzd", *words], capture_output=True, text=True)


def test_what_was_played_is_kept_and_played_again(tmp_path: Path, tiny_base: Path) -> None:
    variables = {"JAZZD_MIDI__BACKEND": "tcp", "JAZZD_MIDI__TCP_LISTEN": "127.0.0.1:0"}
    variables |= {"JAZZD_INPUT__THRU": "true", "JAZZD_SOLO__CHANNEL": "2"}
    options = ["--base", str(tiny_base), "--record", str(tmp_path / "takes")]
    with daemon(options, variables) as playing:
        with TcpLine(playing.wait_until_ready()["midi"]["tcp"]) as line:
            for chord in CHORDS:
                for pitch in chord:
                    line.send(mido.Message("note_on", note=pitch, velocity=70))
                time.sleep(0.7)
                for pitch in chord:
                    line.send(mido.Message("note_off", note=pitch))
            line.send(mido.Message("control_change", control=27, value=127))
            time.sleep(0.5)
            told = control.ask({"do": "keep"}, playing.socket, timeout_s=20)
        playing.stop()
    files = sorted((tmp_path / "takes").iterdir())
    assert len(files) == 3, "the pedal's, the command's, and the recording's"
    assert told["file"] in map(str, files)
    played = {m.note for m in mido.MidiFile(told["file"]).tracks[1] if m.type == "note_on"}
    assert played == {pitch for chord in CHORDS for pitch in chord}
    solo = [m for m in mido.MidiFile(told["file"]).tracks[2] if m.type == "note_on"]
    assert {m.channel for m in solo} == {1}, "what is passed on is the human's"
    assert told["notes"] == len(solo) > 0
    assert takes.read(files[-1]).fingerprint
    again = jazzd(
        "replay", told["file"], "--base", str(tiny_base), "--json", "-o", str(tmp_path / "again.mid")
    )
    assert again.returncode == 0, again.stderr
    found = json.loads(again.stdout)
    assert found["same"] == found["notes"] > 0
    assert found["warnings"] == []
    assert mido.MidiFile(tmp_path / "again.mid").length > 0
    other = jazzd("replay", told["file"])  # with the built-in base
    assert other.returncode == 1
    assert "it was played with the base" in other.stdout


@pytest.mark.parametrize("name", ["none.mid", "."])
def test_what_is_no_take_is_refused_in_one_sentence(tmp_path: Path, name: str) -> None:
    refused = jazzd("replay", str(tmp_path / name))
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
