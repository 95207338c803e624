"""Base folders: `model.safetensors` under the reference's tensor names beside `config.json`."""

import dataclasses
import json
import math
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
from flax import nnx

from jazzd.errors import ModelError
from jazzd.files import replacing
from jazzd.moonbeam import checkpoint, halves, storage, untrained
from jazzd.moonbeam.config import Config, Numerics
from jazzd.moonbeam.model import Kernel, Moonbeam

BUILTIN = Path(__file__).parent.parent / "builtin"
WEIGHTS, CONFIG = "model.safetensors", "config.json"
NAMED = ("builtin", *untrained.CONFIGS)
"""Bases that are no folder of the user's."""
ALIGNMENT = 64
"""Bytes. Elsewhere JAX would make a copy of its own."""
BLOCK = 64
"""Rows that are transposed at once: few enough to stay in the cache."""


@dataclass(frozen=True)
class Base:
    """A frozen model, and what identifies it."""

    name: str
    model: Moonbeam
    fingerprint: str
    """Hash of the tensors; styles name the base that they were made for by it."""

    @property
    def dtype(self) -> str:
        return str(self.model.norm.scale[...].dtype)

    @property
    def device(self) -> str:
        """`cpu`, or the name of the accelerator."""
        device = next(iter(self.model.norm.scale[...].devices()))
        return "cpu" if device.platform == "cpu" else device.device_kind

    @property
    def parameters(self) -> int:
        """How many numbers it has learned."""
        return sum(leaf.size for leaf in jax.tree.leaves(nnx.state(self.model, nnx.Param)))


@dataclass(frozen=True)
class Entry:
    """Where a tensor of a checkpoint goes in the model."""

    path: tuple[str | int, ...]
    transposed: bool = False


def entries(config: Config) -> dict[str, Entry]:
    """Every tensor name of the reference (SPEC section 11) with its place in the model."""
    return dict(_entries(config))


def _entries(config: Config) -> Iterator[tuple[str, Entry]]:
    for i, name in enumerate(("onset", "dur", "octave", "pitch", "velocity")):
        field = ("embedding", "fields", i)
        yield f"model.{name}_embedding.translation_bias", Entry((*field, "bias"))
        yield (
            f"model.{name}_embedding.linear_fme.weight",
            Entry((*field, "linear", "kernel"), transposed=True),
        )
        yield f"model.{name}_embedding.linear_fme.bias", Entry((*field, "linear", "bias"))
    yield "model.instrument_embedding.embedding.weight", Entry(("embedding", "instrument", "embedding"))
    yield "model.supplementary_embedding.weight", Entry(("embedding", "special", "embedding"))
    for i, name in ((0, "inner"), (2, "outer")):
        yield f"model.supplementary_MLP.{i}.weight", Entry(("embedding", name, "kernel"), transposed=True)
        yield f"model.supplementary_MLP.{i}.bias", Entry(("embedding", name, "bias"))
    for i in range(config.layers):
        block, there = ("blocks", i), f"model.layers.{i}."
        yield there + "input_layernorm.weight", Entry((*block, "attention_norm", "scale"))
        yield there + "post_attention_layernorm.weight", Entry((*block, "mlp_norm", "scale"))
        for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
            yield (
                f"{there}self_attn.{name}.weight",
                Entry((*block, "attention", name, "kernel"), transposed=True),
            )
        for name in ("gate_proj", "up_proj", "down_proj"):
            yield f"{there}mlp.{name}.weight", Entry((*block, "mlp", name, "kernel"), transposed=True)
    yield "model.norm.weight", Entry(("norm", "scale"))
    for i in range(config.gru_layers):
        layer = ("decoder", "layers", i)
        for side, name in (("ih", "input"), ("hh", "hidden")):
            yield f"decoder.gru.weight_{side}_l{i}", Entry((*layer, f"{name}_kernel"), transposed=True)
            yield f"decoder.gru.bias_{side}_l{i}", Entry((*layer, f"{name}_bias"))
    yield "decoder.fc_out.weight", Entry(("decoder", "fc_out", "kernel"), transposed=True)
    yield "decoder.fc_out.bias", Entry(("decoder", "fc_out", "bias"))
    yield "decoder_embedding.weight", Entry(("decoder", "embedding", "embedding"))
    yield "summary_projection.weight", Entry(("summary",), transposed=True)
    yield "lm_head.weight", Entry(("decoder", "lm_head"), transposed=True)


class _OneKey(nnx.Rngs):
    """For what is never drawn: tracing a key for each of its numbers would take most of the time."""

    def params(self) -> jax.Array:
        return jax.random.key(0)


