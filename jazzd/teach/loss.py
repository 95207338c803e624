"""How unlikely a model finds the notes of packed windows, cheaply enough to train with."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from jazzd.moonbeam import lora
from jazzd.moonbeam.model import Block, Moonbeam, packed_mask, token_nll

LEAK_STRIDE = 8
"""Every eighth row pays for probability that leaks out of its field (see `field_nll`)."""
RECOMPUTED_FROM = 1024
"""Models of this width and more compute every block twice, and keep only what goes from block to block."""

Arrays = tuple[Int[Array, "B L 6"], Int[Array, "B L 7"], Int[Array, "B L"], Bool[Array, "B L"]]
"""A batch on its devices: rows, labels, blocks, counted."""
Nats = tuple[Float[Array, ""], Float[Array, ""]]
"""Summed nats of the counted notes, and how many they are."""


def nats(model: Moonbeam, batch: Arrays, styles: lora.Mix | None = None) -> Nats:
    """The training loss: an estimate, exact in the mean."""
    rows, labels, blocks, counted = batch
    if model.config.hidden >= RECOMPUTED_FROM:
        recomputed: list[Any] = [_Recomputed(block) for block in model.blocks]
        model.blocks = nnx.List(recomputed)
    summaries, _ = model(rows[:, :-1], packed_mask(blocks[:, :-1]), styles=styles)
    return field_nll(model, summaries, labels[:, 1:], counted[:, 1:].astype(jnp.float32), styles)


def exact_nats(model: Moonbeam, batch: Arrays, styles: lora.Mix | None = None) -> Nats:
    """The same to the last digit, at three times the cost."""
    rows, labels, blocks, counted = batch
    counts = counted[:, 1:].astype(jnp.float32)
    each = token_nll(model, rows, labels, packed_mask(blocks), styles).sum(axis=-1)
    return jnp.sum(each * counts), jnp.maximum(counts.sum(), 1.0)


def field_nll(
    model: Moonbeam,
    summaries: Float[Array, "B T D"],
    labels: Int[Array, "B T 7"],
    counted: Float[Array, "B T"],
    styles: lora.Mix | None = None,
) -> Nats:
    """Summed nats of the counted rows over the whole vocabulary, and the count.

    -log p(id) = -log p(id | field) - log p(field): the first part is computed for every row from the field's
    own logits, the second, which a trained model has near 0, for every eighth row and counted eightfold. The
    sum's expectation is exact, at a third of the cost of all logits for all rows.
    """
    vocabulary, bend = model.config.vocabulary, styles.spelling if styles else None
    outputs = model.decoder.outputs(summaries, labels[..., :-1], bend)
    total = jnp.zeros(())
    for f, (offset, size) in enumerate(zip(vocabulary.offsets, vocabulary.sizes, strict=True)):
        logits = model.decoder.field_logits(outputs[:, :, f], offset, size, bend)
        target = jnp.take_along_axis(logits, (labels[..., f + 1, None] - offset).clip(0), axis=-1)[..., 0]
        total += jnp.sum(counted * (jax.nn.logsumexp(logits, axis=-1) - target))
    sampled = slice(LEAK_STRIDE // 2, None, LEAK_STRIDE)
    everything = model.decoder.logits(outputs[:, sampled], bend)
    for f, (offset, size) in enumerate(zip(vocabulary.offsets, vocabulary.sizes, strict=True)):
        inside = jax.nn.logsumexp(everything[:, :, f, offset : offset + size], axis=-1)
        leak = jax.nn.logsumexp(everything[:, :, f], axis=-1) - inside
        total += LEAK_STRIDE * jnp.sum(counted[:, sampled] * leak)
    return total, jnp.maximum(counted.sum(), 1.0)


class _Recomputed(nnx.Module):
    """A block whose inner values are computed again for the gradient, not kept for it."""

    def __init__(self, block: Block) -> None:
        self.block = block

    def __call__(self, *arguments: Any) -> Any:
        graph, weights = nnx.split(self.block)
        return jax.checkpoint(lambda weights, *given: nnx.merge(graph, weights)(*given))(weights, *arguments)
