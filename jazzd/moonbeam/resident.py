"""A base on its device, compiled and ready to play."""

from collections.abc import Sequence
from typing import Literal

import jax
import jax.numpy as jnp
from jax.extend.backend import clear_backends

from jazzd.errors import ModelError
from jazzd.moonbeam import decode, lora, weights
from jazzd.moonbeam.config import Numerics

LONGEST_WINDOW = 512
"""Rows of context at most, however long a model's memory is: a longer cache costs time and adds little."""
Device = Literal["auto", "cpu", "cuda"]
Dtype = Literal["auto", "float32", "bfloat16"]


def load(
    base: str = "builtin",
    dtype: Dtype | None = None,
    numerics: Numerics | None = None,
    device: Device = "auto",
    widths: Sequence[lora.Width] = (),
) -> tuple[weights.Base, decode.Decoder]:
    """The base in a folder, or `builtin`, with its decoder compiled, for styles too. Raises ModelError."""
    choose(device)
    decode.use_compile_cache()
    loaded = weights.load(base, element_type(dtype), numerics, playing=True)
    return loaded, decode.Decoder(loaded.model, min(LONGEST_WINDOW, loaded.model.config.window), widths)


def choose(device: Device) -> None:
    """Make `device` the one that JAX uses. Raises ModelError when it is not there."""
    if device == "cpu":
        jax.config.update("jax_platforms", "cpu")
    elif device == "cuda" and jax.default_backend() != "gpu":
        raise ModelError(
            "JAX finds no CUDA device; install jazzd[cuda12] or jazzd[cuda13], or set engine.device to cpu"
        )


def leave_gpu() -> bool:
    """Make the CPU the device although another one is in use, and give that one's memory back; whether there
    was another one. Nothing that was on it can be used any more."""
    if jax.default_backend() == "cpu":
        return False
    clear_backends()
    jax.config.update("jax_platforms", "cpu")
    return True


def out_of_memory(error: Exception) -> bool:
    """Whether this is an allocator that gave up."""
    return isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error)


def element_type(dtype: Dtype | None) -> jnp.dtype:
    """bfloat16 where matrices are fast in it (GPUs), float32 elsewhere, unless `dtype` says otherwise."""
    if dtype in (None, "auto"):
        dtype = "float32" if jax.default_backend() == "cpu" else "bfloat16"
    return jnp.dtype(dtype)
