"""Base folders: conversion, strictness, round trips."""

import dataclasses
import errno
import json
import os
import re
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import published
import pytest
import tiny
from flax import nnx
from reference import GOLDEN, config, model, tensors
from safetensors.numpy import save_file

from jazzd.errors import ModelError
from jazzd.moonbeam import storage, untrained, weights
from jazzd.moonbeam.config import Config
from jazzd.moonbeam.model import Moonbeam

PUBLISHED = [("839M", Config.medium()), ("309M", Config.small())]


@pytest.mark.parametrize(("size", "of"), PUBLISHED)
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


@pytest.mark.parametrize(("size", "of"), PUBLISHED)
def test_a_layer_of_a_published_checkpoint_at_full_width(size: str, of: Config, tmp_path: Path) -> None:
    listed = json.loads((GOLDEN / f"moonbeam_{size}_keys.json").read_text())["keys"]
    one, layer = dataclasses.replace(of, layers=1), re.compile(r"model\.layers\.[1-9]")
    given = published.tensors(one)
    assert {name: list(shape) for name, shape in storage.shapes(given).items()} == {
        name: shape for name, shape in listed.items() if not layer.match(name)
    }
    source = published.write(tmp_path / "moonbeam.pt", given)
    sizes = published.sizes(tmp_path / "sizes.json", one)
    fingerprint = weights.convert(source, tmp_path / "base", sizes)
    assert weights.identify(tmp_path / "base") == (
        dataclasses.replace(one, numerics="rounded"),
        fingerprint,
    )
    told = weights.describe(tmp_path / "base")
    parameters = sum(tensor.size for tensor in given.values())
    assert (told["parameters"], told["bytes"]) == (parameters, 2 * parameters)
    assert (told["dtype"], told["intact"]) == ("bfloat16", True)
    base = weights.load(tmp_path / "base", jnp.float32)
    for name, tensor in weights.to_tensors(base.model).items():
        np.testing.assert_array_equal(tensor, given[name].astype(np.float32), name)


def test_a_published_checkpoint_is_known_by_its_width(tmp_path: Path) -> None:
    """This one lacks all layers but the first; each tensor of theirs is named."""
    one = dataclasses.replace(Config.small(), layers=1)
    wide = {
        name: np.broadcast_to(ml_dtypes.bfloat16(0), shape) for name, shape in weights.shapes(one).items()
    }
    source = published.write(tmp_path / "cut.pt", {"model.norm.weight": wide["model.norm.weight"]})
    with pytest.raises(ModelError, match=r"cut\.pt does not fit its config") as error:
        weights.convert(source, tmp_path / "base")
    assert str(error.value).count(" is missing") == 116 - 1
    assert [path.name for path in tmp_path.iterdir()] == ["cut.pt"]
    weights.check(one, wide, "whole")


def test_convert_overwrites_nothing(tmp_path: Path) -> None:
    source, sizes = GOLDEN / "tiny_moonbeam.pt", GOLDEN / "tiny_config.json"
    with pytest.raises(ModelError, match="--config"):
        weights.convert(source, tmp_path / "base")
    assert not (tmp_path / "base").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "config.json").write_text("my own")
    with pytest.raises(ModelError, match=r"holds a config\.json already"):
        weights.convert(source, tmp_path / "mine", sizes)
    assert (tmp_path / "mine" / "config.json").read_text() == "my own"
    weights.convert(source, tmp_path / "base", sizes)
    with pytest.raises(ModelError, match=r"holds a model\.safetensors already"):
        weights.convert(source, tmp_path / "base", sizes)
    assert sorted(path.name for path in (tmp_path / "base").iterdir()) == ["config.json", "model.safetensors"]


@pytest.mark.parametrize(
    ("fault", "seen"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), ModelError),
        (KeyboardInterrupt(), KeyboardInterrupt),
    ],
)
@pytest.mark.parametrize("there", [False, True])
def test_nothing_is_left_half_written(
    fault: BaseException,
    seen: type[BaseException],
    there: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write, target = storage.write, tmp_path / "base"
    if there:
        target.mkdir()
        (target / "notes.txt").write_text("mine")

    def broken_off(path: Path, *_: object) -> None:
        write(path, {"model.norm.weight": tensors()["model.norm.weight"]}, {})
        raise fault

    monkeypatch.setattr(storage, "write", broken_off)
    with pytest.raises(seen):
        weights.convert(GOLDEN / "tiny_moonbeam.pt", target, GOLDEN / "tiny_config.json")
    assert target.exists() == there
    assert not there or [path.name for path in target.iterdir()] == ["notes.txt"]


@pytest.mark.skipif(sys.platform == "win32", reason="no such limit there")
def test_a_full_disk_is_one_sentence(tmp_path: Path) -> None:
    """A file may grow to one megabyte here, which is as good as a full disk."""
    import resource

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, limits[1]))
    try:
        with pytest.raises(ModelError, match="cannot be written"):
            weights.save(tmp_path / "base", config(), tensors())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not (tmp_path / "base").exists()


