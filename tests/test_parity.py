"""At full width: what float32 computes is what float64 computes with the same weights, but for rounding."""

import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import jax
import jax.numpy as jnp
import numpy as np
import published
import pytest

from jazzd.moonbeam import weights
from jazzd.moonbeam.config import Config
from jazzd.moonbeam.model import causal_mask
from jazzd.moonbeam.tokens import framed

ROWS = 24
TOLERANCE = 1e-3


@contextmanager
def float64() -> Iterator[None]:
    """Here the model computes in float64 throughout, also where it asks for float32."""
    with pytest.MonkeyPatch.context() as patch, jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        patch.setattr(jnp, "float32", jnp.float64)
        yield


def music(config: Config) -> np.ndarray:
    """Rows of notes over about ten seconds, SOS before and EOS after them."""
    dice = np.random.default_rng(1)
    onsets = np.cumsum(dice.integers(0, 80, ROWS))
    columns = [
        dice.integers(low, high, ROWS) for low, high in ((1, 90), (2, 8), (0, 12), (0, 129), (30, 110))
    ]
    return framed(np.stack([onsets, *columns], axis=1))


def logits(config: Config, tensors: Mapping[str, np.ndarray], dtype: type) -> np.ndarray:
    """Every sub-token's, over all ids, teacher-forced."""
    model = weights.from_tensors(config, tensors, "random", dtype)
    rows = jnp.asarray(music(config)[None], jnp.int32)
    labels = jnp.asarray(config.vocabulary.labels(music(config))[None], jnp.int32)
    summaries, _ = model(rows, causal_mask(rows))
    found = np.asarray(model.decoder.logits(model.decoder.outputs(summaries[:, :-1], labels[:, 1:, :-1])))
    assert found.dtype == dtype
    return found


@pytest.mark.parametrize(
    "config", [dataclasses.replace(Config.medium(), layers=1), Config.small()], ids=["839M wide", "309M"]
)
def test_float32_is_float64_but_for_rounding(config: Config) -> None:
    tensors = published.tensors(config)
    with float64():
        exact = logits(config, tensors, np.float64)
    rounded = logits(config, tensors, np.float32)
    assert 0.3 < exact.std() < 3, "of a size at which the tolerance means something"
    print("worst", np.abs(rounded - exact).max(), exact.std())
    np.testing.assert_allclose(rounded, exact, rtol=0, atol=TOLERANCE)
