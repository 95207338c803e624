"""Adapters as PEFT writes and reads them: a folder with a config and the tensors."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import numpy as np
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from jazzd.errors import ModelError, StyleError, place, plain
from jazzd.moonbeam import storage
from jazzd.moonbeam.targets import Place, module
from jazzd.styles import container, style
from jazzd.styles.container import Container, shown
from jazzd.styles.manifest import MAX_RANK, Manifest
from jazzd.styles.style import PREFIX, BaseFacts, Halves, MisfitError, Style

CONFIG, WEIGHTS, PICKLE = "adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"
FILES = (CONFIG, WEIGHTS, PICKLE)
CONFIG_LIMIT = 2**20
"""Bytes of a config at most."""
MORE_THAN_LORA = (
    "use_dora",
    "modules_to_save",
    "lora_bias",
    "trainable_token_indices",
    "target_parameters",
    "layer_replication",
    "alora_invocation_tokens",
    "use_qalora",
    "use_bdlora",
    "kasa_config",
    "monteclora_config",
    "arrow_config",
)
"""Settings that make an adapter something else than two factors a projection."""
CHANGES_THE_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")
"""Initializations that leave other weights behind than those of the base."""
BF16_STEP = 2**-8
"""Largest relative change when a number becomes bfloat16."""

N = TypeVar("N", int, float)
Alpha = Annotated[float, Field(ge=1e-3, le=1e3)]
Rank = Annotated[int, Field(ge=1, le=MAX_RANK)]


def _empty_for_none(value: object) -> object:
    return {} if value is None else value


def _plain(key: str) -> str:
    """PEFT takes regular expressions here, and a stranger's are not to be run."""
    name = key.replace("\\.", ".").removeprefix("^")
    if not name.replace(".", "").replace("_", "").isalnum():
        raise ValueError("write out the names of the modules")
    return name


Pattern = dict[Annotated[str, AfterValidator(_plain)], N]


class LoraConfig(BaseModel):
    """What matters to us in an `adapter_config.json`."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    peft_type: Literal["LORA"]
    r: Rank
    lora_alpha: Alpha
    rank_pattern: Annotated[Pattern[Rank], BeforeValidator(_empty_for_none)] = {}
    alpha_pattern: Annotated[Pattern[Alpha], BeforeValidator(_empty_for_none)] = {}
    use_rslora: bool = False

    def scale(self, place: Place, rank: int, source: Path) -> float:
        """What PEFT multiplies the projection's factors with. Raises StyleError if it would not load them."""
        expected = _matched(self.rank_pattern, place, self.r)
        if rank != expected:
            raise StyleError(f"{source}: {module(place)} has the rank {rank}, and {CONFIG} says {expected}")
        return _matched(self.alpha_pattern, place, self.lora_alpha) / (
            math.sqrt(rank) if self.use_rslora else rank
        )


def read(folder: Path, base: BaseFacts) -> Style:
    """The adapter in a folder that PEFT wrote, if it bends nothing but the projections of this base.

    Raises MisfitError where it is for another base, else StyleError.
    """
    if (folder / PICKLE).exists() and not (folder / WEIGHTS).exists():
        raise StyleError(
            f"{folder}: {PICKLE} is a pickle, which could run anything; re-save it as safetensors"
        )
    config = _config(folder)
    with container.opened(folder / WEIGHTS) as file:
        found, others = style.find(file, base.config)
        for name in others:
            _check_frozen(file, name, base)
        scales = {place: config.scale(place, halves.rank, folder) for place, halves in found.items()}
        adapter = style.load(file, found, scales)
    manifest = Manifest(
        base=base.fingerprint,
        rank=adapter.rank,
        alpha=_alpha(found, scales, adapter.rank),
        targets=style.targets(found),
    )
    return Style(manifest, adapter)


def write(folder: Path, written: Style) -> None:
    """Put the two files there, each as a whole, the config last. Raises StyleError."""
    for name in FILES:
        if (folder / name).exists():
            raise StyleError(f"{folder} holds an adapter already; name another folder, or remove it first")
    manifest = written.manifest
    config = {
        "peft_type": "LORA",
        "task_type": None,
        "r": manifest.rank,
        "lora_alpha": manifest.alpha if manifest.alpha % 1 else int(manifest.alpha),
        "target_modules": sorted(map(module, written.adapter.factors)),
        "lora_dropout": 0.0,
        "bias": "none",
        "inference_mode": True,
    }
    with container.replacing(folder / CONFIG) as partial, container.replacing(folder / WEIGHTS) as weights:
        partial.write_text(json.dumps(config, indent=2) + "\n")
        storage.write(weights, style.tensors(written), {"format": "pt"})


def _config(folder: Path) -> LoraConfig:
    """What the config says, if it is one of plain LoRA."""
    path = folder / CONFIG
    try:
        given = json.loads(container.read_small(path, CONFIG_LIMIT))
        config = LoraConfig.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = shown(place(first) or "all of it")
        raise StyleError(f"{path}: not the config of a LoRA adapter ({key}: {plain(first)})") from None
    except (ValueError, RecursionError):
        raise StyleError(f"{path}: not a JSON file") from None
    more = [key for key in MORE_THAN_LORA if given.get(key)]
    more += ["bias"] if given.get("bias", "none") != "none" else []
    if more:
        raise StyleError(f"{path}: {more[0]} is more than a style can hold; train the adapter without it")
    kind = str(given.get("init_lora_weights", "")).lower()
    if kind.startswith(CHANGES_THE_BASE):
        raise StyleError(
            f"{path}: {shown(kind)} changes the base, too; save the adapter converted to plain LoRA"
        )
    return config


def _matched(pattern: Mapping[str, N], place: Place, otherwise: N) -> N:
    """The value for the projection: PEFT's look-up, for plain names."""
    name = module(place)
    matches = (value for key, value in pattern.items() if name == key or name.endswith(f".{key}"))
    return next(matches, otherwise)


def _alpha(found: Mapping[Place, Halves], scales: Mapping[Place, float], rank: int) -> float:
    """The alpha that gives every projection's scale; the rank, which means 1, where they differ."""
    return rank * (scales[next(iter(found))] if len(set(scales.values())) == 1 else 1.0)


def _check_frozen(file: Container, name: str, base: BaseFacts) -> None:
    """PEFT copies the weights of an adapted head into its file: they must be the base's."""
    try:
        ours = base.tensors().get(name.removeprefix(PREFIX).replace(".base_layer.", "."))
    except (ModelError, OSError) as error:
        raise StyleError(f"{file.path}: {shown(name)} cannot be compared with the base's ({error})") from None
    if ours is None:
        raise StyleError(
            f"{file.path}: {shown(name)} is more than a style can hold; train the adapter without it"
        )
    shape = file.entries[name].shape
    if shape != ours.shape or not _equal(file.read(name), ours):
        raise MisfitError(f"{file.path}: {name} is not what this base has there; use it with its own base")


def _equal(theirs: np.ndarray, ours: np.ndarray) -> bool:
    """As far as bfloat16 tells: either side may have been rounded to it."""
    wide = ours.astype(np.float32)
    return bool(np.all(np.abs(theirs - wide) <= BF16_STEP * np.abs(wide) + 1e-7))
