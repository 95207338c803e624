"""Knobs and switches of the input port -> what they mean."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import mido

from jazzd.errors import JazzdError

KNOBS = {"temperature": (0.2, 1.6), "density": (-1.0, 1.0), "harmony": (0.0, 1.0), "blend": (0.0, 1.0)}
"""What each knob's 0 and 127 stand for."""
HARMONY_AT_START = 64 / 127
PANIC_CONTROLS = {120: "all_sound_off", 123: "all_notes_off"}


@dataclass(frozen=True)
class Turned:
    """A knob of `KNOBS` was set to `value`, in its own unit."""

    knob: str
    value: float


@dataclass(frozen=True)
class Picked:
    """The style knob was set to `value`, 0..127."""

    value: int


@dataclass(frozen=True)
class Programmed:
    """The style with this number was asked for."""

    program: int


@dataclass(frozen=True)
class Silenced:
    """Quiet, at once, until the next chord is struck."""

    reason: str


@dataclass(frozen=True)
class Lesson:
    """A control that is to get the CC number that moves next, and what came of that."""

    control: str
    number: int | None = None
    """None while it waits."""
    refused: str = ""
    """Why the last number that moved cannot be had."""


class Controls:
    """`numbers` maps the controls to their MIDI CC numbers; those in `reserved` are never learnt."""

    def __init__(self, numbers: Mapping[str, int], reserved: Collection[int] = ()) -> None:
        self.numbers = dict(numbers)
        self.lesson: Lesson | None = None
        self._reserved = reserved

    def learn(self, control: str) -> None:
        """The next CC that moves is this control's from then on. Raises JazzdError for no such control."""
        if control not in self.numbers:
            raise JazzdError(f"there is no control {control!r}; there are {', '.join(self.numbers)}")
        self.lesson = Lesson(control)

    def read(self, message: mido.Message) -> Turned | Picked | Programmed | Silenced | None:
        if message.type == "stop":
            return Silenced("midi_stop")
        if message.type == "program_change":
            return Programmed(message.program)
        if message.type != "control_change":
            return None
        if message.control in PANIC_CONTROLS:
            return Silenced(PANIC_CONTROLS[message.control])
        if self.lesson and self.lesson.number is None:
            self.lesson = self._learnt(self.lesson.control, message.control)
        for knob, number in self.numbers.items():
            if number == message.control:
                return self._turned(knob, message.value)
        return None

    def _learnt(self, control: str, number: int) -> Lesson:
        if number in self._reserved:
            return Lesson(control, refused=f"MIDI keeps CC {number} for itself; move another knob")
        # Whoever has that number gets ours: every control keeps one of its own.
        for other, taken in self.numbers.items():
            if taken == number:
                self.numbers[other] = self.numbers[control]
        self.numbers[control] = number
        return Lesson(control, number)

    def _turned(self, knob: str, value: int) -> Turned | Picked | None:
        if knob == "style":
            return Picked(value)
        if knob not in KNOBS:
            return None
        low, high = KNOBS[knob]
        return Turned(knob, low + (high - low) * value / 127)
