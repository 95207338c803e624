"""Playing the model note by note: one documented state, one compiled step.

The last row is always *pending*: it is in `rows`, but its keys and values are not in the cache yet. So a step
is the trunk over the pending row and the six sub-tokens of the next one, and going back n rows is subtracting
n from the length: the row that then is last will be run again, and whatever the cache holds beyond it is
never looked at.
"""

import dataclasses
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jazzd.arrays import Array, Float, Int, UInt32
from jazzd.errors import ModelError
from jazzd.moonbeam import lora, traced
from jazzd.moonbeam.model import Cache, Moonbeam, NoteDecoder
from jazzd.moonbeam.sampling import Controls, Unpacked, bent, constrained, draw, unpacked
from jazzd.moonbeam.tokens import (
    FIELDS,
    ONSET,
    SOS,
)

BUCKETS = (1, 4, 16, 64)
"""Rows of one prefill call; more rows take several calls."""
STYLED_BUCKETS = (4, 16)
"""The same for a mix of styles: fewer, since each takes its time at the start."""


@dataclass(frozen=True)
class State:
    """A piece in the making."""

    cache: tuple[Cache, ...]
    """Each layer's rotated keys and values, slot i for row i; slots from `length` - 1 on are stale."""
    rows: Int[Array, "S 6"]
    """Model rows from the SOS row on; those from `length` on are stale."""
    length: Int[np.ndarray, ""] | np.integer[Any]
    """Rows that count, the pending last one included. It lives on the host, which knows it without asking."""
    key: UInt32[Array, "2"]
    """Seed of the piece. A note's randomness hangs on it and on its place, so a rollback changes no dice."""


class Folded(NamedTuple):
    """Products of constants in the note decoder, made once instead of at every sub-token."""

    first: Float[Array, "V G"]
    """Each id's embedding through the first GRU layer's input projection."""
    heads: tuple[Float[Array, "D W"], ...]
    """fc_out and lm_head in one, cut into the six fields."""
    biases: tuple[Float[Array, "W"], ...]


def fold(decoder: NoteDecoder, fields: Sequence[tuple[int, int]]) -> Folded:
    """The constants of a note decoder whose fields have these (offset, size)."""
    dtype = decoder.lm_head[...].dtype

    def product(a: Array, b: Array) -> Array:
        return jnp.matmul(a, b.astype(a.dtype), preferred_element_type=jnp.float32, precision="highest")

    layer, out, head = decoder.layers[0], decoder.fc_out, decoder.lm_head[...]
    first = product(decoder.embedding.embedding[...], layer.input_kernel[...]) + layer.input_bias[...]
    assert out.bias is not None
    heads, biases = product(out.kernel[...], head), product(out.bias[...], head)
    parts = [slice(offset, offset + size) for offset, size in fields]
    return Folded(
        first.astype(dtype),
        tuple(heads[:, part].astype(dtype) for part in parts),
        tuple(biases[part].astype(dtype) for part in parts),
    )


