"""Base folders: `model.safetensors` under the reference's tensor names beside `config.json`."""

import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from jazzd.errors import ModelError
from jazzd.moonbeam import checkpoint
from jazzd.moonbeam.config import Config, Numerics
from jazzd.moonbeam.model import Moonbeam

BUILTIN = Path(__file__).parent.parent / "builtin"
WEIGHTS, CONFIG = "model.safetensors", "config.json"


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


def from_tensors(
    config: Config, tensors: Mapping[str, np.ndarray], source: object, dtype: jnp.dtype | type = jnp.float32
) -> Moonbeam:
    """The model with these weights. Raises ModelError listing every missing, extra and misshaped tensor."""
    model = nnx.eval_shape(lambda: Moonbeam(config, nnx.Rngs(0)))
    graph, state = nnx.split(model)
    wanted = dict(nnx.to_flat_state(state))
    places, problems = entries(config), []
    problems += [f"{name} is extra" for name in sorted(set(tensors) - set(places))]
    problems += [f"{name} is missing" for name in sorted(set(places) - set(tensors))]
    filled = {}
    for name, entry in places.items():
        if name in tensors:
            tensor = tensors[name].T if entry.transposed else tensors[name]
            if tensor.shape != wanted[entry.path].shape:
                expected = wanted[entry.path].shape[:: -1 if entry.transposed else 1]
                problems.append(f"{name} is {list(tensors[name].shape)} instead of {list(expected)}")
            else:
                filled[entry.path] = wanted[entry.path].replace(jnp.asarray(tensor, dtype))
    if problems:
        listed = "; ".join(problems)
        raise ModelError(f"{source} does not fit its config; use the one that belongs to it: {listed}")
    return nnx.merge(graph, nnx.from_flat_state(list(filled.items())))


def to_tensors(model: Moonbeam) -> dict[str, np.ndarray]:
    """The weights under the reference's names."""
    flat = dict(nnx.to_flat_state(nnx.state(model, nnx.Param)))
    return {
        name: np.ascontiguousarray(
            np.asarray(flat[e.path][...]).T if e.transposed else np.asarray(flat[e.path][...])
        )
        for name, e in entries(model.config).items()
    }


def load(base: str | Path, dtype: jnp.dtype | type = jnp.float32, numerics: Numerics | None = None) -> Base:
    """The base in a folder, or the one that ships with jazzd (`builtin`). Raises ModelError."""
    folder = BUILTIN if base == "builtin" else Path(base)
    config = Config.load(folder / CONFIG)
    if numerics is not None:
        config = dataclasses.replace(config, numerics=numerics)
    try:
        tensors = load_file(folder / WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{folder / WEIGHTS}: cannot be read ({error})") from None
    return Base(str(base), from_tensors(config, tensors, folder, dtype), fingerprint(tensors))


def convert(source: Path, target: Path, config: Path | None = None) -> str:
    """Make a base folder of a checkpoint in the published layout; returns the fingerprint.

    The sizes are those in `config` (a JSON file with the reference's keys), or known from the tensors' shapes
    for the two published models. Raises ModelError; then nothing is written.
    """
    tensors = checkpoint.read(source)
    sizes = Config.from_reference(config) if config else _published(tensors, source)
    from_tensors(sizes, tensors, source)
    if (target / WEIGHTS).exists():
        raise ModelError(f"{target} holds a base already; choose another folder, or remove it first")
    return save(target, sizes, {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()})


def _published(tensors: Mapping[str, np.ndarray], source: Path) -> Config:
    """The published model whose width this is."""
    shape = getattr(tensors.get("model.norm.weight"), "shape", None)
    for config in (Config.medium(), Config.small()):
        if shape == (config.hidden,):
            return dataclasses.replace(config, numerics="rounded")
    raise ModelError(f"{source} is neither of the published models; name its sizes with --config FILE")


def save(folder: Path, config: Config, tensors: Mapping[str, np.ndarray]) -> str:
    """Write a base folder, the weights' file only as a whole; returns the fingerprint."""
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f".{WEIGHTS}.{os.getpid()}"
    try:
        save_file(dict(tensors), partial)
        (folder / CONFIG).write_text(json.dumps(config.to_json(), indent=1) + "\n")
        shutil.copymode(folder / CONFIG, partial)  # safetensors writes for the owner's eyes only
        os.replace(partial, folder / WEIGHTS)
    finally:
        partial.unlink(missing_ok=True)
    return fingerprint(tensors)


def fingerprint(tensors: Mapping[str, np.ndarray]) -> str:
    """Sixteen hex digits that change with any tensor's name, type, shape or value."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = np.ascontiguousarray(tensors[name])
        digest.update(f"{name}:{tensor.dtype}:{tensor.shape}\n".encode())
        digest.update(tensor.view(np.uint8).data)
    return digest.hexdigest()[:16]
