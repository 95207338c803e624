"""How long a style takes to learn: fifteen pieces in twelve keys, the whole way."""

import random
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import mido
from rich.console import Console

from jazzd.bench import machine
from jazzd.bench.engine import memory_mb
from jazzd.moonbeam import resident, weights
from jazzd.moonbeam.config import Numerics
from jazzd.teach.recipe import StyleRecipe
from jazzd.teach.tune import KEYS, train_style

PIECES, EPOCHS = 15, 50
BARS = 32
CHANGES = ("Dm7", "G7", "Cmaj7", "Am7")
SCALE = (0, 2, 4, 5, 7, 9, 11)
TICKS_PER_BEAT = 480
FOREVER = 10**6


def measure(
    base: str = "builtin",
    dtype: resident.Dtype | None = None,
    numerics: Numerics | None = None,
    epochs: int = EPOCHS,
    pieces: int = PIECES,
    console: Console | None = None,
) -> dict[str, Any]:
    """Seconds from the MIDI files to the style, with the command's defaults and no early end.

    `notes_per_s` counts the rows of all windows. The music is random: what it is costs nothing.
    """
    choices = StyleRecipe(
        base=base,
        dtype=None if dtype == "auto" else dtype,
        numerics=numerics,
        epochs=epochs,
        patience=FOREVER,
    )
    with TemporaryDirectory(prefix="jazzd-") as temporary:
        folder = Path(temporary)
        for number in range(pieces):
            _write(folder / "midi" / f"piece{number}.mid", random.Random(number))
        began = time.monotonic()
        train_style(
            folder / "midi", folder / "run", folder / "x.safetensors", choices, console or Console(quiet=True)
        )
        seconds = time.monotonic() - began
    samples, (config, _) = pieces * KEYS, weights.identify(base)
    length = min(choices.length, resident.LONGEST_WINDOW, config.window)
    return machine.describe() | {
        "base": base,
        "samples": samples,
        "epochs": epochs,
        "seconds": round(seconds, 1),
        "notes_per_s": round(samples * epochs * length / seconds, 1),
        "memory_mb": round(memory_mb(), 1),
    }


def _write(path: Path, dice: random.Random) -> None:
    """A solo of swinging eighths over chord markers."""
    path.parent.mkdir(exist_ok=True)
    track = mido.MidiTrack()
    degree, eighth = dice.randrange(14), TICKS_PER_BEAT // 2
    for bar in range(BARS):
        track.append(mido.MetaMessage("marker", text=CHANGES[bar % len(CHANGES)]))
        for note in range(8):
            degree = min(20, max(0, degree + dice.choice((-2, -1, -1, 1, 1, 2))))
            pitch = 55 + 12 * (degree // 7) + SCALE[degree % 7]
            swing = eighth // 3 if note % 2 == 0 else -(eighth // 3)
            track.append(mido.Message("note_on", note=pitch, velocity=dice.randint(60, 100)))
            track.append(mido.Message("note_off", note=pitch, time=eighth + swing))
    mido.MidiFile(ticks_per_beat=TICKS_PER_BEAT, tracks=[track]).save(path)
