"""What bends the next note, and how a value is drawn from what is left."""

import dataclasses
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from jazzd.arrays import Array, Bool, Float, Int, UInt32
from jazzd.moonbeam.tokens import DURATION, INSTRUMENT, OCTAVE, ONSET, PITCH_CLASS, VELOCITY

OCTAVES = 11
FAR = 2.0**24
"""No onset of a window is later: float32, in which controls travel, counts in ones up to here."""
DENSITY_SLOPE = 1.5
"""How steeply the density knob weighs timeshifts: chances go with (1 + ticks) ** -(slope * density)."""

ON_BEAT = 1 / 24
"""How far from a strong beat a note is still on it, as a share of the time between two."""


@dataclass(frozen=True)
class Controls:
    """What bends the next note. By default nothing does; special values are never drawn."""

    temperature: float = 1.0
    """0: the likeliest value of each sub-token."""
    top_p: float = 1.0
    free_time: bool = False
    """Temperature, unless it is 0, and top_p bend what is played and not when: a line would lose its rests
    and long notes, which are many and each of them unlikely."""
    audible: bool = False
    """No duration and no velocity of 0, which the reference may draw."""
    program: int = -1
    """The only instrument allowed; -1 for any."""
    low: int = 0
    high: int = 127
    """MIDI pitches."""
    floor: int = 0
    latest: int = int(FAR)
    """Earliest and latest onset in ticks of the window. What no timeshift reaches is ignored."""
    density: float = 0.0
    """-1 sparse .. 1 dense."""
    previous: int = -1
    """Pitch of the note before; -1 for none."""
    repeating: float = 1.0
    """Factor of the chance that the note before is struck again."""
    strong_at: float = 0.0
    strong_every: float = 0.0
    """A strong beat's tick in the window, and the ticks from one to the next; 0: there are none."""
    weights: Float[np.ndarray, "12"] | tuple[float, ...] = (1.0,) * 12
    """Factors of the pitch classes' chances, C first; 0 forbids."""
    strong: Float[np.ndarray, "12"] | tuple[float, ...] | None = None
    """The same for notes on a strong beat; None: no others."""

    def packed(self) -> Float[np.ndarray, "38"]:
        """In one array, so that one transfer takes them over; weights that forbid all are dropped."""
        scalars = np.array([getattr(self, name) for name in SCALARS], np.float32)
        strong = self.weights if self.strong is None else self.strong
        vectors = [self._possible(weights) for weights in (self.weights, strong)]
        return np.concatenate([np.clip(scalars, -FAR, FAR), *vectors], dtype=np.float32)

    def _possible(self, weights: Float[np.ndarray, "12"] | tuple[float, ...]) -> Float[np.ndarray, "12"]:
        array = np.asarray(weights, np.float32)
        pitches = np.arange(self.low, self.high + 1)
        return array if array[pitches % 12].any() else np.ones(12, np.float32)


VECTORS = ("weights", "strong")
SCALARS = tuple(field.name for field in dataclasses.fields(Controls) if field.name not in VECTORS)
Unpacked = dict[str, Array]
"""The controls by name."""


def unpacked(packed: Float[Array, "38"]) -> Unpacked:
    """What `Controls.packed` packed."""
    named: Unpacked = {name: packed[i] for i, name in enumerate(SCALARS)}
    for name in ("program", "low", "high", "floor", "latest", "previous"):
        named[name] = named[name].astype(jnp.int32)
    flags = {name: named[name] > 0 for name in ("free_time", "audible")}
    vectors = dict(zip(VECTORS, packed[len(SCALARS) :].reshape(len(VECTORS), 12), strict=True))
    return named | flags | vectors


def constrained(
    field: int, logits: Float[Array, "W"], onset: Int[Array, ""], values: list[Array], controls: Unpacked
) -> tuple[Float[Array, "W"], Bool[Array, "W"]]:
    """The field's logits as the controls weigh them, and which values may be drawn."""
    value = jnp.arange(logits.shape[-1])
    allowed = value < len(value) - 2
    weights = jnp.asarray(controls["weights"])
    if field > ONSET:
        weights = jnp.where(_on_strong_beat(onset + values[ONSET], controls), controls["strong"], weights)
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
        logits = logits + jnp.where(pitch == controls["previous"], jnp.log(controls["repeating"]), 0.0)
    elif field == INSTRUMENT:
        allowed &= (controls["program"] < 0) | (value == controls["program"])
    return logits, allowed


def _on_strong_beat(onset: Int[Array, ""], controls: Unpacked) -> Bool[Array, ""]:
    every = jnp.maximum(controls["strong_every"], 1.0)
    off = jnp.mod(onset.astype(jnp.float32) - controls["strong_at"] + every / 2, every) - every / 2
    return (controls["strong_every"] > 0) & (jnp.abs(off) <= every * ON_BEAT)


def bent(field: int, controls: Unpacked) -> tuple[Array, Array]:
    """Temperature and top_p of the field."""
    temperature, top_p = controls["temperature"], controls["top_p"]
    if field not in (ONSET, DURATION):
        return temperature, top_p
    free = controls["free_time"]
    return jnp.where(free & (temperature > 0), 1.0, temperature), jnp.where(free, 1.0, top_p)


def draw(
    logits: Float[Array, "W"],
    allowed: Bool[Array, "W"],
    temperature: Float[Array, ""],
    top_p: Float[Array, ""],
    die: UInt32[Array, "2"],
) -> Int[Array, ""]:
    """One of the allowed values: by the nucleus rule, or the likeliest at temperature 0."""
    best = jnp.argmax(jnp.where(allowed, logits, -jnp.inf))
    drawn = jax.random.categorical(die, jnp.log(nucleus(logits, allowed, temperature, top_p)))
    return jnp.where(temperature > 0, drawn, best).astype(jnp.int32)


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
