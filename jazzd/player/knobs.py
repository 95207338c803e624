"""Where the knobs stand, and what that asks of the next notes."""

from collections.abc import Mapping
from typing import Any

from jazzd.engine.protocol import Sampling
from jazzd.errors import JazzdError
from jazzd.music import harmony
from jazzd.music.chords import Chord
from jazzd.music.grid import Feel
from jazzd.music.harmony import Weights
from jazzd.player.controls import HARMONY_AT_START
from jazzd.player.styling import Styling
from jazzd.settings import NARROWEST


class Knobs:
    """A style may bring settings of its own; they hold until the knob is turned (DESIGN section 5)."""

    def __init__(self, sampling: Sampling, styling: Styling, feel: Feel | None = None) -> None:
        self.styling = styling
        self._sampling = sampling
        feel = feel or Feel()
        self._positions: dict[str, float] = {
            "temperature": sampling.temperature,
            "density": sampling.density,
            "harmony": HARMONY_AT_START,
            "top_p": sampling.top_p,
            "low": sampling.low,
            "high": sampling.high,
            "quantize": feel.quantize,
            "swing": feel.swing,
            "layback_ms": feel.layback_ms,
        }
        self._touched: set[str] = set()
        """What was turned since the style was chosen."""

    @property
    def values(self) -> dict[str, float]:
        """Each in its own unit: as turned, or as the style has it."""
        own = {knob: value for knob, value in self.styling.settings.items() if knob not in self._touched}
        knobs = {knob: own.get(knob, value) for knob, value in self._positions.items()}
        return knobs | {"blend": self.styling.blend}

    @property
    def feel(self) -> Feel:
        values = self.values
        return Feel(values["quantize"], values["swing"], values["layback_ms"])

    def turn(self, knob: str, value: float) -> bool:
        """Sets a knob; whether that changes anything."""
        if self.values[knob] == value:
            return False
        if knob == "blend":
            self.styling.blend = value
        else:
            self._positions[knob] = round(value) if knob in ("low", "high") else value
            self._touched.add(knob)
        return True

    def style_chosen(self) -> None:
        """Its own settings hold from here on."""
        self._touched.clear()

    def check(self, changes: Mapping[str, float]) -> None:
        """Raises JazzdError where these changes would leave the solo too few pitches."""
        after = self.values | dict(changes)
        if any(not float(changes.get(knob, 0)).is_integer() for knob in ("low", "high")):
            raise JazzdError("low and high are MIDI pitches: whole numbers from 0 to 127")
        if {"low", "high"} & set(changes) and after["high"] - after["low"] < NARROWEST:
            raise JazzdError(
                f"high must be at least {NARROWEST} semitones above low; it would be {after['low']:g} to "
                f"{after['high']:g}"
            )

    def weights(self, chord: Chord | None) -> tuple[Weights, Weights]:
        """What the pitch classes weigh over this chord, and what they weigh on its strong beats."""
        knob = self.values["harmony"]
        return harmony.weights(chord, knob), harmony.weights(chord, harmony.on_strong_beats(knob))

    def sampling(self, chord: Chord | None) -> Sampling:
        """How the notes over this chord are to be drawn."""
        values = self.values
        weights, strong = self.weights(chord)
        low = min(int(values["low"]), 127 - NARROWEST)
        update: dict[str, Any] = self.styling.settings | {
            "temperature": values["temperature"],
            "density": values["density"],
            "top_p": values["top_p"],
            "low": low,
            "high": max(int(values["high"]), low + NARROWEST),
            "weights": weights,
            "strong": strong,
        }
        return self._sampling.model_copy(update=update)