def test_a_base_names_itself_and_is_not_hashed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fingerprint = weights.save(tmp_path / "base", config(), tensors())
    assert fingerprint == storage.fingerprint(tensors())
    monkeypatch.setattr(storage, "fingerprint", lambda _: pytest.fail("hashed"))
    assert weights.load(tmp_path / "base").fingerprint == fingerprint


@pytest.mark.parametrize("metadata", [None, {"fingerprint": "0123"}, {"fingerprint": "no hash at all..."}])
def test_a_base_that_does_not_name_itself_is_hashed(metadata: dict[str, str] | None, tmp_path: Path) -> None:
    """So is the one that ships with jazzd, and whatever another tool wrote."""
    weights.save(tmp_path, config(), tensors())
    save_file(dict(tensors()), tmp_path / weights.WEIGHTS, metadata)
    assert weights.identify(tmp_path) == (config(), storage.fingerprint(tensors()))


def test_weights_that_were_changed_are_noticed(tmp_path: Path) -> None:
    fingerprint = weights.save(tmp_path, config(), tensors())
    assert weights.describe(tmp_path)["intact"]
    content = bytearray((tmp_path / weights.WEIGHTS).read_bytes())
    content[-1] ^= 1
    (tmp_path / weights.WEIGHTS).write_bytes(content)
    told = weights.describe(tmp_path)
    assert (told["intact"], told["fingerprint"]) == (False, fingerprint)


def test_what_names_no_fingerprint_is_neither_intact_nor_changed(tmp_path: Path) -> None:
    weights.save(tmp_path, config(), tensors())
    save_file(dict(tensors()), tmp_path / weights.WEIGHTS, None)
    assert weights.describe(tmp_path)["intact"] is None


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_none_are_refused(dtype: type, number: float, tmp_path: Path) -> None:
    damaged = {name: tensor.astype(dtype) for name, tensor in tensors().items()}
    assert all(storage.finite(tensor) for tensor in damaged.values())
    damaged["model.norm.weight"] = damaged["model.norm.weight"].copy()
    damaged["model.norm.weight"][3] = number
    assert not storage.finite(damaged["model.norm.weight"])
    weights.save(tmp_path, config(), damaged)
    with pytest.raises(ModelError, match=r"model\.norm\.weight holds numbers that are none"):
        weights.load(tmp_path)


def test_the_fingerprint_of_the_builtin_base_is_that_of_its_tensors() -> None:
    config, fingerprint = weights.identify("builtin")
    assert config == Config.builtin()
    assert fingerprint == storage.fingerprint(weights.tensors("builtin"))
    assert weights.tensors("builtin").keys() == weights.shapes(config).keys()


def test_numerics_are_set_and_nothing_else(tmp_path: Path) -> None:
    weights.save(tmp_path, config(), tensors())
    weights.set_numerics(tmp_path, "rounded")
    assert weights.identify(tmp_path)[0] == dataclasses.replace(config(), numerics="rounded")
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize(("name", "of"), [("random-839m", Config.medium()), ("random-309m", Config.small())])
def test_random_bases_have_the_published_sizes(name: str, of: Config) -> None:
    found = weights.tensors(name)
    assert weights.identify(name) == (of, name)
    assert storage.shapes(found) == weights.shapes(of)
    one, other = (found[f"model.layers.{i}.mlp.up_proj.weight"].astype(np.float32) for i in (0, 1))
    assert found["model.norm.weight"].dtype == ml_dtypes.bfloat16
    assert one.std() == pytest.approx(of.hidden**-0.5, rel=0.01)
    assert abs(np.mean(one * other)) < 0.01 * one.var()
    assert abs(np.mean(one[1:] * one[:-1])) < 0.01 * one.var()


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_random_bases_load(dtype: type, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(untrained.CONFIGS, "random-839m", tiny.CONFIG)
    base = weights.load("random-839m", dtype, "rounded")
    assert (base.fingerprint, base.name) == ("random-839m", "random-839m")
    assert (base.dtype, base.model.config.numerics) == (jnp.dtype(dtype).name, "rounded")
    same = weights.to_tensors(weights.load("random-839m", dtype).model)
    for name, tensor in weights.to_tensors(base.model).items():
        np.testing.assert_array_equal(tensor, same[name])


def test_the_model_is_no_window_on_its_file(tmp_path: Path) -> None:
    """What happens to the file later does not reach the music."""
    weights.save(tmp_path, config(), tensors())
    base = weights.load(tmp_path)
    size = (tmp_path / weights.WEIGHTS).stat().st_size
    (tmp_path / weights.WEIGHTS).write_bytes(bytes(size))
    for name, tensor in weights.to_tensors(base.model).items():
        np.testing.assert_array_equal(tensor, tensors()[name])


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
