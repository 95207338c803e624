"""Base folders: conversion, strictness, round trips."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest
from flax import nnx
from reference import GOLDEN, config, model, tensors

from jazzd.errors import ModelError
from jazzd.moonbeam import weights
from jazzd.moonbeam.config import Config
from jazzd.moonbeam.model import Moonbeam


@pytest.mark.parametrize(("size", "of"), [("839M", Config.medium()), ("309M", Config.small())])
def test_every_published_tensor_has_its_place_and_shape(size: str, of: Config) -> None:
    published = json.loads((GOLDEN / f"moonbeam_{size}_keys.json").read_text())["keys"]
    flat = dict(nnx.to_flat_state(nnx.state(nnx.eval_shape(lambda: Moonbeam(of, nnx.Rngs(0))), nnx.Param)))
    places = weights.entries(of)
    shapes = {n: list(flat[e.path].shape[:: -1 if e.transposed else 1]) for n, e in places.items()}
    assert shapes == published
    assert len({entry.path for entry in places.values()}) == len(flat)


def test_convert_then_load_is_the_same_model(tmp_path: Path) -> None:
    fingerprint = weights.convert(GOLDEN / "tiny_moonbeam.pt", tmp_path / "base", GOLDEN / "tiny_config.json")
    base = weights.load(tmp_path / "base")
    assert base.fingerprint == fingerprint
    assert base.parameters == 2_360_880
    assert base.model.config == config()
    for ours, theirs in zip(
        jax.tree.leaves(nnx.state(base.model)), jax.tree.leaves(nnx.state(model())), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)


def test_weights_go_out_under_the_names_they_came_in_by() -> None:
    out = weights.to_tensors(model())
    assert out.keys() == tensors().keys()
    assert all((out[name] == tensors()[name]).all() for name in out)


def test_convert_overwrites_no_base_and_leaves_nothing_half_written(tmp_path: Path) -> None:
    source, sizes = GOLDEN / "tiny_moonbeam.pt", GOLDEN / "tiny_config.json"
    with pytest.raises(ModelError, match="--config"):
        weights.convert(source, tmp_path / "base")
    assert not (tmp_path / "base").exists()
    weights.convert(source, tmp_path / "base", sizes)
    with pytest.raises(ModelError, match="already"):
        weights.convert(source, tmp_path / "base", sizes)
    assert sorted(path.name for path in (tmp_path / "base").iterdir()) == ["config.json", "model.safetensors"]


def test_one_error_lists_every_mismatch() -> None:
    wrong = dict(tensors())
    del wrong["model.norm.weight"]
    wrong["stranger"] = np.zeros(3, np.float32)
    wrong["decoder.fc_out.weight"] = np.zeros((80, 81), np.float32)
    with pytest.raises(ModelError) as error:
        weights.from_tensors(config(), wrong, "here")
    for expected in (
        "model.norm.weight is missing",
        "stranger is extra",
        "decoder.fc_out.weight is [80, 81]",
        "[80, 80]",
    ):
        assert expected in str(error.value)


def test_a_fingerprint_changes_with_any_value() -> None:
    changed = {name: tensor.copy() for name, tensor in tensors().items()}
    assert weights.fingerprint(changed) == weights.fingerprint(tensors())
    changed["model.norm.weight"][7] += 1e-6
    assert weights.fingerprint(changed) != weights.fingerprint(tensors())


@pytest.mark.parametrize(
    "damage", ["missing", "no weights", "truncated", "not json", "other keys", "other sizes", "numerics"]
)
def test_a_folder_that_is_no_base_is_one_sentence(damage: str, tmp_path: Path) -> None:
    base = tmp_path / "base"
    if damage != "missing":
        weights.save(base, config(), tensors())
        file, given = base / weights.CONFIG, config().to_json()
        match damage:
            case "no weights":
                (base / weights.WEIGHTS).unlink()
            case "truncated":
                whole = (base / weights.WEIGHTS).read_bytes()
                (base / weights.WEIGHTS).write_bytes(whole[: len(whole) // 2])
            case "not json":
                file.write_text("{")
            case "other keys":
                file.write_text('{"hidden_size": 3}')
            case "other sizes":
                file.write_text(json.dumps(given | {"layers": 2}))
            case "numerics":
                file.write_text(json.dumps(given | {"numerics": "wild"}))
    with pytest.raises(ModelError, match=str(base)):
        weights.load(base)
