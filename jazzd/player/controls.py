"""Knobs and switches of the input port -> what they mean."""

from collections.abc import Mapping
from dataclasses import dataclass

import mido

KNOBS = {"temperature": (0.2, 1.6), "harmony": (0.0, 1.0)}
"""What each knob's 0 and 127 stand for."""
HARMONY_AT_START = 64 / 127
PANIC_CONTROLS = {120: "all_sound_off", 123: "all_notes_off"}


@dataclass(frozen=True)
class Turned:
    """A knob of `KNOBS` was set to `value`, in its own unit."""

    knob: str
    value: float


@dataclass(frozen=True)
class Silenced:
    """Quiet, at once, until the next chord is struck."""

    reason: str


class Controls:
    """`numbers` maps the knobs to their MIDI CC numbers; a knob that is not in `KNOBS` means nothing yet."""

    def __init__(self, numbers: Mapping[str, int]) -> None:
        self._knobs = {number: knob for knob, number in numbers.items() if knob in KNOBS}

    def read(self, message: mido.Message) -> Turned | Silenced | None:
        if message.type == "stop":
            return Silenced("midi_stop")
        if message.type != "control_change":
            return None
        if message.control in PANIC_CONTROLS:
            return Silenced(PANIC_CONTROLS[message.control])
        if knob := self._knobs.get(message.control):
            low, high = KNOBS[knob]
            return Turned(knob, low + (high - low) * message.value / 127)
        return None
