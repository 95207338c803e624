import wave
from pathlib import Path

import numpy as np
import pytest

from jazzd.errors import MidiError
from jazzd.music.notes import Note5D
from jazzd.render import write_midi, write_wav


@pytest.fixture
def midi(tmp_path: Path) -> Path:
    path = tmp_path / "in.mid"
    write_midi(path, [Note5D.from_pitch(0.0, 0.5, 69, 80)], None, [])
    return path


def heard(path: Path) -> tuple[int, np.ndarray]:
    with wave.open(str(path)) as file:
        assert file.getsampwidth() == 2
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2")
        return file.getframerate(), samples.reshape(-1, file.getnchannels())


def test_without_fluidsynth_there_is_sound_all_the_same(
    midi: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    assert write_wav(tmp_path / "out.wav", midi) == "pretty_midi"
    rate, samples = heard(tmp_path / "out.wav")
    assert rate == 44100
    assert 0.4 < len(samples) / rate < 3
    assert 0.85 < np.abs(samples.astype(float)).max() / 32767 < 0.95


def test_a_fluidsynth_that_fails_is_made_up_for(
    midi: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "fluidsynth"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert write_wav(tmp_path / "out.wav", midi) == "pretty_midi"


def test_silence_can_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    write_midi(tmp_path / "in.mid", [], None, [])
    write_wav(tmp_path / "out.wav", tmp_path / "in.mid")
    assert not heard(tmp_path / "out.wav")[1].any()


def test_a_place_that_cannot_be_written_is_named(
    midi: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(MidiError, match=r"cannot write .*nowhere"):
        write_wav(tmp_path / "nowhere" / "out.wav", midi)
