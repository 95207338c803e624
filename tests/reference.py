"""The reference implementation's scaled-down model and what it computed with it (see `golden/`)."""

from functools import cache
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from safetensors.numpy import load_file

from jazzd.moonbeam import checkpoint, lora, weights
from jazzd.moonbeam.config import Config
from jazzd.moonbeam.model import Moonbeam
from jazzd.moonbeam.targets import Adapter

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


def adapter() -> Adapter:
    """The reference's adapter: rank 16, alpha 32, on q, v and o."""
    tensors = load_file(GOLDEN / "tiny_lora" / "adapter_model.safetensors")
    name = "base_model.model.model.layers.{}.self_attn.{}.lora_{}.weight"
    return Adapter(
        16,
        {
            (i, target): (tensors[name.format(i, target, "A")].T, 2 * tensors[name.format(i, target, "B")].T)
            for i in range(config().layers)
            for target in ("q_proj", "v_proj", "o_proj")
        },
    )


def mix(weight: float = 1.0, **adapters: Adapter) -> lora.Mix | None:
    """The reference's adapter, or those named, all with this weight."""
    rack = lora.Rack(config(), jnp.float32)
    for style, factors in (adapters or {"reference": adapter()}).items():
        rack.put(style, factors)
    return rack.mix(dict.fromkeys(rack.names, weight))
