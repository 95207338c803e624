"""The three numeric modes (SPEC 3.4) against what the reference computed in bfloat16."""

import dataclasses
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import config, golden, tensors

from jazzd.moonbeam import frequencies, weights
from jazzd.moonbeam.config import Numerics
from jazzd.moonbeam.model import Moonbeam, causal_mask, token_nll
from jazzd.moonbeam.tokens import FIELDS

NAMES = ("onset", "dur", "octave", "pitch", "velocity")
BASES = dict(zip(NAMES, [field.base for field in FIELDS if field.base], strict=True))


@cache
def model(numerics: Numerics, dtype: str) -> Moonbeam:
    return weights.from_tensors(
        dataclasses.replace(config(), numerics=numerics), tensors(), "tiny", jnp.dtype(dtype)
    )


def sinusoids(name: str, numerics: Numerics, dtype: str) -> np.ndarray:
    """What goes into a field's linear layer."""
    field = model(numerics, dtype).embedding.fields[NAMES.index(name)]
    values = jnp.asarray(golden("bf16_tables")["values"], jnp.int32)[None]
    found = field.sinusoids(values) + field.bias[...].astype(jnp.float32)
    return np.asarray(found.astype(dtype)[0], np.float32)


@pytest.mark.parametrize("name", NAMES)
def test_rounded_tables_are_the_references_to_the_bit(name: str) -> None:
    theirs = golden("bf16_tables")
    np.testing.assert_array_equal(sinusoids(name, "rounded", "bfloat16"), theirs[f"fme_prelinear_{name}"])
    np.testing.assert_array_equal(
        frequencies.rounded(frequencies.rope(BASES[name], config().head)), theirs[f"rope_inv_freq_{name}"]
    )


@pytest.mark.parametrize("name", NAMES)
def test_exact_tables_are_those_of_the_reference_in_float32(name: str) -> None:
    theirs = golden("bf16_tables")[f"fp32_fme_prelinear_{name}"]
    np.testing.assert_allclose(sinusoids(name, "exact", "float32"), theirs, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_rounded_tables_are_the_same_in_both_types(name: str) -> None:
    values = jnp.asarray(golden("bf16_tables")["values"], jnp.int32)[None]
    wide, narrow = (
        model("rounded", dtype).embedding.fields[NAMES.index(name)].sinusoids(values)
        for dtype in ("float32", "bfloat16")
    )
    np.testing.assert_array_equal(wide, narrow)


@cache
def distances(numerics: Numerics, dtype: str) -> dict[str, float]:
    """Mean distance from the reference's bfloat16 run at each floor of the tower."""
    theirs, inputs = golden("tiny_outputs_bf16"), golden("tiny_inputs")
    rows, labels = (jnp.asarray(inputs[f"A_{name}"], jnp.int32) for name in ("input_ids", "labels"))
    tower, mask, found = model(numerics, dtype), causal_mask(rows), {}
    found["embed_concat"] = tower.embedding.concatenated(rows)
    x, rotation = tower.embedding(rows), tower.rotation(rows)
    found["embeddings"] = x
    for i, block in enumerate(tower.blocks):
        x, _ = block(x, rotation, mask)
        found[f"layer{i}"] = x
    found["final_hidden"] = tower.norm(x)
    found["summary"] = tower(rows, mask)[0]
    found["gru_out"] = tower.decoder.outputs(found["summary"][:, :-1], labels[:, 1:, :-1])
    logits = tower.decoder.logits(found["gru_out"])
    found["logits_logsumexp"] = jax.nn.logsumexp(logits, axis=-1)
    found["label_logit"] = jnp.take_along_axis(logits, labels[:, 1:, 1:, None], axis=-1)[..., 0]
    assert x.dtype == jnp.dtype(dtype)
    assert logits.dtype == np.float32
    return {
        name: float(np.abs(np.asarray(ours, np.float32) - theirs[f"A_{name}"]).mean())
        for name, ours in found.items()
        if f"A_{name}" in theirs
    }


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_rounded_numerics_are_the_references_bfloat16_and_exact_ones_are_not(dtype: str) -> None:
    """No two orders of summation agree in bfloat16, so it is a matter of distance."""
    near, far = distances("rounded", dtype), distances("exact", dtype)
    assert len(near) == 9
    assert near["embed_concat"] < 0.003
    for name in near:
        assert near[name] < 0.02, name
        assert near[name] < far[name] / 7, name


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_the_loss_in_rounded_numerics_is_nearer_than_float32s(dtype: str) -> None:
    theirs, exact = float(golden("tiny_outputs_bf16")["A_loss"]), float(golden("tiny_outputs")["A_loss"])
    inputs = golden("tiny_inputs")
    rows, labels = (jnp.asarray(inputs[f"A_{name}"], jnp.int32) for name in ("input_ids", "labels"))
    nll = jax.jit(lambda: token_nll(model("rounded", dtype), rows, labels, causal_mask(rows)))()
    assert abs(float(nll.mean()) - theirs) < 0.5 * abs(exact - theirs)
