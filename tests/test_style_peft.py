"""PEFT folders without PEFT: what the real one writes and loads is in `interop/`."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file
from styled import BASE, CONFIG, DECODER, FINGERPRINT, a_style, same, weights

from jazzd.errors import ModelError, StyleError
from jazzd.moonbeam.config import Config
from jazzd.moonbeam.targets import ATTENTION, MLP, module, shapes
from jazzd.styles import peft, style
from jazzd.styles.style import BaseFacts, MisfitError

GOLDEN = Path(__file__).parent / "golden"
Q = "base_model.model.model.layers.0.self_attn.q_proj"
HEAD = "base_model.model.lm_head.base_layer.weight"


def folder(
    path: Path,
    config: Mapping[str, object] | None = None,
    tensors: Mapping[str, np.ndarray] | None = None,
    **said: Any,
) -> Path:
    """A PEFT folder of a style, with these changes to its config and these tensors besides."""
    peft.write(path, a_style(**said))
    file = path / peft.CONFIG
    file.write_text(json.dumps(json.loads(file.read_text()) | dict(config or {})))
    save_file(load_file(path / peft.WEIGHTS) | dict(tensors or {}), path / peft.WEIGHTS, {"format": "pt"})
    return path


@pytest.mark.parametrize(("size", "config"), [("839M", Config.medium()), ("309M", Config.small())])
def test_every_projection_is_one_of_the_published_models(size: str, config: Config) -> None:
    published = json.loads((GOLDEN / f"moonbeam_{size}_keys.json").read_text())["keys"]
    for place, (inputs, outputs) in shapes(config).items():
        sides = [inputs, outputs] if place[1] == "decoder_embedding" else [outputs, inputs]
        assert published[f"{module(place)}.weight"] == sides


def test_what_the_reference_wrote_is_read() -> None:
    base = BaseFacts(FINGERPRINT, Config.from_reference(GOLDEN / "tiny_config.json"), dict)
    found = peft.read(GOLDEN / "tiny_lora", base)
    assert found.manifest.model_dump(exclude_defaults=True) == {
        "base": FINGERPRINT, "rank": 16, "alpha": 32.0, "targets": ("o_proj", "q_proj", "v_proj"),
    }  # fmt: skip
    raw = load_file(GOLDEN / "tiny_lora" / "adapter_model.safetensors")
    down, up = found.adapter.factors[0, "q_proj"]
    np.testing.assert_array_equal(down, raw[f"{Q}.lora_A.weight"].T)
    np.testing.assert_array_equal(up, raw[f"{Q}.lora_B.weight"].T * 2)
    assert len(found.adapter.factors) == 9


@pytest.mark.parametrize("targets", [("q_proj",), (*ATTENTION, *MLP, *DECODER)])
def test_what_is_exported_is_the_same_style(targets: tuple[str, ...], tmp_path: Path) -> None:
    found = peft.read(folder(tmp_path / "peft", targets=targets, alpha=20.0), BASE)
    assert same(found.adapter, a_style(targets=targets).adapter, 1e-6)
    assert (found.manifest.alpha, found.manifest.rank) == (20.0, 4)


def test_an_export_overwrites_no_adapter(tmp_path: Path) -> None:
    peft.write(tmp_path / "peft", a_style())
    with pytest.raises(StyleError, match="holds an adapter already"):
        peft.write(tmp_path / "peft", a_style(seed=1))
    assert sorted(file.name for file in (tmp_path / "peft").iterdir()) == [peft.CONFIG, peft.WEIGHTS]
    assert same(peft.read(tmp_path / "peft", BASE).adapter, a_style().adapter)


def test_names_with_the_adapter_s_own_are_read(tmp_path: Path) -> None:
    path = folder(tmp_path / "peft", targets=("q_proj", "decoder_embedding"))
    tensors = load_file(path / peft.WEIGHTS)
    spelt = {
        name.replace(".weight", ".default.weight") if name.endswith("weight") else f"{name}.default": tensor
        for name, tensor in tensors.items()
    }
    save_file(spelt, path / peft.WEIGHTS)
    assert same(peft.read(path, BASE).adapter, a_style(targets=("q_proj", "decoder_embedding")).adapter)
    save_file(spelt | tensors, path / peft.WEIGHTS)
    with pytest.raises(StyleError, match="twice"):
        peft.read(path, BASE)


def scaled(path: Path) -> dict[str, float]:
    """How much larger than in the file each target's second factor is."""
    found, raw = peft.read(path, BASE), load_file(path / peft.WEIGHTS)
    return {
        target: float(np.abs(up).sum() / np.abs(raw[style.names((layer, target))[1]]).sum())
        for (layer, target), (_, up) in found.adapter.factors.items()
        if layer < 1
    }


