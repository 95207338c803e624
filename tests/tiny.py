"""A model too small to make music and files too short to be any; all else about them is real."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import mido
import numpy as np
from flax import nnx

from jazzd.engine.loading import Loaded
from jazzd.moonbeam import decode, lora
from jazzd.moonbeam.config import Config
from jazzd.moonbeam.decode import Decoder
from jazzd.moonbeam.model import Moonbeam
from jazzd.moonbeam.targets import Adapter, shapes
from jazzd.moonbeam.weights import Base
from jazzd.styles import style
from jazzd.styles.manifest import Manifest
from jazzd.styles.wardrobe import Wardrobe

CONFIG = Config(hidden=144, intermediate=144, layers=1, times=1026, gru_hidden=64, gru_layers=1, window=96)
TICKS_PER_BEAT = 50
"""At 120 BPM a tick of the files is a tick of the model: 10 ms."""

Note = tuple[int, int, int]
"""Onset and duration in ticks, pitch."""

WEIGHT = 0.2
"""Size of the random weights: enough for every note to hang on all that came before it."""


@cache
def model() -> Moonbeam:
    graph, weights = nnx.split(Moonbeam(CONFIG, nnx.Rngs(0)))
    dice = np.random.default_rng(0)

    def drawn(path: tuple[Any, ...], weight: jax.Array) -> jax.Array:
        is_norm = "scale" in jax.tree_util.keystr(path)
        return weight if is_norm else jnp.asarray(dice.normal(0, WEIGHT, weight.shape), weight.dtype)

    return nnx.merge(graph, jax.tree_util.tree_map_with_path(drawn, weights))


@cache
def decoder() -> Decoder:
    """With a window of 96 rows."""
    decode.use_compile_cache()
    return Decoder(model(), CONFIG.window, (lora.SLIM,))


def base() -> Base:
    return Base("tiny", model(), "0" * 16)


def loaded(styles: Path = Path("there is no such folder")) -> Loaded:
    """What an engine loads: the tiny base, in no time, and the styles of that folder."""
    return base(), decoder(), Wardrobe.open(styles, base())


def write_style(path: Path, seed: int = 0, rank: int = 4, **said: Any) -> Path:
    """A style of random numbers, large enough to be heard."""
    dice = np.random.default_rng(seed)
    factors = {
        place: (
            dice.normal(0, 0.5, (inputs, rank)).astype(np.float32),
            dice.normal(0, 0.5, (rank, outputs)).astype(np.float32),
        )
        for place, (inputs, outputs) in shapes(CONFIG).items()
        if place[1] in ("q_proj", "v_proj", "o_proj")
    }
    given = {"base": "0" * 16, "rank": rank, "alpha": rank, "targets": ("q_proj", "v_proj", "o_proj")} | said
    style.write(path, style.Style(Manifest(**given), Adapter(rank, factors)))
    return path


def write_midi(
    path: Path, notes: Sequence[Note], markers: Sequence[tuple[int, str]] = (), program: int = 0
) -> Path:
    """A MIDI file of these notes, with markers (tick, text)."""
    events = [(on, 1, mido.Message("note_on", note=pitch, velocity=80)) for on, _, pitch in notes]
    events += [(on + lasts, 0, mido.Message("note_off", note=pitch)) for on, lasts, pitch in notes]
    events += [(tick, 0, mido.MetaMessage("marker", text=text)) for tick, text in markers]
    track, now = mido.MidiTrack([mido.Message("program_change", program=program)]), 0
    for tick, _, message in sorted(events, key=lambda event: event[:2]):
        track.append(message.copy(time=tick - now))
        now = tick
    path.parent.mkdir(parents=True, exist_ok=True)
    mido.MidiFile(type=1, ticks_per_beat=TICKS_PER_BEAT, tracks=[track]).save(path)
    return path


def walk(n: int, every: int = 20, first: int = 60, turn: int = 0) -> list[Note]:
    """A line of `n` notes going up and down a scale; another `turn` is another tune."""
    scale = (0, 2, 4, 5, 7, 9, 11, 12, 11, 9, 7, 5, 4, 2)
    return [
        (i * every, every - 2, first + scale[i % len(scale)] + (turn > 0 and i % (turn + 2) == 0))
        for i in range(n)
    ]
