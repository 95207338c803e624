"""A training run, whatever is trained.

A run is a folder: its recipe, the corpus as read (`corpus.npz`), checkpoints, `history.jsonl`, `curve.png`,
and the best so far. Killed at any moment, it goes on from its last checkpoint and sees the same batches.
"""

import errno
import logging
import math
import os
import re
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import jax
import numpy as np
import optax
import orbax.checkpoint as ocp
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Int
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from jazzd.errors import JazzdError, MidiError, ModelError
from jazzd.teach import corpus, recipe
from jazzd.teach.dataset import Batch
from jazzd.teach.history import History
from jazzd.teach.loss import Arrays, Nats
from jazzd.teach.recipe import Recipe, StyleRecipe

Tree = Any
"""Nested dicts of arrays."""


Gather = Callable[[Path, corpus.Step], corpus.Gathered]
"""Makes pieces of a folder of MIDI files."""


class StoppedError(JazzdError):
    """The user stopped the run; it can go on."""


@dataclass(frozen=True)
class Subject:
    """What is trained, and how."""

    weights: Tree
    """As they are before the training."""
    frozen: Tree
    """What the model needs besides them."""
    loss: Callable[[Tree, Tree, Arrays, Array], Nats]
    """Of weights, frozen, a batch and the step's random key: what is to become less."""
    score: Callable[[Tree, Tree, Arrays], Nats]
    """Of weights, frozen and a batch: what a validation tells."""
    optimizer: optax.GradientTransformation


@dataclass(frozen=True)
class Course:
    """The way of a run from its first step to its last."""

    title: str
    steps: int
    validate_every: int
    patience: int | None
    """Validations without a better one after which it ends; None for never."""
    draw: Callable[[int], Batch]
    """The batch of a step, counted from 0."""
    validation: Mapping[str, Sequence[Batch]]
    """Kind of music -> what to measure it by."""
    keep: Callable[[Tree], None]
    """Write these weights: they are the best so far."""
    base: str = ""
    """What it goes out from; empty for nothing but chance."""
    mark: str = ""
    """The fingerprint of that."""


class Trainer:
    """The weights in training, their optimizer, and the compiled step, spread over all local devices."""

    def __init__(self, subject: Subject, batch_size: int, seed: int) -> None:
        devices = math.gcd(len(jax.local_devices()), batch_size)
        mesh = jax.sharding.Mesh(np.array(jax.local_devices()[:devices]), ("batch",))
        self._whole = NamedSharding(mesh, PartitionSpec())
        self._spread = NamedSharding(mesh, PartitionSpec("batch"))
        self._subject, self._seed = subject, seed
        self.weights = jax.device_put(subject.weights, self._whole)
        self._frozen = jax.device_put(subject.frozen, self._whole)
        self._moments = jax.device_put(subject.optimizer.init(self.weights), self._whole)
        self._update = jax.jit(self._compiled_update, donate_argnums=(0, 1))
        self._score = jax.jit(subject.score)

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        return {"params": self.weights, "moments": jax.tree.leaves(self._moments)}

    def restore(self, state: dict[str, Any]) -> None:
        self.weights = jax.device_put(state["params"], self._whole)
        self._moments = jax.tree.unflatten(
            jax.tree.structure(self._moments), jax.device_put(state["moments"], self._whole)
        )

    def step(self, number: int, batch: Batch) -> Float[Array, ""]:
        """The update of that step; returns the nats per note before it."""
        loss: Float[Array, ""]
        self.weights, self._moments, loss = self._update(
            self.weights, self._moments, self._frozen, self._on_devices(batch), np.int32(number)
        )
        return loss

    def validate(self, batches: Sequence[Batch]) -> float:
        """Nats per note."""
        total = counted = 0.0
        for batch in batches:
            nats, notes = self._score(self.weights, self._frozen, self._on_devices(batch))
            total, counted = total + float(nats), counted + float(notes)
        return total / counted

    def _on_devices(self, batch: Batch) -> Arrays:
        parts = (batch.rows, batch.labels, batch.blocks, batch.counted)
        rows, labels, blocks, counted = (jax.device_put(part, self._spread) for part in parts)
        return rows, labels, blocks, counted

    def _compiled_update(
        self, weights: Tree, moments: Tree, frozen: Tree, batch: Arrays, number: Int[Array, ""]
    ) -> tuple[Tree, Tree, Float[Array, ""]]:
        def loss(weights: Tree) -> Float[Array, ""]:
            key = jax.random.fold_in(jax.random.key(self._seed), number)
            nats, notes = self._subject.loss(weights, frozen, batch, key)
            return nats / notes

        value, gradient = jax.value_and_grad(loss)(weights)
        updates, moments = self._subject.optimizer.update(gradient, moments, weights)
        return optax.apply_updates(weights, updates), moments, value


def use_every_core() -> None:
    """Make each CPU core a device: sharing a batch out keeps them busier than sharing each product out."""
    with suppress(RuntimeError):  # JAX has begun already: then with what it has
        jax.config.update("jax_num_cpu_devices", os.cpu_count() or 1)


def check_new(run: Path) -> None:
    """Raises MidiError where a run would write over an earlier one."""
    if run.exists() and any(run.iterdir()):
        raise MidiError(f"{run} holds an earlier run; go on with --resume, or choose another --out")


