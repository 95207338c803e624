"""The reference implementation's scaled-down model and what it computed with it (see `golden/`)."""

from functools import cache
from pathlib import Path

import numpy as np

from jazzd.moonbeam import checkpoint, weights
from jazzd.moonbeam.config import Config
from jazzd.moonbeam.model import Moonbeam

GOLDEN = Path(__file__).parent / "golden"
TOLERANCE = 1e-4
"""On float32 logits and losses: the reference differs from its own float64 run by 5e-5."""


@cache
def config() -> Config:
    return Config.from_reference(GOLDEN / "tiny_config.json")


@cache
def tensors() -> dict[str, np.ndarray]:
    return checkpoint.read(GOLDEN / "tiny_moonbeam.pt")


@cache
def model() -> Moonbeam:
    return weights.from_tensors(config(), tensors(), "tiny_moonbeam.pt")


@cache
def golden(name: str) -> dict[str, np.ndarray]:
    with np.load(GOLDEN / f"{name}.npz") as stored:
        return dict(stored)
