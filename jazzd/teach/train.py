"""Training every weight of a base: how the built-in one was made (`jazzd finetune --full`).

A run is a folder: the corpus as read (`corpus.npz`), checkpoints, `history.jsonl`, `curve.png`, and the best
weights so far as a base folder (`best/`). Killed at any moment, it goes on from its last checkpoint and sees
the same batches.
"""

import dataclasses
import json
import math
import os
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
from flax import nnx
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, Bool, Float, Int
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from jazzd.errors import MidiError
from jazzd.moonbeam import weights
from jazzd.moonbeam.config import Config
from jazzd.moonbeam.model import Moonbeam, packed_mask
from jazzd.teach import corpus
from jazzd.teach.dataset import Batch, Dataset
from jazzd.teach.recipe import Recipe

LEAK_STRIDE = 8
"""Every eighth row pays for probability that leaks out of its field (see `field_nll`)."""
VALIDATION_SEED = 2**31
KINDS = ("chords", "plain")


def train_base(
    midi: Path, run: Path, config: Config, recipe: Recipe, console: Console, resume: bool = False
) -> dict[str, Any]:
    """Train a base on every MIDI file below `midi`; returns the best validation's figures.

    Raises MidiError for a folder without usable files or a run that exists and is not to be resumed.
    """
    if run.exists() and any(run.iterdir()) and not resume:
        raise MidiError(f"{run} holds an earlier run; go on with --resume, or choose another --out")
    _use_every_core()
    stored = run / "corpus.npz"
    pieces = corpus.load(stored) if stored.exists() else _read(midi, console)
    taught_pieces, held_out = corpus.split(pieces)
    if not taught_pieces:
        raise MidiError(f"{midi}: too few files: at least one tune to learn from and one to validate with")
    run.mkdir(parents=True, exist_ok=True)
    corpus.save(stored, pieces)
    taught = Dataset(taught_pieces, config.vocabulary, recipe.length, recipe.chord_share, True)
    (run / "recipe.json").write_text(json.dumps(dataclasses.asdict(recipe), indent=1) + "\n")
    trainer = Trainer(config, recipe)
    validation = {
        kind: Dataset(
            [p for p in held_out if bool(p.chords) == (kind == "chords")], config.vocabulary, 256, 0.5, False
        )
        for kind in KINDS
    }
    with ocp.CheckpointManager(
        (run / "checkpoints").absolute(), options=ocp.CheckpointManagerOptions(max_to_keep=2)
    ) as checkpoints:
        return _loop(trainer, taught, validation, checkpoints, run, console)


def _use_every_core() -> None:
    """Make each CPU core a device: sharing a batch out keeps them busier than sharing each product out."""
    with suppress(RuntimeError):  # JAX has begun already: then with what it has
        jax.config.update("jax_num_cpu_devices", os.cpu_count() or 1)


def _read(midi: Path, console: Console) -> list[corpus.Piece]:
    with _progress(console) as bar:
        task = bar.add_task("reading MIDI", total=None, note="")
        found = corpus.read_folder(midi, lambda done, of: bar.update(task, completed=done, total=of))
    for refused in (item for item in found if isinstance(item, corpus.Refused)):
        console.print(f"left out: {refused.reason}", highlight=False, markup=False)
    return [item for item in found if isinstance(item, corpus.Piece)]


def _loop(
    trainer: "Trainer",
    taught: Dataset,
    validation: dict[str, Dataset],
    checkpoints: ocp.CheckpointManager,
    run: Path,
    console: Console,
) -> dict[str, Any]:
    recipe, history = trainer.recipe, History.load(run)
    done = checkpoints.latest_step() or 0
    if done:
        trainer.restore(checkpoints.restore(done, args=ocp.args.StandardRestore(trainer.state())))
        history.cut(done)
        console.print(f"going on after step {done} of {recipe.steps}")
    losses: list[Float[Array, ""]] = []
    with _progress(console) as bar:
        task = bar.add_task("training", total=recipe.steps, completed=done, note="")
        for step in range(done + 1, recipe.steps + 1):
            losses.append(trainer.step(taught.batch(recipe.batch_size, recipe.seed, step - 1)))
            bar.update(task, completed=step)
            if step % recipe.validate_every == 0 or step == recipe.steps:
                figures = {"step": step, "time": round(time.time()), "train": float(np.mean(losses))}
                figures |= {kind: trainer.validate(data) for kind, data in validation.items() if data.pieces}
                losses.clear()
                if history.add(figures):
                    weights.save(run / "best", trainer.config, trainer.tensors())
                checkpoints.save(step, args=ocp.args.StandardSave(trainer.state()))
                history.draw(run / "curve.png")
                bar.update(task, note=history.summary())
                if not console.is_terminal:
                    console.print(f"step {step}/{recipe.steps}: {history.summary()}")
    checkpoints.wait_until_finished()
    return history.best