def test_scales_are_peft_s(tmp_path: Path) -> None:
    targets = ("q_proj", "v_proj", "fc_out")
    plain = folder(tmp_path / "plain", {"lora_alpha": 6}, targets=targets)
    assert scaled(plain) == pytest.approx({"q_proj": 1.5, "v_proj": 1.5, "fc_out": 1.5})
    rooted = folder(tmp_path / "rooted", {"use_rslora": True, "lora_alpha": 6}, targets=targets)
    assert scaled(rooted) == pytest.approx(dict.fromkeys(targets, 3.0))
    assert peft.read(rooted, BASE).manifest.scale == 3.0
    pattern = {"layers.0.self_attn.q_proj": 2, r"^decoder\.fc_out": 16, "proj": 99}
    mixed = folder(tmp_path / "mixed", {"alpha_pattern": pattern, "lora_alpha": 4}, targets=targets)
    assert scaled(mixed) == pytest.approx({"q_proj": 0.5, "v_proj": 1.0, "fc_out": 4.0})
    assert peft.read(mixed, BASE).manifest.scale == 1.0


def test_smaller_ranks_are_padded(tmp_path: Path) -> None:
    path = folder(tmp_path / "peft", {"rank_pattern": {"v_proj": 1}, "lora_alpha": 4})
    tensors = load_file(path / peft.WEIGHTS)
    for name in tensors:
        if "v_proj" in name:
            tensors[name] = tensors[name][:1].copy() if "lora_A" in name else tensors[name][:, :1].copy()
    save_file(tensors, path / peft.WEIGHTS)
    found = peft.read(path, BASE)
    down, up = found.adapter.factors[1, "v_proj"]
    assert (found.adapter.rank, down.shape[1], up.shape[0]) == (4, 4, 4)
    names = style.names((1, "v_proj"))
    np.testing.assert_allclose(down @ up, (4 * tensors[names[1]] @ tensors[names[0]]).T, rtol=1e-6)
    style.write(tmp_path / "a.safetensors", found)
    assert same(style.read(tmp_path / "a.safetensors", BASE).adapter, found.adapter)


@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16])
def test_a_frozen_tensor_of_the_base_is_skipped(dtype: Any, tmp_path: Path) -> None:
    frozen = {HEAD: weights()["lm_head.weight"].astype(dtype)}
    found = peft.read(folder(tmp_path / "peft", tensors=frozen, targets=("lm_head",)), BASE)
    assert same(found.adapter, a_style(targets=("lm_head",)).adapter)


@pytest.mark.parametrize("name", [HEAD, "base_model.model.decoder_embedding.weight"])
def test_another_base_s_tensor_is_named(name: str, tmp_path: Path) -> None:
    ours = weights()[name.split(".")[2] + ".weight"]
    trained = ours.copy()
    trained[3, 3] += 0.1
    for n, tensor in enumerate((trained, ours[:-1].copy())):
        path = folder(tmp_path / str(n), tensors={name: tensor})
        with pytest.raises(MisfitError, match=f"{name} is not what this base has there"):
            peft.read(path, BASE)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"peft_type": "IA3"}, "peft_type"),
        ({"r": 0}, r"\(r: "),
        ({"r": 65}, r"\(r: "),
        ({"r": 8}, "has the rank 4, and adapter_config.json says 8"),
        ({"lora_alpha": None}, "lora_alpha"),
        ({"lora_alpha": math.nan}, "lora_alpha"),
        ({"use_dora": True}, "use_dora is more than a style can hold"),
        ({"modules_to_save": ["decoder.gru"]}, "modules_to_save is more"),
        ({"bias": "all"}, "bias is more"),
        ({"layer_replication": [[0, 2]]}, "layer_replication is more"),
        ({"init_lora_weights": "pissa_niter_4"}, "pissa_niter_4 changes the base"),
        ({"alpha_pattern": {"(a+)+$": 3}}, r"\(alpha_pattern.*: write out the names"),
        ({"alpha_pattern": {"q_proj": 0}}, "alpha_pattern.q_proj"),
    ],
)
def test_a_config_of_something_else_is_one_sentence(
    config: dict[str, object], said: str, tmp_path: Path
) -> None:
    with pytest.raises(StyleError, match=said) as error:
        peft.read(folder(tmp_path / "peft", config), BASE)
    assert str(error.value).startswith(f"{tmp_path / 'peft'}")


