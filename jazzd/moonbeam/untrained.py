"""Bases of random numbers at the published sizes: what a note costs can be measured without a checkpoint."""

import math
from collections.abc import Mapping

import ml_dtypes
import numpy as np

from jazzd.moonbeam.config import Config
from jazzd.moonbeam.storage import Lazy

CONFIGS = {"random-839m": Config.medium(), "random-309m": Config.small()}
SEED = 0
STEP = 4099
"""How much later in the stock of numbers the next tensor begins. A prime: no two have rows in common."""


def tensors(shapes: Mapping[str, tuple[int, ...]]) -> Lazy:
    """Tensors of these names and shapes, in bfloat16 as the published ones, that keep a signal's size.

    All are cut from one stock of normal numbers, since drawing a billion would take half a minute.
    """
    largest = max(map(math.prod, shapes.values()))
    stock = np.random.default_rng(SEED).standard_normal(largest + STEP * len(shapes), np.float32)
    begins = {name: STEP * i for i, name in enumerate(sorted(shapes))}

    def made(name: str) -> np.ndarray:
        shape = shapes[name]
        if "bias" in name:
            numbers = np.zeros(shape, np.float32)
        elif len(shape) == 1:
            numbers = np.ones(shape, np.float32)
        else:
            size = 1.0 if name.endswith("embedding.weight") else shape[1] ** -0.5
            numbers = size * stock[begins[name] :][: math.prod(shape)].reshape(shape)
        return numbers.astype(ml_dtypes.bfloat16)

    return Lazy(shapes, made)
