"""Styles for a base that needs no model: its sizes, its name and numbers that pass for its weights."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jazzd.moonbeam.config import Config
from jazzd.moonbeam.targets import DECODER, Adapter, module, shapes
from jazzd.styles import style
from jazzd.styles.manifest import Manifest
from jazzd.styles.style import BaseFacts, Style

CONFIG = Config(hidden=24, intermediate=36, layers=2, times=5, gru_hidden=8, gru_layers=1)
FINGERPRINT = "0123456789abcdef"


def weights() -> dict[str, np.ndarray]:
    """What the base holds of the projections, under the reference's names."""
    dice = np.random.default_rng(1)
    found = {}
    for place, (inputs, outputs) in shapes(CONFIG).items():
        shape = (inputs, outputs) if place[1] == "decoder_embedding" else (outputs, inputs)
        found[f"{module(place)}.weight"] = dice.standard_normal(shape).astype(np.float32)
    return found


BASE = BaseFacts(FINGERPRINT, CONFIG, weights)


def adapter(rank: int = 4, targets: Sequence[str] = ("q_proj", "v_proj"), seed: int = 0) -> Adapter:
    dice = np.random.default_rng(seed)
    return Adapter(
        rank,
        {
            place: (
                dice.normal(0, 0.1, (inputs, rank)).astype(np.float32),
                dice.normal(0, 0.1, (rank, outputs)).astype(np.float32),
            )
            for place, (inputs, outputs) in shapes(CONFIG).items()
            if place[1] in targets
        },
    )


def a_style(
    rank: int = 4, targets: Sequence[str] = ("q_proj", "v_proj"), seed: int = 0, **said: Any
) -> Style:
    given = {"base": FINGERPRINT, "rank": rank, "alpha": 2.0 * rank, "targets": targets} | said
    return Style(Manifest(**given), adapter(rank, targets, seed))


def drop(path: Path, **said: Any) -> Path:
    """Put a style file there."""
    style.write(path, a_style(**said))
    return path


def same(one: Adapter, other: Adapter, tolerance: float = 0.0) -> bool:
    return one.factors.keys() == other.factors.keys() and all(
        np.allclose(one.factors[place][half], other.factors[place][half], rtol=tolerance, atol=0)
        for place in one.factors
        for half in (0, 1)
    )


__all__ = ["BASE", "CONFIG", "DECODER", "FINGERPRINT", "a_style", "adapter", "drop", "same", "weights"]
