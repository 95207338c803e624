"""A style: an adapter and its manifest, and the file that holds them."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jazzd.errors import StyleError
from jazzd.moonbeam import storage
from jazzd.moonbeam.config import Config
from jazzd.moonbeam.targets import Adapter, Place, module, shapes
from jazzd.styles import container
from jazzd.styles.container import Container, shown
from jazzd.styles.manifest import MAX_RANK, Manifest

SIZE_LIMIT = 64 * 2**20
"""Bytes of one style's factors at most."""
PREFIX = "base_model.model."
"""PEFT's, before the names of the reference's modules."""
_DEEP = re.compile(re.escape(PREFIX) + r"model\.layers\.([0-9]{1,9})\..*lora_")
_ADAPTER_NAME = re.compile(r"\.default(?=\.weight$|$)")


@dataclass(frozen=True)
class BaseFacts:
    """What a style must fit."""

    fingerprint: str
    config: Config
    tensors: Callable[[], Mapping[str, np.ndarray]]
    """The weights under the reference's names; asked for only where PEFT put some of them into its file."""


@dataclass(frozen=True)
class Style:
    manifest: Manifest
    adapter: Adapter


class MisfitError(StyleError):
    """A sound style, for another base."""

    def __init__(self, sentence: str, manifest: Manifest | None = None) -> None:
        super().__init__(sentence)
        self.manifest = manifest


def _too_large(path: Path, size: int) -> StyleError:
    return StyleError(
        f"{path}: {size / 2**20:.0f} MB are more than the 64 MB that a style may have; "
        "make it anew with a lower rank, or for fewer targets"
    )


@dataclass(frozen=True)
class Halves:
    """The names of a projection's two factors in a file."""

    down: str
    up: str
    rank: int


def read(path: Path, base: BaseFacts) -> Style:
    """The style in a jazzd style file. Raises MisfitError where it is for another base, else StyleError."""
    with container.opened(path) as file:
        if file.size > SIZE_LIMIT:
            raise _too_large(path, file.size)
        manifest = Manifest.parse(file.metadata, path)
        if manifest.base != base.fingerprint:
            raise MisfitError(
                f"{path}: it was made for the base {manifest.base}, and this is {base.fingerprint}; "
                "use it with its own base",
                manifest,
            )
        found, others = find(file, base.config)
        if others:
            raise StyleError(
                f"{path}: {shown(others[0])} is not a factor of a projection that styles may bend"
            )
        if {halves.rank for halves in found.values()} != {manifest.rank}:
            raise StyleError(f"{path}: its tensors do not have the rank {manifest.rank} that it names")
        if targets(found) != tuple(sorted(set(manifest.targets))):
            raise StyleError(
                f"{path}: its tensors bend {', '.join(targets(found))}, not the targets that it names"
            )
        return Style(manifest, load(file, found, dict.fromkeys(found, manifest.scale)))


def write(path: Path, style: Style) -> None:
    """Put a style file there as a whole, or not at all. Raises StyleError."""
    with container.replacing(path) as partial:
        storage.write(partial, tensors(style), style.manifest.texts())


def names(place: Place) -> tuple[str, str]:
    """What PEFT calls the two factors of a projection."""
    stem = PREFIX + module(place)
    if place[1] == "decoder_embedding":
        return f"{stem}.lora_embedding_A", f"{stem}.lora_embedding_B"
    return f"{stem}.lora_A.weight", f"{stem}.lora_B.weight"


def tensors(style: Style) -> dict[str, np.ndarray]:
    """The factors as a file holds them: PEFT's names, transposed, without alpha/rank.

    In bfloat16 where that loses nothing.
    """
    found = {}
    for place, (down, up) in style.adapter.factors.items():
        a, b = names(place)
        found[a], found[b] = down.T, up.T / np.float32(style.manifest.scale)
    narrow = {name: tensor.astype(container.DTYPES["BF16"]) for name, tensor in found.items()}
    lossless = all((narrow[name].astype(np.float32) == tensor).all() for name, tensor in found.items())
    return narrow if lossless else found


def find(file: Container, config: Config) -> tuple[dict[Place, Halves], list[str]]:
    """Where the factors of each projection are, by names and shapes, and the names of all other tensors.

    Raises MisfitError when the shapes are those of another base, StyleError when they are no factors.
    """
    left = {_ADAPTER_NAME.sub("", name): name for name in file.entries}
    if len(left) < len(file.entries):
        raise StyleError(f"{file.path}: a tensor is there twice, with and without `.default` in its name")
    found, size = {}, 0
    for place, (inputs, outputs) in shapes(config).items():
        a, b = names(place)
        halves = [left.pop(name) for name in (a, b) if name in left]
        if not halves:
            continue
        if len(halves) < 2:
            raise StyleError(f"{file.path}: {a} or {b} is missing; export it again")
        down, up = (file.entries[half] for half in halves)
        rank = down.shape[0]
        if down.shape != (rank, inputs) or up.shape != (outputs, rank):
            raise MisfitError(
                f"{file.path}: {a} and {b} are {list(down.shape)} and {list(up.shape)} where this base "
                f"takes [rank, {inputs}] and [{outputs}, rank]; use it with its own base"
            )
        if not 1 <= rank <= MAX_RANK:
            raise StyleError(f"{file.path}: {a} has the rank {rank}; styles have 1 to {MAX_RANK}")
        found[place] = Halves(halves[0], halves[1], rank)
        size += down.size + up.size
    for name in left:
        if (deep := _DEEP.match(name)) and int(deep[1]) >= config.layers:
            raise MisfitError(
                f"{file.path}: it bends layer {deep[1]}, and this base has {config.layers} (from 0); "
                "use it with its own base"
            )
    if not found:
        raise StyleError(f"{file.path}: there is no low-rank adapter for a Moonbeam model in it")
    if size > SIZE_LIMIT:
        raise _too_large(file.path, size)
    return found, sorted(left.values())


def load(file: Container, found: Mapping[Place, Halves], scales: Mapping[Place, float]) -> Adapter:
    """The factors, smaller ranks padded with zeros to the largest, each second one times its scale."""
    rank = max(halves.rank for halves in found.values())
    factors = {}
    for place, halves in found.items():
        up = file.read(halves.up).T * np.float32(scales[place])
        if max(up.max(), -up.min()) > container.LARGEST:
            raise StyleError(f"{file.path}: {shown(halves.up)} times alpha/rank is far too large")
        down = file.read(halves.down).T
        if more := rank - halves.rank:
            down, up = np.pad(down, ((0, 0), (0, more))), np.pad(up, ((0, more), (0, 0)))
        factors[place] = down, up
    return Adapter(rank, factors)


def targets(places: Mapping[Place, object]) -> tuple[str, ...]:
    """The names of the targets among the places, in order."""
    return tuple(sorted({target for _, target in places}))
