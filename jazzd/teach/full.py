"""Training every weight of a base: how the built-in one was made (`jazzd finetune --full`)."""

import dataclasses
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
from flax import nnx
from rich.console import Console

from jazzd.errors import MidiError
from jazzd.moonbeam import weights
from jazzd.moonbeam.config import Config
from jazzd.moonbeam.model import Moonbeam
from jazzd.teach import corpus, loss, train
from jazzd.teach.dataset import Batch, Dataset
from jazzd.teach.history import History
from jazzd.teach.recipe import Recipe
from jazzd.teach.train import Course
from jazzd.teach.trainer import Subject, Team, Trainer, Tree, leads, set_up

VALIDATION_SEED = 2**31
KINDS = ("chords", "plain")


def train_base(
    midi: Path,
    run: Path,
    config: Config,
    choices: Recipe,
    console: Console,
    resume: bool = False,
    team: Team | None = None,
) -> dict[str, Any]:
    """Train a base, or one further, on a dataset or the MIDI files below `midi`; returns the best figures.

    They are those of a validation. The best weights so far are the base folder `run/best`. Raises MidiError
    for a folder without usable files or a run that exists and is not to be resumed, and what `train.train`
    raises.
    """
    set_up(team)
    if not resume:
        train.check_new(run)
    pieces = train.read(midi, run, console, corpus.gather)
    taught_pieces, held_out = train.on_side(pieces, "train"), train.on_side(pieces, "validation")
    if not taught_pieces or not held_out:
        raise MidiError(f"{midi}: too few files: at least one tune to learn from and one to validate with")
    train.begin(run, choices, pieces)
    config = dataclasses.replace(config, window=choices.length)
    taught = Dataset(
        taught_pieces, config.vocabulary, choices.length, choices.chord_share, True, tempo=choices.tempo
    )
    graph, subject = whole(config, choices)

    def keep(params: Tree) -> None:
        # In float16: half the size, and closer to float32 than a step of training.
        tensors = weights.to_tensors(nnx.merge(graph, params)).items()
        weights.save(run / "best", config, {name: t.astype(np.float16) for name, t in tensors})

    course = Course(
        title="Training of the base",
        steps=choices.steps,
        validate_every=choices.validate_every,
        patience=None,
        draw=partial(taught.batch, choices.batch_size, choices.seed),
        validation=_validation(held_out, config, choices),
        keep=keep,
        base=choices.base,
        mark=weights.identify(choices.base)[1] if choices.base else "",
    )
    history = History.load(run, writes=leads())
    train.train(Trainer(subject, choices.batch_size, choices.seed), course, history, run, console)
    return history.best


def whole(config: Config, choices: Recipe) -> tuple[nnx.GraphDef[Moonbeam], Subject]:
    """All weights of a base: a new one, or one that has learned before. Raises ModelError."""
    new = Moonbeam(config, nnx.Rngs(choices.seed)) if not choices.base else weights.load(choices.base).model
    graph, params = nnx.split(new, nnx.Param)

    def nats(params: Tree, frozen: Tree, batch: loss.Arrays, key: jax.Array | None = None) -> loss.Nats:
        return loss.nats(nnx.merge(graph, params), batch)

    optimizer = optax.chain(
        optax.clip_by_global_norm(choices.clip),
        optax.adamw(_schedule(choices), b2=0.98, weight_decay=choices.weight_decay, mask=_decayed),
    )
    return graph, Subject(nnx.to_pure_dict(params), {}, nats, nats, optimizer)


def _schedule(choices: Recipe) -> optax.Schedule:
    decay = int(choices.steps * choices.decay_share)
    return optax.join_schedules(
        [
            optax.linear_schedule(0.0, choices.learning_rate, choices.warmup_steps),
            optax.constant_schedule(choices.learning_rate),
            optax.linear_schedule(choices.learning_rate, 0.0, decay),
        ],
        [choices.warmup_steps, choices.steps - decay],
    )


def _decayed(params: Tree) -> Tree:
    """Weight decay is for matrices: not for biases and norms."""
    return jax.tree.map(lambda leaf: leaf.ndim >= 2 and min(leaf.shape) > 1, params)


def _validation(pieces: list[corpus.Piece], config: Config, choices: Recipe) -> dict[str, list[Batch]]:
    """The same windows at every validation."""
    found = {}
    for kind in KINDS:
        of_kind = [piece for piece in pieces if bool(piece.chords) == (kind == "chords")]
        data = Dataset(of_kind, config.vocabulary, choices.length, 0.5, False)
        if of_kind:
            found[kind] = [
                data.batch(choices.batch_size, VALIDATION_SEED, i) for i in range(choices.validation_batches)
            ]
    return found
