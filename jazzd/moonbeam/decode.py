"""Playing the model note by note: one documented state, one compiled step.

The last row is always *pending*: it is in `rows`, but its keys and values are not in the cache yet. So a step
is the trunk over the pending row and the six sub-tokens of the next one, and going back n rows is subtracting
n from the length: the row that then is last will be run again, and whatever the cache holds beyond it is
never looked at.
"""

import dataclasses
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import platformdirs
from flax import nnx
from jaxtyping import Array, Bool, Float, Int, UInt32

from jazzd.errors import ModelError
from jazzd.moonbeam import lora
from jazzd.moonbeam.model import Cache, Moonbeam
from jazzd.moonbeam.tokens import (
    DURATION,
    FIELDS,
    INSTRUMENT,
    OCTAVE,
    ONSET,
    PITCH_CLASS,
    SOS,
    VELOCITY,
)

BUCKETS = (1, 4, 16, 64)
"""Rows of one prefill call; more rows take several calls."""
OCTAVES = 11
DENSITY_SLOPE = 1.5
"""How steeply the density knob weighs timeshifts: chances go with (1 + ticks) ** -(slope * density)."""


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


@dataclass(frozen=True)
class Controls:
    """What bends the next note. By default nothing does; special values are never drawn."""

    temperature: float = 1.0
    """0: the likeliest value of each sub-token."""
    top_p: float = 1.0
    audible: bool = False
    """No duration and no velocity of 0, which the reference may draw."""
    program: int = -1
    """The only instrument allowed; -1 for any."""
    low: int = 0
    high: int = 127
    """MIDI pitches."""
    floor: int = 0
    latest: int = 2**31 - 1
    """Earliest and latest onset in ticks of the window. What no timeshift reaches is ignored."""
    density: float = 0.0
    """-1 sparse .. 1 dense."""
    weights: Float[np.ndarray, "12"] | tuple[float, ...] = (1.0,) * 12
    """Factors of the pitch classes' chances, C first; 0 forbids."""

    def packed(self) -> "Packed":
        """As arrays fit for a compiled step; weights that forbid the whole range are dropped."""
        weights = np.asarray(self.weights, np.float32)
        pitches = np.arange(self.low, self.high + 1)
        if not weights[pitches % 12].any():
            weights = np.ones(12, np.float32)
        whole = {
            name: np.int32(getattr(self, name)) for name in ("program", "low", "high", "floor", "latest")
        }
        real = {name: np.float32(getattr(self, name)) for name in ("temperature", "top_p", "density")}
        return {**whole, **real, "audible": np.bool_(self.audible), "weights": weights}


Packed = dict[str, Any]
"""The controls by name, as arrays."""


