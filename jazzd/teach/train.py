"""A training run, whatever is trained.

A run is a folder: its recipe, the corpus as read (`corpus.npz`), checkpoints, `history.jsonl`, `curve.png`,
and the best so far. Killed at any moment, it goes on from its last checkpoint and sees the same batches.
"""

import errno
import logging
import os
import re
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils
from jaxtyping import Array, Float
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from jazzd.errors import JazzdError, MidiError, ModelError, StyleError
from jazzd.teach import corpus, recipe
from jazzd.teach.dataset import Batch
from jazzd.teach.history import History
from jazzd.teach.recipe import Recipe, StyleRecipe
from jazzd.teach.trainer import Trainer, Tree, leads

Gather = Callable[[Path, corpus.Step], corpus.Gathered]
"""Makes pieces of a folder of MIDI files."""


class StoppedError(JazzdError):
    """The user stopped the run; it can go on."""


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


def check_new(run: Path) -> None:
    """Raises MidiError where a run would write over an earlier one."""
    if leads() and run.exists() and any(run.iterdir()):
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
            stopping = _agreed(stop.is_set()) if validating or jax.process_count() == 1 else False
            if validating:
                _validate(trainer, course, history, run, {"step": done, "train": float(np.mean(losses))})
                losses.clear()
                bar.update(task, note=history.summary())
                if not console.is_terminal:
                    console.print(f"step {done}/{course.steps}: {history.summary()}")
            if validating or stopping:
                with writing(run):
                    _save(checkpoints, run, done, trainer.state())
            if stopping:
                raise StoppedError(f"stopped after step {done} of {course.steps}; go on with --resume")


def _validate(trainer: Trainer, course: Course, history: History, run: Path, figures: dict[str, Any]) -> None:
    """Measure the weights, note that, and keep them where they are the best so far."""
    figures |= {"time": round(time.time())}
    figures |= {kind: trainer.validate(part) for kind, part in course.validation.items()}
    with writing(run):
        if history.add(figures) and leads():
            course.keep(trainer.weights)
        if leads():
            history.draw(run / "curve.png", course.title)


def _agreed(stop: bool) -> bool:
    """Whether the first process was asked to stop: all of a team stop after the same step."""
    return stop if jax.process_count() == 1 else bool(multihost_utils.broadcast_one_to_all(np.array(stop)))


def _set_out(trainer: Trainer, course: Course, history: History, run: Path) -> None:
    """Note what the base foretells before the training. Raises ModelError where the run began on another."""
    if history.start is None:
        figures = {kind: trainer.validate(part) for kind, part in course.validation.items()}
        with writing(run):
            history.add({"step": 0, **figures, "base": course.mark})
    elif history.start["base"] != course.mark:
        raise ModelError(
            f"{run} was begun on the base {history.start['base']}, and {course.base} is {course.mark}; "
            "name its own --base, or choose another --out"
        )


def begin(run: Path, choices: Recipe | StyleRecipe, pieces: Sequence[corpus.Piece]) -> None:
    """Make the run's folder, or note in it how it goes on. Raises ModelError when it cannot be written."""
    if not leads():
        return
    with writing(run):
        run.mkdir(parents=True, exist_ok=True)
        recipe.save(run, choices)
        if not (run / corpus.STORED).exists():
            corpus.save(run / corpus.STORED, pieces)


def _save(checkpoints: ocp.CheckpointManager, run: Path, step: int, state: dict[str, Any]) -> None:
    """Keep a checkpoint; the one before goes only when this one is whole."""
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    _make_sure_of_room(run, 2 * size)  # orbax finds out too, but not without tracebacks
    checkpoints.save(step, args=ocp.args.StandardSave(state))


def _make_sure_of_room(run: Path, size: int) -> None:
    """Raises OSError where no file of so many bytes can be written."""
    if shutil.disk_usage(run).free < size:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if sys.platform == "linux":  # which tells of quotas and limits, too
        with tempfile.TemporaryFile(dir=run) as file:
            os.posix_fallocate(file.fileno(), 0, size)


@contextmanager
def writing(run: Path) -> Iterator[None]:
    """Makes a full disk one sentence that says how to go on."""
    try:
        yield
    except (MidiError, ModelError, StyleError) as error:  # of who writes a file of that kind
        raise ModelError(f"{error}; mend that, then go on with --resume") from None
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