@pytest.mark.parametrize("text", ["[]", "{", "7", "[" * 100_000, '"\\ud800"', "", " " * 2**20 + "{}"])
def test_a_config_that_is_none_is_one_sentence(text: str, tmp_path: Path) -> None:
    path = folder(tmp_path / "peft")
    (path / peft.CONFIG).write_text(text)
    with pytest.raises(StyleError, match=peft.CONFIG) as error:
        peft.read(path, BASE)
    assert str(error.value).isprintable()


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=9), inner, max_size=2),
)
KEYS = [*peft.LoraConfig.model_fields, *peft.MORE_THAN_LORA, "bias", "init_lora_weights", "target_modules"]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folder(tmp_path_factory.mktemp("sound") / "peft")


@given(changes=st.dictionaries(st.sampled_from(KEYS), VALUES))
def test_any_config_is_an_adapter_or_one_sentence(changes: dict[str, object], sound: Path) -> None:
    config = {"peft_type": "LORA", "r": 4, "lora_alpha": 8} | changes
    (sound / peft.CONFIG).write_text(json.dumps(config))
    try:
        found: object = peft.read(sound, BASE)
    except StyleError as error:
        found = str(error)
    assert not isinstance(found, str) or found.isprintable()


def zeros(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.float32)


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        ({"base_model.model.model.norm.weight": zeros(24)}, "norm.weight is more than a style can hold"),
        ({f"{Q}.lora_magnitude_vector.weight": zeros(24)}, "magnitude_vector.weight is more"),
        ({f"{Q}.lora_B.bias": zeros(24)}, "lora_B.bias is more"),
        ({"base_model.model.decoder.gru.lora_A.weight": zeros(4, 8)}, "gru.lora_A.weight is more"),
        ({f"{Q}.lora_A.weight": zeros(4, 30)}, "this base takes"),
        ({Q.replace(".0.", ".2.") + ".lora_A.weight": zeros(4, 24)}, "bends layer 2, and this base has 2"),
        ({"base_model.model.decoder.fc_out.lora_A.weight": zeros(4, 8)}, "lora_B.weight is missing"),
    ],
)
def test_a_tensor_that_is_no_factor_is_named(
    tensors: dict[str, np.ndarray], said: str, tmp_path: Path
) -> None:
    with pytest.raises(StyleError, match=said):
        peft.read(folder(tmp_path / "peft", tensors=tensors), BASE)


def test_an_adapter_for_deeper_or_wider_models_is_a_misfit(tmp_path: Path) -> None:
    for n, name in enumerate((f"{Q}.lora_A.weight", Q.replace(".0.", ".11.") + ".lora_A.weight")):
        with pytest.raises(MisfitError, match="use it with its own base"):
            peft.read(folder(tmp_path / str(n), tensors={name: zeros(4, 30)}), BASE)


def test_a_pickle_is_not_opened(tmp_path: Path) -> None:
    path = folder(tmp_path / "peft")
    (path / peft.WEIGHTS).rename(path / peft.PICKLE)
    with pytest.raises(StyleError, match=r"adapter_model\.bin is a pickle.*re-save it as safetensors"):
        peft.read(path, BASE)


def test_a_missing_half_is_named(tmp_path: Path) -> None:
    for name in (peft.CONFIG, peft.WEIGHTS):
        path = folder(tmp_path / name)
        (path / name).unlink()
        with pytest.raises(StyleError, match=f"{name}: there is no such file"):
            peft.read(path, BASE)


def test_a_base_that_is_gone_is_no_surprise(tmp_path: Path) -> None:
    def gone() -> dict[str, np.ndarray]:
        raise ModelError("base/model.safetensors: cannot be read")

    frozen = folder(tmp_path / "peft", tensors={HEAD: weights()["lm_head.weight"]})
    with pytest.raises(StyleError, match="cannot be compared with the base's"):
        peft.read(frozen, BaseFacts(FINGERPRINT, CONFIG, gone))


def test_the_base_s_weights_are_not_asked_for_without_need(tmp_path: Path) -> None:
    def never() -> dict[str, np.ndarray]:
        raise AssertionError

    assert peft.read(folder(tmp_path / "peft"), BaseFacts(FINGERPRINT, CONFIG, never))
