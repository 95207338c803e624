"""Low-rank style adapters: `y = W x + sum_s w_s B_s A_s x`, every style in one stack (DESIGN 1.3)."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from safetensors import SafetensorError
from safetensors.numpy import load_file

from jazzd.errors import StyleError

ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
MLP = ("gate_proj", "up_proj", "down_proj")
_FACTOR = re.compile(
    r"base_model\.model\.model\.layers\.(\d+)\.(?:self_attn|mlp)\.(\w+_proj)\.lora_([AB])\.weight"
)


class Pair(NamedTuple):
    """The two factors of S adapters for one projection. The scaling alpha/r is folded into `up`."""

    down: Float[Array, "S D R"]
    up: Float[Array, "S R F"]


Layer = dict[str, Pair]
"""Target name -> its adapters; targets that no style touches are absent."""


class Stack(NamedTuple):
    """The resident styles: their mixing weights and, per layer, their factors."""

    weights: Float[Array, "S"]
    layers: tuple[Layer, ...]


def delta(x: Float[Array, "*any D"], pair: Pair, weights: Float[Array, "S"]) -> Float[Array, "*any F"]:
    """What the weighted adapters add to a projection of `x`."""
    inner = jnp.einsum("...d,sdr->...sr", x, pair.down)
    return jnp.einsum("...sr,srf,s->...f", inner, pair.up, weights)


@dataclass(frozen=True)
class Adapter:
    """One style's factors: (layer, target) -> A (D, R) and B (R, F), alpha/r folded into B."""

    rank: int
    factors: Mapping[tuple[int, str], tuple[Float[np.ndarray, "D R"], Float[np.ndarray, "R F"]]]


def read_peft(folder: Path) -> Adapter:
    """The adapter in a folder that PEFT wrote.

    Raises StyleError when it is none, or touches more than the projections.
    """
    try:
        config = json.loads((folder / "adapter_config.json").read_text())
        tensors = load_file(folder / "adapter_model.safetensors")
        scale = config["lora_alpha"] / config["r"]
    except (OSError, ValueError, KeyError, TypeError, ZeroDivisionError, SafetensorError) as error:
        raise StyleError(f"{folder} is not a PEFT LoRA folder ({error})") from None
    halves: dict[tuple[int, str, str], np.ndarray] = {}
    for name, tensor in tensors.items():
        match = _FACTOR.fullmatch(name)
        if match is None or match[2] not in (*ATTENTION, *MLP):
            raise StyleError(f"{folder}: {name} adapts something that jazzd styles do not")
        halves[int(match[1]), match[2], match[3]] = tensor.astype(np.float32)
    try:
        places = sorted({(layer, target) for layer, target, _ in halves})
        factors = {place: (halves[*place, "A"].T, halves[*place, "B"].T * scale) for place in places}
    except KeyError as error:
        raise StyleError(f"{folder}: the factor {error.args[0]} is missing") from None
    return Adapter(config["r"], factors)


def stack(adapters: Sequence[Adapter], weights: Sequence[float], layers: int) -> Stack:
    """The adapters padded to one rank and stacked, with zeros where one does not touch what another does.

    Raises StyleError when their shapes belong to different bases.
    """
    rank = max(adapter.rank for adapter in adapters)
    touched: dict[tuple[int, str], tuple[int, int]] = {}
    for adapter in adapters:
        for place, (down, up) in adapter.factors.items():
            if touched.setdefault(place, (down.shape[0], up.shape[1])) != (down.shape[0], up.shape[1]):
                raise StyleError(f"layer {place[0]} {place[1]}: styles for bases of different shapes")
    tree: list[Layer] = [{} for _ in range(layers)]
    for (layer, target), (inputs, outputs) in touched.items():
        if layer >= layers:
            raise StyleError(f"the style adapts layer {layer} of a base with {layers}")
        down = np.zeros((len(adapters), inputs, rank), np.float32)
        up = np.zeros((len(adapters), rank, outputs), np.float32)
        for s, adapter in enumerate(adapters):
            if (layer, target) in adapter.factors:
                a, b = adapter.factors[layer, target]
                down[s, :, : adapter.rank], up[s, : adapter.rank] = a, b
        tree[layer][target] = Pair(jnp.asarray(down), jnp.asarray(up))
    return Stack(jnp.asarray(weights, jnp.float32), tuple(tree))
