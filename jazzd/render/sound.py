"""Sound files: a MIDI file heard through a soundfont, or through plain sine waves where there is none."""

import shutil
import subprocess
import wave
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt
import pretty_midi

from jazzd.errors import MidiError

Samples = npt.NDArray[np.float64]
"""Time by channel."""

_RATE = 44100
_PEAK = 0.9
_SOUNDFONT_FOLDERS = (
    "/usr/share/sounds/sf2",
    "/usr/share/soundfonts",
    "/usr/local/share/soundfonts",
    "/opt/homebrew/share/soundfonts",
    "C:/soundfonts",
)
_TIMEOUT_S = 120


def write_wav(path: Path, midi_path: Path) -> str:
    """Writes what the MIDI file sounds like, at 44.1 kHz and 16 bit; says which of two means made it.

    `fluidsynth` where it and a soundfont are installed, else `pretty_midi`. Raises MidiError where the file
    cannot be written.
    """
    made_by = "fluidsynth"
    samples = _fluidsynth(midi_path)
    if samples is None:
        made_by = "pretty_midi"
        samples = pretty_midi.PrettyMIDI(str(midi_path)).synthesize(_RATE)[:, None]
    try:
        _save(path, samples)
    except OSError as error:
        raise MidiError(f"cannot write {path}: {error.strerror}") from None
    return made_by


def _fluidsynth(midi_path: Path) -> Samples | None:
    binary, font = shutil.which("fluidsynth"), next(_soundfonts(), None)
    if binary is None or font is None:
        return None
    with TemporaryDirectory() as folder:
        raw = Path(folder, "raw")
        # Raw 16 bit is the one format that every build of fluidsynth can write.
        command = [binary, "-niq", "-g", "0.4", "-r", str(_RATE), "-T", "raw", "-O", "s16", "-E", "little"]
        try:
            subprocess.run(
                [*command, "-F", raw, font, midi_path], check=True, capture_output=True, timeout=_TIMEOUT_S
            )
            return np.fromfile(raw, "<i2").reshape(-1, 2).astype(np.float64)
        except (OSError, ValueError, subprocess.SubprocessError):
            return None


def _soundfonts() -> Iterator[Path]:
    """The soundfonts of this machine, the one that the system calls its default first."""
    for folder in _SOUNDFONT_FOLDERS:
        yield from sorted(
            Path(folder).glob("*.sf[23]"), key=lambda font: ("default" not in font.name, font.name)
        )


def _save(path: Path, samples: Samples) -> None:
    """Writes (time, channel) samples at full level, whatever they were scaled to."""
    loudest = np.abs(samples).max(initial=0.0) or 1.0
    with path.open("wb") as out, wave.open(out, "wb") as file:
        file.setnchannels(samples.shape[1])
        file.setsampwidth(2)
        file.setframerate(_RATE)
        file.writeframes((samples * (_PEAK * 32767 / loudest)).astype("<i2").tobytes())
