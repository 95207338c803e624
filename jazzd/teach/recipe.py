"""What can be chosen about a training run. Knows no model, so that the command line can show it at once."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, TypeVar

from jazzd.errors import ConfigError
from jazzd.files import replacing


@dataclass(frozen=True)
class Recipe:
    """How a base is trained; written beside the weights as `recipe.json`."""

    base: str = ""
    """The base whose training is taken up again; empty for a new one."""
    steps: int = 4000
    batch_size: int = 8
    length: int = 256
    learning_rate: float = 1e-3
    warmup_steps: int = 200
    decay_share: float = 0.4
    """The last part of the steps, in which the learning rate falls to nothing."""
    weight_decay: float = 0.05
    clip: float = 1.0
    chord_share: float = 0.35
    tempo: float = 0.08
    """Each window is stretched by up to this share either way."""
    validate_every: int = 100
    validation_batches: int = 8
    seed: int = 0


@dataclass(frozen=True)
class StyleRecipe:
    """How a style is trained, and what its file will say of it; kept in the run's folder as `recipe.json`."""

    base: str = "builtin"
    dtype: Literal["float32", "bfloat16"] | None = None
    numerics: Literal["exact", "rounded"] | None = None
    rank: int = 16
    alpha: float = 32.0
    dropout: float = 0.1
    targets: tuple[str, ...] = ("q_proj", "v_proj", "o_proj")
    epochs: int = 50
    """An epoch has twelve windows for each piece, one a key."""
    batch_size: int = 8
    grad_accumulation: int = 4
    """Batches whose gradients are averaged for one update."""
    length: int = 256
    """Rows of a window: half a minute of a solo, and half the time of the 512 that are played with."""
    learning_rate: float | None = None
    """None for what suits the base's width (see `tune`)."""
    warmup_steps: int = 100
    """Updates, but at most a quarter of all."""
    weight_decay: float = 0.01
    clip: float = 1.0
    tempo: float = 0.08
    """Each window is stretched by up to this share either way."""
    velocity: int = 6
    """Each window is louder or softer by up to this, unless every note of the piece is struck alike."""
    patience: int = 16
    """Validations without a better one after which the training ends."""
    seed: int = 0
    title: str = ""
    license: str = ""
    author: str = ""
    program: int | None = None
    temperature: float | None = None
    low: int | None = None
    high: int | None = None


AnyRecipe = TypeVar("AnyRecipe", Recipe, StyleRecipe)
FREE = {"steps", "epochs", "title", "license", "author", "program", "temperature", "low", "high"}
"""What may be chosen anew when a run goes on; anything else would make another thing of it."""
FILE = "recipe.json"


def save(run: Path, recipe: Recipe | StyleRecipe) -> None:
    """Write it into the run's folder as a whole. Raises OSError."""
    with replacing(run / FILE) as partial:
        partial.write_text(json.dumps(dataclasses.asdict(recipe), indent=1) + "\n")


def chosen(kind: type[AnyRecipe], given: Mapping[str, Any]) -> AnyRecipe:
    """The recipe with these choices. Raises ConfigError for one that this kind of training does not have."""
    names = {field.name for field in dataclasses.fields(kind)}
    for name in given:
        if name not in names:
            what = "a whole base (--full)" if kind is Recipe else "a style (no --full)"
            raise ConfigError(f"--{name.replace('_', '-')} means nothing in training {what}; leave it out")
    return kind(**given)


def resumed(
    run: Path,
    kind: type[AnyRecipe],
    given: Mapping[str, Any],
    usual: Mapping[str, Any] = MappingProxyType({}),
) -> AnyRecipe:
    """The recipe of the run in that folder, with those choices that may be made anew.

    Where there is none, that of a new run: `usual` are its choices unless others are given. Raises
    ConfigError where a choice would make another thing of the run.
    """
    asked = chosen(kind, {**usual, **given})
    if not (run / FILE).exists():
        return asked
    stored: dict[str, Any] = json.loads((run / FILE).read_text())
    if set(stored) - {field.name for field in dataclasses.fields(kind)}:
        raise ConfigError(f"{run} holds a run of another kind; choose another --out")
    if "targets" in stored:
        stored["targets"] = tuple(stored["targets"])
    begun = kind(**stored)
    for name in set(given) - FREE:
        if getattr(begun, name) != getattr(asked, name):
            option = name.replace("_", "-")
            raise ConfigError(
                f"{run} was begun with another --{option}; leave it out, or choose another --out"
            )
    return dataclasses.replace(begun, **{name: given[name] for name in set(given) & FREE})