class Decoder:
    """A model compiled for playing one piece at a time, up to `capacity` rows.

    Compiles everything at construction, through the compile cache in the user's cache folder: nothing
    compiles while music plays.
    """

    def __init__(self, model: Moonbeam, capacity: int = 512, styles: lora.Stack | None = None) -> None:
        self.config, self.capacity, self.styles = model.config, capacity, styles
        self._graph, self._params = nnx.split(model)
        self._dtype = model.norm.scale[...].dtype
        rows = {k: jax.ShapeDtypeStruct((k, len(FIELDS)), jnp.int32) for k in BUCKETS}
        self._step = self._compiled(self._stepped, Controls().packed())
        self._prefill = {k: self._compiled(self._prefilled, rows[k]) for k in BUCKETS}
        self._warm_up()

    def _warm_up(self) -> None:
        """Run every compiled shape once: the first run of each allocates what it needs."""
        state = self.begin(0)
        for k in BUCKETS:
            state = self.rollback(self.prefill(state, np.zeros((k, len(FIELDS)), np.int64)), k)
        self.step(state, Controls())

    def _compiled(self, function: Callable[..., Any], argument: Any) -> Any:
        """The function of a state's parts, compiled; the cache and the rows are donated: updated in place."""
        cache, rows = jax.eval_shape(self._empty)
        key = jax.ShapeDtypeStruct((2,), jnp.uint32)
        jitted = jax.jit(function, donate_argnums=(1, 2))
        return jitted.lower(self._params, cache, rows, np.int32(1), key, argument, self.styles).compile()

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
        for start in range(0, len(rows), BUCKETS[-1]):
            part = rows[start : start + BUCKETS[-1]]
            bucket = next(k for k in BUCKETS if k >= len(part))
            padded = np.pad(part, [(0, bucket - len(part)), (0, 0)]).astype(np.int32)
            cache, buffer = self._prefill[bucket](self._params, *_parts(state), padded, self.styles)
            state = State(cache, buffer, np.int32(state.length + len(part)), state.key)
        return state

    def step(self, state: State, controls: Controls) -> tuple[State, Int[np.ndarray, "6"]]:
        """Draws the next note: the state with it, and its row. The given state is used up.

        Raises ModelError when the window is full.
        """
        if state.length >= self.capacity:
            raise ModelError(f"the window of {self.capacity} rows is full")
        cache, buffer, row = self._step(self._params, *_parts(state), controls.packed(), self.styles)
        return State(cache, buffer, np.int32(state.length + 1), state.key), np.asarray(row)

    def rollback(self, state: State, n: int) -> State:
        """The state before its last `n` rows. Costs nothing."""
        if not 0 <= n < state.length:
            raise ModelError(f"cannot go back {n} of {state.length} rows")
        return dataclasses.replace(state, length=np.int32(state.length - n))

    def _prefilled(
        self,
        params: Any,
        cache: tuple[Cache, ...],
        buffer: Int[Array, "S 6"],
        length: Int[Array, ""],
        key: UInt32[Array, "2"],
        rows: Int[Array, "R 6"],
        styles: lora.Stack | None,
    ) -> tuple[tuple[Cache, ...], Int[Array, "S 6"]]:
        model: Moonbeam = nnx.merge(self._graph, params)
        buffer = jax.lax.dynamic_update_slice_in_dim(buffer, rows, length, axis=0)
        _, cache = _run(model, cache, buffer, length, len(rows), styles)
        return cache, buffer

    def _stepped(
        self,
        params: Any,
        cache: tuple[Cache, ...],
        buffer: Int[Array, "S 6"],
        length: Int[Array, ""],
        key: UInt32[Array, "2"],
        controls: Packed,
        styles: lora.Stack | None,
    ) -> tuple[tuple[Cache, ...], Int[Array, "S 6"], Int[Array, "6"]]:
        model: Moonbeam = nnx.merge(self._graph, params)
        summary, cache = _run(model, cache, buffer, length, 1, styles)
        onset = jnp.maximum(buffer[length - 1, ONSET], 0)
        dice = jax.random.split(jax.random.fold_in(key, length), len(FIELDS))
        row = _spelled(model, summary[0, 0], onset, controls, dice).at[ONSET].add(onset)
        return cache, jax.lax.dynamic_update_slice_in_dim(buffer, row[None], length, axis=0), row


def _parts(state: State) -> tuple[Any, ...]:
    return state.cache, state.rows, state.length, state.key


def _run(
    model: Moonbeam,
    cache: tuple[Cache, ...],
    buffer: Int[Array, "S 6"],
    length: Int[Array, ""],
    count: int,
    styles: lora.Stack | None,
) -> tuple[Float[Array, "1 T D"], tuple[Cache, ...]]:
    """The trunk over `count` rows from the pending one on."""
    first = length - 1
    rows = jax.lax.dynamic_slice_in_dim(buffer, first, count, axis=0)
    mask = jnp.arange(len(buffer)) <= first + jnp.arange(count)[:, None]
    return model(rows[None], mask[None], cache, first, styles)


def _spelled(
    model: Moonbeam,
    summary: Float[Array, "D"],
    onset: Int[Array, ""],
    controls: Packed,
    dice: UInt32[Array, "6 2"],
) -> Int[Array, "6"]:
    """The six values of a note, each drawn knowing those before it; timeshift in place of the onset."""
    vocabulary = model.config.vocabulary
    hidden, previous = model.decoder.start(summary), jnp.zeros((), jnp.int32)
    values: list[Array] = []
    for f, (offset, size) in enumerate(zip(vocabulary.offsets, vocabulary.sizes, strict=True)):
        output, hidden = model.decoder.step(previous, hidden)
        logits = model.decoder.field_logits(output, offset, size)
        logits, allowed = _constrained(f, logits, onset, values, controls)
        value = draw(logits, allowed, controls, dice[f])
        values.append(value)
        previous = value + offset
    return jnp.stack(values)