@cache
def outline(config: Config) -> tuple[nnx.GraphDef[Moonbeam], Mapping[tuple[Any, ...], Any]]:
    """A model without its weights: its structure, and by their paths the variables that they go into."""
    graph, state = nnx.split(nnx.eval_shape(lambda: Moonbeam(config, _OneKey())))
    return graph, dict(nnx.to_flat_state(state))


def shapes(config: Config) -> dict[str, tuple[int, ...]]:
    """The shape of every tensor by the reference's name."""
    _, variables = outline(config)
    return {
        name: variables[entry.path].shape[:: -1 if entry.transposed else 1]
        for name, entry in entries(config).items()
    }


def check(config: Config, tensors: Mapping[str, np.ndarray], source: object) -> None:
    """Raises ModelError listing every missing, extra and misshaped tensor."""
    wanted, found = shapes(config), storage.shapes(tensors)
    problems = [f"{name} is extra" for name in sorted(set(found) - set(wanted))]
    problems += [f"{name} is missing" for name in sorted(set(wanted) - set(found))]
    for name in wanted:
        if name in found and found[name] != wanted[name]:
            problems.append(f"{name} is {list(found[name])} instead of {list(wanted[name])}")
    if problems:
        listed = "; ".join(problems)
        raise ModelError(f"{source} does not fit its config; use the one that belongs to it: {listed}")


def from_tensors(
    config: Config,
    tensors: Mapping[str, np.ndarray],
    source: object,
    dtype: jnp.dtype | type = jnp.float32,
    playing: bool = False,
) -> Moonbeam:
    """The model with these weights; takes the room of one tensor besides its own.

    When it is only for playing, the kernels that come in bfloat16 stay so where this machine multiplies with
    them as they are (see `halves`): the same numbers in half the memory. Raises ModelError listing every
    missing, extra and misshaped tensor, or naming one with numbers that are none.
    """
    check(config, tensors, source)
    graph, variables = outline(config)
    filled = []
    for name, entry in entries(config).items():
        variable, tensor = variables[entry.path], tensors[name]
        _check_finite(name, tensor, source)
        stays = playing and isinstance(variable, Kernel) and tensor.dtype == ml_dtypes.bfloat16
        kept = tensor.dtype if stays and halves.available() else np.dtype(dtype)
        filled.append((entry.path, variable.replace(_placed(tensor, entry.transposed, kept))))
    return nnx.merge(graph, nnx.from_flat_state(filled))


def _placed(tensor: np.ndarray, transposed: bool, dtype: np.dtype[Any]) -> jax.Array:
    """The tensor as the model holds it.

    The CPU then computes on numpy's own memory, in which Linux uses large pages: products with one row run a
    quarter faster than on JAX's. And numpy transposes block by block faster than JAX does as a whole.
    """
    shape = tensor.shape[::-1] if transposed else tensor.shape
    size = math.prod(shape) * dtype.itemsize
    room = np.empty(size + ALIGNMENT, np.uint8)
    begin = -room.ctypes.data % ALIGNMENT
    target = room[begin : begin + size].view(dtype).reshape(shape)
    if transposed:
        for i in range(0, len(tensor), BLOCK):
            target[:, i : i + BLOCK] = tensor[i : i + BLOCK].astype(dtype).T
    else:
        target[...] = tensor
    placed: jax.Array = jax.device_put(target, may_alias=True).block_until_ready()
    return placed


def to_tensors(model: Moonbeam) -> dict[str, np.ndarray]:
    """The weights under the reference's names."""
    flat = dict(nnx.to_flat_state(nnx.state(model, nnx.Param)))
    return {
        name: np.ascontiguousarray(
            np.asarray(flat[e.path][...]).T if e.transposed else np.asarray(flat[e.path][...])
        )
        for name, e in entries(model.config).items()
    }


def identify(base: str | Path) -> tuple[Config, str]:
    """The sizes and the fingerprint of a base, without reading its weights where they name it themselves.

    Raises ModelError.
    """
    if config := untrained.CONFIGS.get(str(base)):
        return config, str(base)
    config = Config.load(_folder(base) / CONFIG)
    return config, _recorded(base) or storage.fingerprint(tensors(base))


def _recorded(base: str | Path) -> str:
    """The fingerprint that the weights' file names; empty where it names none."""
    recorded = storage.read(_folder(base) / WEIGHTS)[1].get("fingerprint", "")
    return recorded if re.fullmatch("[0-9a-f]{16}", recorded) else ""


