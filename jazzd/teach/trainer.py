"""Weights in training, spread over the devices of this process, or of several that train together."""

import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
import optax
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Int

from jazzd.errors import ConfigError, ModelError
from jazzd.moonbeam import resident
from jazzd.teach.dataset import Batch
from jazzd.teach.loss import Arrays, Nats

Tree = Any
"""Nested dicts of arrays."""


@dataclass(frozen=True)
class Team:
    """Several processes that train together, perhaps on several machines."""

    coordinator: str
    """HOST:PORT of the first of them."""
    processes: int
    process: int
    """Which one this is, counted from 0."""


def set_up(team: Team | None = None) -> None:
    """Use all devices there are. Raises ModelError where the others of the team are not there."""
    with suppress(RuntimeError):  # JAX has begun already: then with what it has
        # Sharing a batch out between cores keeps them busier than sharing each product out.
        jax.config.update("jax_num_cpu_devices", os.cpu_count() or 1)
    if team:
        try:
            jax.distributed.initialize(team.coordinator, team.processes, team.process)
        except (RuntimeError, ValueError) as error:
            raise ModelError(f"the other processes cannot be reached: {str(error).splitlines()[0]}") from None


def leads() -> bool:
    """Whether this process writes the run's files: of a team only the first one does."""
    return jax.process_index() == 0


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


class Trainer:
    """The weights in training, their optimizer, and the compiled step, spread over all local devices."""

    def __init__(self, subject: Subject, batch_size: int, seed: int) -> None:
        """Raises ConfigError where the batch cannot be shared out evenly between several processes."""
        count = math.gcd(jax.device_count(), batch_size)
        if jax.process_count() > 1 and count < jax.device_count():
            raise ConfigError(
                f"--batch-size {batch_size} is no multiple of the {jax.device_count()} devices; make it one"
            )
        mesh = jax.sharding.Mesh(np.array(jax.devices()[:count]), ("batch",))
        self._whole = NamedSharding(mesh, PartitionSpec())
        self._spread = NamedSharding(mesh, PartitionSpec("batch"))
        self._subject, self._seed = subject, seed
        self.weights = _placed(subject.weights, self._whole)
        self._frozen = _placed(subject.frozen, self._whole)
        self._moments = jax.jit(subject.optimizer.init, out_shardings=self._whole)(self.weights)
        self._update = jax.jit(self._compiled_update, donate_argnums=(0, 1))
        self._score = jax.jit(subject.score)

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        return {"params": self.weights, "moments": jax.tree.leaves(self._moments)}

    def restore(self, state: dict[str, Any]) -> None:
        self.weights = state["params"]
        self._moments = jax.tree.unflatten(jax.tree.structure(self._moments), state["moments"])

    def step(self, number: int, batch: Batch) -> Float[Array, ""]:
        """The update of that step; returns the nats per note before it."""
        loss: Float[Array, ""]
        with _within_memory():
            self.weights, self._moments, loss = self._update(
                self.weights, self._moments, self._frozen, self._on_devices(batch), np.int32(number)
            )
        return loss

    def validate(self, batches: Sequence[Batch]) -> float:
        """Nats per note."""
        total = counted = 0.0
        with _within_memory():
            for batch in batches:
                nats, notes = self._score(self.weights, self._frozen, self._on_devices(batch))
                total, counted = total + float(nats), counted + float(notes)
        return total / counted

    def _on_devices(self, batch: Batch) -> Arrays:
        parts = (batch.rows, batch.labels, batch.blocks, batch.counted)
        rows, labels, blocks, counted = (_placed(part, self._spread) for part in parts)
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


def _placed(tree: Tree, sharding: NamedSharding) -> Tree:
    """The arrays on the devices of all processes, each of which has the whole of them."""

    def placed(array: Any) -> Array:
        whole = np.asarray(array)
        return jax.make_array_from_callback(whole.shape, sharding, lambda part: whole[part])

    return jax.tree.map(placed, tree)


@contextmanager
def _within_memory() -> Iterator[None]:
    """Makes a device that is too small one sentence."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if not resident.out_of_memory(error):
            raise
        raise ModelError(
            "the training does not fit the memory: lower --batch-size (raise --grad-accumulation as much), "
            "or lower --length, then --rank"
        ) from None
