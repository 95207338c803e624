"""Adapters: what PEFT writes, and stacks of several."""

import json
import shutil
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from reference import GOLDEN, config, golden, model, tensors

from jazzd.errors import StyleError
from jazzd.moonbeam import lora, weights
from jazzd.moonbeam.model import causal_mask, token_nll

PEFT = GOLDEN / "tiny_lora"


def nll(styles: lora.Stack | None, of: object = None) -> np.ndarray:
    rows = jnp.asarray(golden("tiny_inputs")["A_input_ids"], jnp.int32)
    labels = jnp.asarray(golden("tiny_inputs")["A_labels"], jnp.int32)
    return np.asarray(token_nll(of or model(), rows, labels, causal_mask(rows), styles))


def random_adapter(rank: int, seed: int, targets: tuple[str, ...]) -> lora.Adapter:
    rng = np.random.default_rng(seed)
    width = {"q_proj": (144, 144), "v_proj": (144, 72), "gate_proj": (144, 504)}
    return lora.Adapter(
        rank,
        {
            (layer, target): (
                rng.standard_normal((width[target][0], rank)).astype(np.float32) * 0.1,
                rng.standard_normal((rank, width[target][1])).astype(np.float32) * 0.1,
            )
            for layer in range(3)
            for target in targets
        },
    )


def test_a_style_in_a_mixed_stack_is_that_style_merged_into_the_weights() -> None:
    adapter = random_adapter(5, 1, ("q_proj", "gate_proj"))
    other = random_adapter(9, 2, ("v_proj", "q_proj"))
    merged = dict(tensors())
    for (layer, target), (down, up) in adapter.factors.items():
        part = "mlp" if target in lora.MLP else "self_attn"
        name = f"model.layers.{layer}.{part}.{target}.weight"
        merged[name] = merged[name] + (down @ up).T
    expected = nll(None, weights.from_tensors(config(), merged, "merged"))
    np.testing.assert_allclose(nll(lora.stack([other, adapter], [0.0, 1.0], 3)), expected, atol=1e-4)


def test_blends_add_up() -> None:
    a, b = random_adapter(4, 3, ("q_proj",)), random_adapter(4, 4, ("q_proj",))
    halves = {
        place: (
            np.hstack([a.factors[place][0], b.factors[place][0]]),
            np.vstack([0.3 * a.factors[place][1], 0.7 * b.factors[place][1]]),
        )
        for place in a.factors
    }
    blend = nll(lora.stack([a, b], [0.3, 0.7], 3))
    np.testing.assert_allclose(blend, nll(lora.stack([lora.Adapter(8, halves)], [1.0], 3)), atol=1e-4)


def test_styles_of_other_bases_are_refused() -> None:
    deep = lora.Adapter(2, {(3, "q_proj"): (np.zeros((144, 2), np.float32), np.zeros((2, 144), np.float32))})
    with pytest.raises(StyleError, match="layer 3"):
        lora.stack([deep], [1.0], 3)
    wide = lora.Adapter(2, {(0, "q_proj"): (np.zeros((150, 2), np.float32), np.zeros((2, 150), np.float32))})
    with pytest.raises(StyleError, match="different shapes"):
        lora.stack([random_adapter(2, 0, ("q_proj",)), wide], [1.0, 0.0], 3)


@pytest.mark.parametrize("damage", ["config", "weights", "truncated", "rank", "half"])
def test_what_is_no_adapter_is_one_sentence(damage: str, tmp_path: Path) -> None:
    folder = tmp_path / "peft"
    shutil.copytree(PEFT, folder)
    settings = json.loads((folder / "adapter_config.json").read_text())
    file = folder / "adapter_model.safetensors"
    match damage:
        case "config":
            (folder / "adapter_config.json").write_text("[]")
        case "weights":
            file.unlink()
        case "truncated":
            file.write_bytes(file.read_bytes()[:3000])
        case "rank":
            (folder / "adapter_config.json").write_text(json.dumps(settings | {"r": 0}))
        case "half":
            from safetensors.numpy import load_file, save_file

            kept = load_file(file)
            kept.pop(sorted(kept)[0])
            save_file(kept, file)
    with pytest.raises(StyleError, match="peft"):
        lora.read_peft(folder)
