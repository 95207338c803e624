"""Where the knobs stand, and what that asks of the next notes."""

from jazzd.engine.protocol import Sampling
from jazzd.music import harmony
from jazzd.music.chords import Chord
from jazzd.player.controls import HARMONY_AT_START
from jazzd.player.styling import Styling


class Knobs:
    """A style may bring settings of its own; they hold until the knob is turned (DESIGN section 5)."""

    def __init__(self, sampling: Sampling, styling: Styling) -> None:
        self.styling = styling
        self._sampling = sampling
        self._positions = {
            "temperature": sampling.temperature,
            "density": sampling.density,
            "harmony": HARMONY_AT_START,
        }
        self._touched: set[str] = set()
        """What was turned since the style was chosen."""

    @property
    def values(self) -> dict[str, float]:
        """Each in its own unit: as turned, or as the style has it."""
        own = {knob: value for knob, value in self.styling.settings.items() if knob not in self._touched}
        knobs = {knob: own.get(knob, value) for knob, value in self._positions.items()}
        return knobs | {"blend": self.styling.blend}

    def turn(self, knob: str, value: float) -> bool:
        """Sets a knob; whether that changes anything."""
        if self.values[knob] == value:
            return False
        if knob == "blend":
            self.styling.blend = value
        else:
            self._positions[knob] = value
            self._touched.add(knob)
        return True

    def style_chosen(self) -> None:
        """Its own settings hold from here on."""
        self._touched.clear()

    def sampling(self, chord: Chord | None) -> Sampling:
        """How the notes over this chord are to be drawn."""
        values = self.values
        update = self.styling.settings | {
            "temperature": values["temperature"],
            "density": values["density"],
            "weights": harmony.weights(chord, values["harmony"]),
        }
        return self._sampling.model_copy(update=update)