def read(source: Path, run: Path, console: Console, gather: Gather) -> list[corpus.Piece]:
    """The pieces of the run, or of the dataset `source`, or those in the MIDI files below it.

    Raises MidiError.
    """
    for folder in (run, source):
        if (folder / corpus.STORED).is_file():
            return corpus.load(folder / corpus.STORED)
    with progress(console) as bar:
        task = bar.add_task("reading MIDI", total=None, note="")
        found = gather(source, lambda done, of: bar.update(task, completed=done, total=of))
    for refused in found.refused:
        console.print(f"left out: {refused.reason}", highlight=False, markup=False)
    return list(found.pieces)


def on_side(pieces: Sequence[corpus.Piece], side: corpus.Side) -> list[corpus.Piece]:
    """The pieces that are there for that."""
    return [piece for piece in pieces if piece.side == side]


def train(trainer: Trainer, course: Course, history: History, run: Path, console: Console) -> None:
    """Go all the way, from the run's last checkpoint on.

    Raises StoppedError when the user wants it to end, ModelError when the disk is full; both times with what
    has been reached safe in the run's folder.
    """
    if course.base:
        _set_out(trainer, course, history, run)
    logging.getLogger("absl").setLevel(logging.CRITICAL)  # orbax tells of its errors twice
    options = ocp.CheckpointManagerOptions(max_to_keep=2, enable_async_checkpointing=False)
    with (
        ocp.CheckpointManager((run / "checkpoints").absolute(), options=options) as checkpoints,
        _asked_to_stop() as stop,
        progress(console) as bar,
    ):
        done = checkpoints.latest_step() or 0
        history.cut(done)
        if done:
            trainer.restore(checkpoints.restore(done, args=ocp.args.StandardRestore(trainer.state())))
            console.print(f"going on after step {done} of {course.steps}")
        task = bar.add_task("training", total=course.steps, completed=done, note="")
        losses: list[Float[Array, ""]] = []
        while done < course.steps and not (course.patience and history.stale(course.patience)):
            losses.append(trainer.step(done, course.draw(done)))
            done += 1
            bar.update(task, completed=done)
            validating = done % course.validate_every == 0 or done == course.steps
            if validating:
                figures = {"step": done, "time": round(time.time()), "train": float(np.mean(losses))}
                figures |= {kind: trainer.validate(part) for kind, part in course.validation.items()}
                losses.clear()
            with writing(run):
                if validating and history.add(figures):
                    course.keep(trainer.weights)
                if validating or stop.is_set():
                    _save(checkpoints, run, done, trainer.state())
                if validating:
                    history.draw(run / "curve.png", course.title)
            if validating:
                bar.update(task, note=history.summary())
                if not console.is_terminal:
                    console.print(f"step {done}/{course.steps}: {history.summary()}")
            if stop.is_set():
                raise StoppedError(f"stopped after step {done} of {course.steps}; go on with --resume")


def _set_out(trainer: Trainer, course: Course, history: History, run: Path) -> None:
    """Note what the base foretells before the training. Raises ModelError where the run began on another."""
    if history.start is None:
        with writing(run):
            figures = {kind: trainer.validate(part) for kind, part in course.validation.items()}
            history.add({"step": 0, **figures, "base": course.mark})
    elif history.start["base"] != course.mark:
        raise ModelError(
            f"{run} was begun on the base {history.start['base']}, and {course.base} is {course.mark}; "
            "name its own --base, or choose another --out"
        )


def begin(run: Path, choices: Recipe | StyleRecipe, pieces: Sequence[corpus.Piece]) -> None:
    """Make the run's folder, or note in it how it goes on. Raises ModelError when it cannot be written."""
    with writing(run):
        run.mkdir(parents=True, exist_ok=True)
        recipe.save(run, choices)
        if not (run / corpus.STORED).exists():
            corpus.save(run / corpus.STORED, pieces)


def _save(checkpoints: ocp.CheckpointManager, run: Path, step: int, state: dict[str, Any]) -> None:
    """Keep a checkpoint; the one before goes only when this one is whole."""
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    if shutil.disk_usage(run).free < 2 * size:  # orbax finds out too, but not without tracebacks
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    checkpoints.save(step, args=ocp.args.StandardSave(state))


@contextmanager
def writing(run: Path) -> Iterator[None]:
    """Makes a full disk one sentence."""
    try:
        yield
    except OSError as error:
        raise _unwritten(run, error.strerror or str(error)) from None
    except ValueError as error:  # orbax's, with the system's words somewhere in it
        if not (words := re.search(r"([\w ]+) \[os_error_code", str(error))):
            raise
        raise _unwritten(run, words[1].strip()) from None


def _unwritten(run: Path, reason: str) -> ModelError:
    return ModelError(f"{run}: cannot be written ({reason}); mend that, then go on with --resume")


@contextmanager
def _asked_to_stop() -> Iterator[threading.Event]:
    """Set by Ctrl-C and SIGTERM, so that a step is never left half done; the second one ends at once."""
    stop = threading.Event()

    def ask(number: int, frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    before = {each: signal.signal(each, ask) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=console,
        disable=not console.is_terminal,
    )
