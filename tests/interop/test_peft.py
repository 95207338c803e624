"""Adapters to and from the real PEFT, on a small torch module of the reference's names."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch
from styled import CONFIG, DECODER, FINGERPRINT, a_style
from torch import nn

from jazzd.errors import StyleError
from jazzd.moonbeam.targets import ATTENTION, MLP, Adapter, module, shapes
from jazzd.styles import peft as ours
from jazzd.styles import style
from jazzd.styles.style import BaseFacts, MisfitError

LIST = ("q_proj", "v_proj", "k_proj", "o_proj", *DECODER)
"""What the reference's training adapts by default."""

pytestmark = pytest.mark.filterwarnings("ignore")  # theirs are not ours to mend


class Moonbeam(nn.Module):
    """The projections under the reference's names, and nothing between them."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        for place, (inputs, outputs) in shapes(CONFIG).items():
            *path, name = module(place).split(".")
            parent: nn.Module = self
            for part in path:
                if not hasattr(parent, part):
                    parent.add_module(part, nn.Module())
                parent = parent.get_submodule(part)
            if place[1] == "decoder_embedding":
                parent.add_module(name, nn.Embedding(inputs, outputs))
            else:
                parent.add_module(name, nn.Linear(inputs, outputs, bias=name == "fc_out"))

    def get_input_embeddings(self) -> nn.Module:
        return self.decoder_embedding

    def get_output_embeddings(self) -> nn.Module:
        return self.lm_head


def base() -> BaseFacts:
    weights = {name: tensor.numpy() for name, tensor in Moonbeam().state_dict().items()}
    return BaseFacts(FINGERPRINT, CONFIG, lambda: weights)


def trained(folder: Path, **settings: Any) -> Any:
    """A PEFT model whose factors are random, saved to a folder."""
    torch.manual_seed(1)
    given = {"r": 8, "lora_alpha": 32, "target_modules": list(LIST), "init_lora_weights": False} | settings
    model = peft.get_peft_model(Moonbeam(), peft.LoraConfig(**given))
    model.save_pretrained(str(folder))
    return model


def loaded(folder: Path) -> Any:
    """The model with the adapter in a folder; whatever PEFT misses there or cannot place is an error."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", ".*keys")
        return peft.PeftModel.from_pretrained(Moonbeam(), str(folder))


@torch.no_grad()
def assert_bends(model: Any, adapter: Adapter) -> None:
    """The model's every projection adds to its own what our factors say."""
    for place, (inputs, outputs) in shapes(CONFIG).items():
        projection = model.base_model.model.get_submodule(module(place))
        adapted = hasattr(projection, "base_layer")
        if place[1] == "decoder_embedding":
            x = torch.arange(inputs)
            rows = np.eye(inputs, dtype=np.float32)
        else:
            x = torch.randn(3, inputs)
            rows = x.numpy()
        theirs = (
            (projection(x) - projection.base_layer(x)).numpy() if adapted else np.zeros((len(x), outputs))
        )
        down, up = adapter.factors.get(place, (np.zeros((inputs, 1)), np.zeros((1, outputs))))
        np.testing.assert_allclose(theirs, rows @ down @ up, atol=2e-4, rtol=1e-4, err_msg=str(place))


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"r": 64, "lora_alpha": 12.5, "target_modules": [*ATTENTION, *MLP]},
        {"r": 1, "target_modules": ["decoder_embedding"]},
        {"use_rslora": True, "target_modules": ["q_proj", "fc_out"]},
        {
            "rank_pattern": {"v_proj": 2, "layers.0.self_attn.q_proj": 3, "lm_head": 5},
            "alpha_pattern": {"model.layers.1.self_attn.q_proj": 7, r"^decoder\.fc_out": 9},
        },
        {"target_modules": ["gate_proj"], "layers_to_transform": [1]},
    ],
    ids=["the reference's", "large", "embedding", "rslora", "patterns", "one layer"],
)
def test_what_peft_trained_is_the_same_style_here(settings: dict[str, Any], tmp_path: Path) -> None:
    model = trained(tmp_path / "peft", **settings)
    found = ours.read(tmp_path / "peft", base())
    assert found.adapter.factors
    assert_bends(model, found.adapter)
    style.write(tmp_path / "a.safetensors", found)
    assert_bends(model, style.read(tmp_path / "a.safetensors", base()).adapter)


@pytest.mark.parametrize("targets", [("q_proj", "v_proj", "o_proj"), (*ATTENTION, *MLP, *DECODER)])
@pytest.mark.parametrize("alpha", [8.0, 2.5])
def test_what_is_exported_is_the_same_adapter_there(
    targets: tuple[str, ...], alpha: float, tmp_path: Path
) -> None:
    exported = a_style(rank=4, targets=targets, alpha=alpha)
    ours.write(tmp_path / "peft", exported)
    assert_bends(loaded(tmp_path / "peft"), exported.adapter)


def test_a_style_that_leaves_layers_alone_leaves_them_alone_there(tmp_path: Path) -> None:
    whole = a_style(targets=("q_proj", "lm_head"))
    factors = {place: pair for place, pair in whole.adapter.factors.items() if place[0] != 1}
    ours.write(tmp_path / "peft", style.Style(whole.manifest, Adapter(4, factors)))
    assert_bends(loaded(tmp_path / "peft"), Adapter(4, factors))


def test_there_and_back_again(tmp_path: Path) -> None:
    model = trained(tmp_path / "one", r=16)
    ours.write(tmp_path / "two", ours.read(tmp_path / "one", base()))
    assert_bends(loaded(tmp_path / "two"), ours.read(tmp_path / "one", base()).adapter)
    assert_bends(model, ours.read(tmp_path / "two", base()).adapter)


def test_the_head_that_peft_copies_is_checked(tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    trained(tmp_path / "peft")
    assert "base_model.model.lm_head.base_layer.weight" in load_file(tmp_path / "peft" / ours.WEIGHTS)
    other = dict(base().tensors())
    other["lm_head.weight"] = other["lm_head.weight"] * 1.01
    with pytest.raises(MisfitError, match=r"lm_head\.base_layer\.weight is not what this base has there"):
        ours.read(tmp_path / "peft", BaseFacts(FINGERPRINT, CONFIG, lambda: other))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"use_dora": True, "target_modules": ["q_proj"]}, "use_dora"),
        ({"modules_to_save": ["summary_projection"], "target_modules": ["q_proj"]}, "modules_to_save"),
        ({"bias": "all", "target_modules": ["fc_out"]}, "bias"),
        ({"lora_bias": True, "target_modules": ["q_proj"]}, "lora_bias"),
        ({"init_lora_weights": "pissa", "target_modules": ["q_proj"]}, "pissa changes the base"),
    ],
)
def test_what_is_more_than_lora_is_refused(settings: dict[str, Any], said: str, tmp_path: Path) -> None:
    trained(tmp_path / "peft", **settings)
    with pytest.raises(StyleError, match=said):
        ours.read(tmp_path / "peft", base())