class Trainer:
    """The weights in training, their optimizer, and the compiled step, spread over all local devices."""

    def __init__(self, config: Config, recipe: Recipe) -> None:
        self.config, self.recipe = config, recipe
        devices = math.gcd(len(jax.local_devices()), recipe.batch_size)
        mesh = jax.sharding.Mesh(np.array(jax.local_devices()[:devices]), ("batch",))
        self._whole = NamedSharding(mesh, PartitionSpec())
        self._spread = NamedSharding(mesh, PartitionSpec("batch"))
        self._graph, self._params = nnx.split(Moonbeam(config, nnx.Rngs(recipe.seed)), nnx.Param)
        self._optimizer = optax.chain(
            optax.clip_by_global_norm(recipe.clip),
            optax.adamw(self._schedule(), b2=0.98, weight_decay=recipe.weight_decay, mask=_decayed),
        )
        self._params = jax.device_put(self._params, self._whole)
        self._moments = jax.device_put(self._optimizer.init(self._params), self._whole)
        self._update = jax.jit(self._compiled_update, donate_argnums=(0, 1))
        self._evaluate = jax.jit(self._nll)

    def _schedule(self) -> optax.Schedule:
        recipe = self.recipe
        decay = int(recipe.steps * recipe.decay_share)
        return optax.join_schedules(
            [
                optax.linear_schedule(0.0, recipe.learning_rate, recipe.warmup_steps),
                optax.constant_schedule(recipe.learning_rate),
                optax.linear_schedule(recipe.learning_rate, 0.0, decay),
            ],
            [recipe.warmup_steps, recipe.steps - decay],
        )

    def model(self) -> Moonbeam:
        return nnx.merge(self._graph, self._params)

    def tensors(self) -> dict[str, np.ndarray]:
        """The weights to ship, in float16: half the size, and closer to float32 than a step of training."""
        return {name: t.astype(np.float16) for name, t in weights.to_tensors(self.model()).items()}

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        return {"params": nnx.to_pure_dict(self._params), "moments": jax.tree.leaves(self._moments)}

    def restore(self, state: dict[str, Any]) -> None:
        nnx.replace_by_pure_dict(self._params, jax.device_put(state["params"], self._whole))
        self._moments = jax.tree.unflatten(
            jax.tree.structure(self._moments), jax.device_put(state["moments"], self._whole)
        )

    def step(self, batch: Batch) -> Float[Array, ""]:
        """One update; returns the nats per note before it."""
        loss: Float[Array, ""]
        self._params, self._moments, loss = self._update(
            self._params, self._moments, *self._on_devices(batch)
        )
        return loss

    def validate(self, data: Dataset) -> float:
        """Nats per note over a fixed set of windows."""
        total = counted = 0.0
        for i in range(self.recipe.validation_batches):
            batch = data.batch(self.recipe.batch_size, VALIDATION_SEED, i)
            nll, notes = self._evaluate(self._params, *self._on_devices(batch))
            total, counted = total + float(nll), counted + float(notes)
        return total / counted

    def _on_devices(self, batch: Batch) -> list[Array]:
        parts = (batch.rows, batch.labels, batch.blocks, batch.counted)
        return [jax.device_put(part, self._spread) for part in parts]

    def _compiled_update(self, params: Any, moments: Any, *batch: Array) -> tuple[Any, Any, Float[Array, ""]]:
        def loss(params: Any) -> Float[Array, ""]:
            nll, notes = self._nll(params, *batch)
            return nll / notes

        value, gradient = jax.value_and_grad(loss)(params)
        updates, moments = self._optimizer.update(gradient, moments, params)
        return optax.apply_updates(params, updates), moments, value

    def _nll(
        self,
        params: Any,
        rows: Int[Array, "B L 6"],
        labels: Int[Array, "B L 7"],
        blocks: Int[Array, "B L"],
        counted: Bool[Array, "B L"],
    ) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """Summed nats of the counted notes, and how many they are."""
        model: Moonbeam = nnx.merge(self._graph, params)
        summaries, _ = model(rows[:, :-1], packed_mask(blocks[:, :-1]))
        return field_nll(model, summaries, labels[:, 1:], counted[:, 1:].astype(jnp.float32))