class Decoder:
    """A model compiled for playing one piece at a time, up to `capacity` rows.

    Compiles at construction, through the compile cache in the user's cache folder, for the plain base and
    for mixes of these `widths`: of those, nothing compiles while music plays.
    """

    def __init__(self, model: Moonbeam, capacity: int = 512, widths: Sequence[lora.Width] = ()) -> None:
        self.config, self.capacity = model.config, capacity
        self._mix: lora.Mix | None = None
        self._graph, self._params = nnx.split(model)
        self._dtype = model.norm.scale[...].dtype
        vocabulary = model.config.vocabulary
        self._fields = tuple(zip(vocabulary.offsets, vocabulary.sizes, strict=True))
        self._folded = jax.jit(lambda params: fold(nnx.merge(self._graph, params).decoder, self._fields))(
            self._params
        )
        self._steps: dict[int, Any] = {}
        self._prefills: dict[tuple[int, int], Any] = {}
        self._compile([None, *(lora.shape_of(width, model.config, self._dtype) for width in widths)])
        self._warm_up()

    @property
    def mix(self) -> lora.Mix | None:
        """The styles that bend every row from now on; set it between any two calls."""
        return self._mix

    @mix.setter
    def mix(self, mix: lora.Mix | None) -> None:
        if _columns(mix) not in self._steps:
            self._compile([jax.tree.map(lambda part: jax.ShapeDtypeStruct(part.shape, part.dtype), mix)])
        self._mix = mix

    def _compile(self, mixes: Sequence[lora.Mix | None]) -> None:
        """Every function for every mix: a plain base pays nothing for the styles that others may choose."""
        controls = jax.ShapeDtypeStruct(Controls().packed().shape, jnp.float32)
        key = jax.ShapeDtypeStruct((2,), jnp.uint32)
        state = (*jax.eval_shape(self._empty), np.int32(1), key)
        steps, prefills = {}, {}
        with ThreadPoolExecutor() as pool:
            for mix in mixes:
                step = self._lowered(self._stepped, state, controls, mix)
                steps[_columns(mix)] = pool.submit(step.compile)
                for k in STYLED_BUCKETS if mix else BUCKETS:
                    rows = jax.ShapeDtypeStruct((k, len(FIELDS)), jnp.int32)
                    prefill = self._lowered(self._prefilled, state, rows, mix)
                    prefills[_columns(mix), k] = pool.submit(prefill.compile)
        self._steps |= {key: future.result() for key, future in steps.items()}
        self._prefills |= {key: future.result() for key, future in prefills.items()}

    def _lowered(
        self, function: Callable[..., Any], state: tuple[Any, ...], argument: Any, mix: lora.Mix | None
    ) -> Any:
        """The function of a state's parts; the cache and the rows are donated: updated in place."""
        arguments = (self._params, self._folded, *state, argument, mix)
        mark = f"{function.__name__} {self.config} {self.capacity} {_columns(mix)}"
        return traced.lowered(function, arguments, (2, 3), mark)

    def _warm_up(self) -> None:
        """Run the compiled shapes once: the first run of each allocates what it needs."""
        state = self.begin(0)
        for k in BUCKETS:
            state = self.rollback(self.prefill(state, np.zeros((k, len(FIELDS)), np.int64)), k)
        self.step(state, Controls())

    def _empty(self) -> tuple[Any, Any]:
        """A cache of zeros, and rows of nothing but SOS."""
        config, slots = self.config, self.capacity + BUCKETS[-1]
        shape = (1, slots, config.kv_heads, config.head)
        cache = tuple(
            (jnp.zeros(shape, self._dtype), jnp.zeros(shape, self._dtype)) for _ in range(config.layers)
        )
        return cache, jnp.full((slots, len(FIELDS)), SOS, jnp.int32)

    def begin(self, seed: int) -> State:
        """A piece that holds the SOS row only."""
        key = jnp.array([seed >> 32 & 0xFFFFFFFF, seed & 0xFFFFFFFF], jnp.uint32)
        return State(*self._empty(), np.int32(1), key)

    def prefill(self, state: State, rows: Int[np.ndarray, "N 6"]) -> State:
        """The state after these note rows, onsets in ticks of the window. The given state is used up.

        Raises ModelError when they do not fit the window.
        """
        if state.length + len(rows) > self.capacity:
            raise ModelError(
                f"{state.length} rows and {len(rows)} more do not fit a window of {self.capacity}"
            )
        buckets = STYLED_BUCKETS if self.mix else BUCKETS
        for start in range(0, len(rows), buckets[-1]):
            part = rows[start : start + buckets[-1]]
            bucket = next(k for k in buckets if k >= len(part))
            padded = np.pad(part, [(0, bucket - len(part)), (0, 0)]).astype(np.int32)
            prefill = self._prefills[_columns(self.mix), bucket]
            cache, buffer = prefill(self._params, self._folded, *_parts(state), padded, self.mix)
            state = State(cache, buffer, np.int32(state.length + len(part)), state.key)
        return state

    def step(self, state: State, controls: Controls) -> tuple[State, Int[np.ndarray, "6"]]:
        """Draws the next note: the state with it, and its row. The given state is used up.

        Raises ModelError when the window is full.
        """
        if state.length >= self.capacity:
            raise ModelError(f"the window of {self.capacity} rows is full")
        step = self._steps[_columns(self.mix)]
        cache, buffer, row = step(self._params, self._folded, *_parts(state), controls.packed(), self.mix)
        return State(cache, buffer, np.int32(state.length + 1), state.key), np.asarray(row)

    def rollback(self, state: State, n: int) -> State:
        """The state before its last `n` rows. Costs nothing."""
        if not 0 <= n < state.length:
            raise ModelError(f"cannot go back {n} of {state.length} rows")
        return dataclasses.replace(state, length=np.int32(state.length - n))

    def _prefilled(
        self,
        params: Any,
        folded: Folded,
        cache: tuple[Cache, ...],
        buffer: Int[Array, "S 6"],
        length: Int[Array, ""],
        key: UInt32[Array, "2"],
        rows: Int[Array, "R 6"],
        mix: lora.Mix | None,
    ) -> tuple[tuple[Cache, ...], Int[Array, "S 6"]]:
        model: Moonbeam = nnx.merge(self._graph, params)
        buffer = jax.lax.dynamic_update_slice_in_dim(buffer, rows, length, axis=0)
        _, cache = _run(model, cache, buffer, length, len(rows), mix)
        return cache, buffer

    def _stepped(
        self,
        params: Any,
        folded: Folded,
        cache: tuple[Cache, ...],
        buffer: Int[Array, "S 6"],
        length: Int[Array, ""],
        key: UInt32[Array, "2"],
        packed: Float[Array, "38"],
        mix: lora.Mix | None,
    ) -> tuple[tuple[Cache, ...], Int[Array, "S 6"], Int[Array, "6"]]:
        model: Moonbeam = nnx.merge(self._graph, params)
        summary, cache = _run(model, cache, buffer, length, 1, mix)
        onset = jnp.maximum(buffer[length - 1, ONSET], 0)
        dice = jax.random.split(jax.random.fold_in(key, length), len(FIELDS))
        row = _spelled(model, folded, mix, summary[0, 0], onset, unpacked(packed), dice).at[ONSET].add(onset)
        return cache, jax.lax.dynamic_update_slice_in_dim(buffer, row[None], length, axis=0), row