def _constrained(
    field: int, logits: Float[Array, "W"], onset: Int[Array, ""], values: list[Array], controls: Packed
) -> tuple[Float[Array, "W"], Bool[Array, "W"]]:
    """The field's logits as the controls weigh them, and which values may be drawn."""
    value = jnp.arange(logits.shape[-1])
    allowed = value < len(value) - 2
    weights = jnp.asarray(controls["weights"])
    if field == ONSET:
        logits = logits - DENSITY_SLOPE * controls["density"] * jnp.log1p(value.astype(jnp.float32))
        within = allowed & (onset + value >= controls["floor"]) & (onset + value <= controls["latest"])
        allowed = jnp.where(within.any(), within, allowed)
    elif field in (DURATION, VELOCITY):
        allowed &= (value > 0) | ~controls["audible"]
    elif field == OCTAVE:
        pitches = jnp.arange(OCTAVES * 12).reshape(OCTAVES, 12)
        in_range = (pitches >= controls["low"]) & (pitches <= controls["high"]) & (weights > 0)
        allowed &= jnp.pad(in_range.any(axis=1), (0, len(value) - OCTAVES))
    elif field == PITCH_CLASS:
        pitch = values[OCTAVE] * 12 + value
        wide = jnp.pad(weights, (0, len(value) - 12))
        allowed &= (pitch >= controls["low"]) & (pitch <= controls["high"]) & (wide > 0)
        logits = logits + jnp.log(jnp.where(wide > 0, wide, 1.0))
    elif field == INSTRUMENT:
        allowed &= (controls["program"] < 0) | (value == controls["program"])
    return logits, allowed


def draw(
    logits: Float[Array, "W"], allowed: Bool[Array, "W"], controls: Packed, die: UInt32[Array, "2"]
) -> Int[Array, ""]:
    """One of the allowed values: by the nucleus rule, or the likeliest at temperature 0."""
    best = jnp.argmax(jnp.where(allowed, logits, -jnp.inf))
    chances = nucleus(logits, allowed, controls["temperature"], controls["top_p"])
    drawn = jax.random.categorical(die, jnp.log(chances))
    return jnp.where(controls["temperature"] > 0, drawn, best).astype(jnp.int32)


def nucleus(
    logits: Float[Array, "W"],
    allowed: Bool[Array, "W"],
    temperature: float | Float[Array, ""],
    top_p: float | Float[Array, ""],
) -> Float[Array, "W"]:
    """Chances of each value: of the smallest likeliest set whose mass passes `top_p`, the allowed ones.

    The reference (SPEC section 9) draws until a value is allowed, which comes to this, and spins when the
    nucleus holds none; here the allowed values then share their own mass.
    """
    scaled = logits / jnp.maximum(temperature, 1e-4)
    mass = jax.nn.softmax(scaled)
    descending = -jnp.sort(-mass)
    kept = jnp.cumsum(descending) - descending <= top_p
    nuclear = (mass >= jnp.min(jnp.where(kept, descending, jnp.inf))) & allowed
    chosen = jnp.where(nuclear.any(), nuclear, allowed)
    return jax.nn.softmax(jnp.where(chosen, scaled, -jnp.inf))


def use_compile_cache() -> None:
    """Keep compiled steps in the user's cache folder. Call before the first compilation.

    The folder holds code that will run, so it is the user's own: never a shared one.
    """
    folder = os.environ.get("JAX_COMPILATION_CACHE_DIR") or str(
        platformdirs.user_cache_path("jazzd") / "compiled"
    )
    os.makedirs(folder, mode=0o700, exist_ok=True)
    jax.config.update("jax_compilation_cache_dir", folder)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