def tensors(base: str | Path) -> Mapping[str, np.ndarray]:
    """A base's weights under the reference's names, each read when it is asked for. Raises ModelError."""
    if config := untrained.CONFIGS.get(str(base)):
        return untrained.tensors(shapes(config))
    return storage.read(_folder(base) / WEIGHTS)[0]


def load(
    base: str | Path,
    dtype: jnp.dtype | type = jnp.float32,
    numerics: Numerics | None = None,
    playing: bool = False,
) -> Base:
    """The base in a folder, the one that ships with jazzd (`builtin`), or random numbers of a published size
    (`random-839m`, `random-309m`); `playing` as for `from_tensors`. Raises ModelError."""
    config, mark = identify(base)
    if numerics is not None:
        config = dataclasses.replace(config, numerics=numerics)
    return Base(str(base), from_tensors(config, tensors(base), base, dtype, playing), mark)


def describe(base: str | Path) -> dict[str, Any]:
    """What `jazzd base info` tells: nothing is built, but every number is read.

    `intact` is whether the weights are those that the fingerprint was taken of, None where none was written
    down. Raises ModelError.
    """
    config, mark = identify(base)
    found = tensors(base)
    check(config, found, base)
    recorded = str(base) not in untrained.CONFIGS and _recorded(base)
    return {
        "base": str(base),
        "parameters": sum(tensor.size for tensor in found.values()),
        "bytes": sum(tensor.nbytes for tensor in found.values()),
        "dtype": ", ".join(sorted({str(tensor.dtype) for tensor in found.values()})),
        "fingerprint": mark,
        "intact": storage.fingerprint(found) == mark if recorded else None,
        "config": config.to_json(),
    }


def _check_finite(name: str, tensor: np.ndarray, source: object) -> None:
    if not storage.finite(tensor):
        raise ModelError(
            f"{source}: {name} holds numbers that are none (NaN or infinite): it is damaged; get it again"
        )


def convert(source: Path, target: Path, config: Path | None = None) -> str:
    """Make a base folder of a checkpoint in the published layout; returns the fingerprint.

    The sizes are those in `config` (a JSON file with the reference's keys), or known from the tensors' shapes
    for the two published models. Raises ModelError; then nothing is written.
    """
    check_free(target)
    found = checkpoint.read(source)
    sizes = Config.from_reference(config) if config else _published(found, source)
    check(sizes, found, source)
    for name, tensor in found.items():
        _check_finite(name, tensor, source)
    if all(tensor.dtype == ml_dtypes.bfloat16 for tensor in found.values()):
        # Such weights have learned with tables that were rounded alike (SPEC 3.4).
        sizes = dataclasses.replace(sizes, numerics="rounded")
    return save(target, sizes, found)


def check_free(folder: Path) -> None:
    """Raises ModelError where writing a base would overwrite something."""
    for name in (WEIGHTS, CONFIG):
        if (folder / name).exists():
            raise ModelError(f"{folder} holds a {name} already; choose another folder, or move that one away")


def _published(tensors: Mapping[str, np.ndarray], source: Path) -> Config:
    """The published model whose width this is."""
    shape = getattr(tensors.get("model.norm.weight"), "shape", None)
    for config in (Config.medium(), Config.small()):
        if shape == (config.hidden,):
            return dataclasses.replace(config, numerics="rounded")
    raise ModelError(f"{source} is neither of the published models; name its sizes with --config FILE")


def save(folder: Path, config: Config, tensors: Mapping[str, np.ndarray]) -> str:
    """Write a base folder, each file only as a whole; returns the fingerprint.

    Raises ModelError when that cannot be done; then nothing has changed.
    """
    mark, new = storage.fingerprint(tensors), not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(folder / WEIGHTS) as partial, replacing(folder / CONFIG) as sizes:
            storage.write(partial, tensors, {"fingerprint": mark})
            sizes.write_text(_json(config))
    except OSError as error:
        raise ModelError(f"{folder}: cannot be written ({error.strerror or error})") from None
    finally:
        if new:
            with suppress(OSError):
                folder.rmdir()  # possible only while nothing is in it
    return mark


def set_numerics(folder: Path, numerics: Numerics) -> None:
    """Make these the numerics of the base in a folder. Raises ModelError."""
    config = dataclasses.replace(Config.load(folder / CONFIG), numerics=numerics)
    try:
        with replacing(folder / CONFIG) as partial:
            partial.write_text(_json(config))
    except OSError as error:
        raise ModelError(f"{folder}: cannot be written ({error.strerror or error})") from None


def _json(config: Config) -> str:
    return json.dumps(config.to_json(), indent=1) + "\n"


def _folder(base: str | Path) -> Path:
    return BUILTIN if base == "builtin" else Path(base)
