"""What a style may bend, and its factors as plain arrays. Imports no JAX: files are checked without it."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from jazzd.arrays import Float
from jazzd.moonbeam.config import Config

ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
MLP = ("gate_proj", "up_proj", "down_proj")
DECODER = ("decoder_embedding", "summary_projection", "lm_head", "fc_out")
"""Of the note decoder: there is one of each, not one a layer."""
NO_LAYER = -1
Place = tuple[int, str]
"""A layer's number, NO_LAYER for the note decoder, and the target's name."""


def shapes(config: Config) -> dict[Place, tuple[int, int]]:
    """Inputs and outputs of every projection that a style may bend.

    `decoder_embedding` is looked up, not multiplied: its inputs are the ids.
    """
    d, gru, ids = config.hidden, config.gru_hidden, config.vocabulary.size
    kv, inner = config.kv_heads * config.head, config.intermediate
    layer = {
        "q_proj": (d, d),
        "k_proj": (d, kv),
        "v_proj": (d, kv),
        "o_proj": (d, d),
        "gate_proj": (d, inner),
        "up_proj": (d, inner),
        "down_proj": (inner, d),
    }
    decoder = {
        "decoder_embedding": (ids, gru),
        "summary_projection": (d, gru),
        "lm_head": (gru, ids),
        "fc_out": (gru, gru),
    }
    places = {(i, target): sizes for i in range(config.layers) for target, sizes in layer.items()}
    return places | {(NO_LAYER, target): sizes for target, sizes in decoder.items()}


def module(place: Place) -> str:
    """The projection's name in the reference; its weight's in a base folder is that and `.weight`."""
    layer, target = place
    if layer == NO_LAYER:
        return f"decoder.{target}" if target == "fc_out" else target
    return f"model.layers.{layer}.{'mlp' if target in MLP else 'self_attn'}.{target}"


@dataclass(frozen=True)
class Adapter:
    """One style's factors: place -> A (D, R) and B (R, F), the scaling alpha/r folded into B."""

    rank: int
    factors: Mapping[Place, tuple[Float[np.ndarray, "D R"], Float[np.ndarray, "R F"]]]