def field_nll(
    model: Moonbeam,
    summaries: Float[Array, "B T D"],
    labels: Int[Array, "B T 7"],
    counted: Float[Array, "B T"],
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Summed nats of the counted rows over the whole vocabulary, and the count.

    -log p(id) = -log p(id | field) - log p(field): the first part is computed for every row from the field's
    own logits, the second, which a trained model has near 0, for every eighth row and counted eightfold. The
    sum's expectation is exact, at a third of the cost of all logits for all rows.
    """
    vocabulary = model.config.vocabulary
    outputs = model.decoder.outputs(summaries, labels[..., :-1])
    total = jnp.zeros(())
    for f, (offset, size) in enumerate(zip(vocabulary.offsets, vocabulary.sizes, strict=True)):
        logits = model.decoder.field_logits(outputs[:, :, f], offset, size)
        target = jnp.take_along_axis(logits, (labels[..., f + 1, None] - offset).clip(0), axis=-1)[..., 0]
        total += jnp.sum(counted * (jax.nn.logsumexp(logits, axis=-1) - target))
    sampled = slice(LEAK_STRIDE // 2, None, LEAK_STRIDE)
    everything = model.decoder.logits(outputs[:, sampled])
    for f, (offset, size) in enumerate(zip(vocabulary.offsets, vocabulary.sizes, strict=True)):
        inside = jax.nn.logsumexp(everything[:, :, f, offset : offset + size], axis=-1)
        leak = jax.nn.logsumexp(everything[:, :, f], axis=-1) - inside
        total += LEAK_STRIDE * jnp.sum(counted[:, sampled] * leak)
    return total, jnp.maximum(counted.sum(), 1.0)


@dataclass
class History:
    """The figures of every validation of a run, kept as `history.jsonl`."""

    path: Path
    entries: list[dict[str, Any]]

    @classmethod
    def load(cls, run: Path) -> "History":
        path = run / "history.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        return cls(path, [json.loads(line) for line in lines])

    @property
    def best(self) -> dict[str, Any]:
        return min(self.entries, key=_validation)

    def cut(self, step: int) -> None:
        """Forget what a killed run wrote after its last checkpoint."""
        self.entries = [entry for entry in self.entries if entry["step"] <= step]

    def add(self, figures: dict[str, Any]) -> bool:
        """Whether these are the best so far."""
        self.entries.append(figures)
        partial = self.path.with_suffix(".partial")
        partial.write_text("".join(json.dumps(entry) + "\n" for entry in self.entries))
        partial.replace(self.path)
        return figures is self.best

    def summary(self) -> str:
        last = self.entries[-1]
        return ", ".join(f"{name} {last[name]:.3f}" for name in ("train", *KINDS) if name in last)

    def draw(self, path: Path) -> None:
        """The curves of training and validation loss as a PNG."""
        figure = Figure(figsize=(8, 4.5), layout="constrained")
        axes = figure.subplots()
        for name, label in (
            ("train", "training"),
            ("chords", "validation: solos over chords"),
            ("plain", "validation: other music"),
        ):
            points = [(entry["step"], entry[name]) for entry in self.entries if name in entry]
            axes.plot(*zip(*points, strict=True), label=label) if points else None
        axes.set(xlabel="step", ylabel="nats per note", title="Training of the base")
        axes.grid(alpha=0.3)
        axes.legend()
        figure.savefig(path, dpi=120)


def _validation(figures: dict[str, Any]) -> float:
    present = [float(figures[kind]) for kind in KINDS if kind in figures]
    return sum(present) / len(present)


def _decayed(params: Any) -> Any:
    """Weight decay is for matrices: not for biases and norms."""
    return jax.tree.map(lambda leaf: leaf.ndim >= 2 and min(leaf.shape) > 1, params)


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=console,
        disable=not console.is_terminal,
    )