def _columns(mix: lora.Mix | None) -> int:
    """What tells the compiled shapes apart."""
    return mix.weights.shape[0] if mix else 0


def _parts(state: State) -> tuple[Any, ...]:
    return state.cache, state.rows, state.length, state.key


def _run(
    model: Moonbeam,
    cache: tuple[Cache, ...],
    buffer: Int[Array, "S 6"],
    length: Int[Array, ""],
    count: int,
    mix: lora.Mix | None,
) -> tuple[Float[Array, "1 T D"], tuple[Cache, ...]]:
    """The trunk over `count` rows from the pending one on."""
    first = length - 1
    rows = jax.lax.dynamic_slice_in_dim(buffer, first, count, axis=0)
    mask = jnp.arange(len(buffer)) <= first + jnp.arange(count)[:, None]
    return model(rows[None], mask[None], cache, first, mix)


def _spelled(
    model: Moonbeam,
    folded: Folded,
    mix: lora.Mix | None,
    summary: Float[Array, "D"],
    onset: Int[Array, ""],
    controls: Unpacked,
    dice: UInt32[Array, "6 2"],
) -> Int[Array, "6"]:
    """The six values of a note, each drawn knowing those before it; timeshift in place of the onset."""
    vocabulary, decoder = model.config.vocabulary, model.decoder
    bend = mix.spelling if mix and mix.decoder else None
    hidden, previous = decoder.start(summary), jnp.zeros((), jnp.int32)
    values: list[Array] = []
    for f, (offset, size) in enumerate(zip(vocabulary.offsets, vocabulary.sizes, strict=True)):
        if bend:  # a style bends the constants themselves
            output, hidden = decoder.step(previous, hidden, bend)
            logits = decoder.field_logits(output, offset, size, bend)
        else:
            output, hidden = decoder.step_projected(folded.first[previous], hidden)
            logits = (output @ folded.heads[f] + folded.biases[f]).astype(jnp.float32)
        logits, allowed = constrained(f, logits, onset, values, controls)
        value = draw(logits, allowed, *bent(f, controls), dice[f])
        values.append(value)
        previous = value + offset
    return jnp.stack(values)


def use_compile_cache() -> None:
    """Keep compiled steps in the user's cache folder. Call before the first compilation.

    The folder holds code that will run, so it is the user's own: never a shared one.
    """
    folder = os.environ.get("JAX_COMPILATION_CACHE_DIR")
    if folder is None:
        try:
            from platformdirs import user_cache_path
        except ImportError:  # the bench alone, without jazzd's own packages
            return
        folder = str(user_cache_path("jazzd") / "compiled")
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
    except OSError:  # a full disk, or one that is only to be read: then everything is compiled anew
        return
    jax.config.update("jax_compilation_cache_dir", folder)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
