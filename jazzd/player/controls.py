"""Knobs and switches of the input port -> what they mean."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

import mido

from jazzd.errors import JazzdError

KNOBS = {
    "temperature": (0.2, 1.6),
    "density": (-1.0, 1.0),
    "harmony": (0.0, 1.0),
    "blend": (0.0, 1.0),
    "quantize": (0.0, 100.0),
    "swing": (50.0, 75.0),
    "layback_ms": (0.0, 127.0),
    "low": (0.0, 127.0),
    "high": (0.0, 127.0),
}
"""What each knob's 0 and 127 stand for; low and high are for `jazzd set` only."""
Mode = Literal["follow", "trade"]
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
class Moded:
    """Follow or trade, by a switch."""

    mode: Mode


@dataclass(frozen=True)
class Tapped:
    """A tap of the beat."""


@dataclass(frozen=True)
class Kept:
    """What was played last is to be kept."""


@dataclass(frozen=True)
class Stopped:
    """The solo is quiet, at once, until the next chord is struck."""


@dataclass(frozen=True)
class Silenced:
    """Stopped, and with it all that is passed on."""

    reason: str


@dataclass(frozen=True)
class Lesson:
    """A control that is to get the CC number that moves next, and what came of that."""

    control: str
    number: int | None = None
    """None while it waits."""
    refused: str = ""
    """Why the last number that moved cannot be had."""
    gave_way: str = ""
    """The control that had that number, and has this one's now."""


Event = Turned | Picked | Programmed | Moded | Tapped | Kept | Stopped | Silenced


class Controls:
    """`numbers` maps the controls to their MIDI CC numbers; those in `reserved` are never learnt.

    `tap_key` is a key of the keyboard that taps the beat and plays nothing; 0 for none.
    """

    def __init__(self, numbers: Mapping[str, int], reserved: Collection[int] = (), tap_key: int = 0) -> None:
        self.numbers = dict(numbers)
        self.tap_key = tap_key
        self.lesson: Lesson | None = None
        self._reserved = reserved

    def learn(self, control: str) -> None:
        """The next CC that moves is this control's from then on. Raises JazzdError for no such control."""
        if control not in self.numbers:
            raise JazzdError(f"there is no control {control!r}; there are {', '.join(self.numbers)}")
        self.lesson = Lesson(control)

    def forget_lesson(self, control: str = "") -> None:
        """That control waits for a number no more; nor does any other where none is named."""
        if not control or (self.lesson and self.lesson.control == control):
            self.lesson = None

    def is_tap(self, message: mido.Message) -> bool:
        """Whether this is the tapping key, going down or up."""
        return bool(self.tap_key) and message.type in ("note_on", "note_off") and message.note == self.tap_key

    def read(self, message: mido.Message) -> Event | None:
        """What a message asks for; None for music, and for what asks for nothing."""
        if message.type == "stop":
            return Stopped()
        if self.is_tap(message):
            return Tapped() if message.type == "note_on" and message.velocity else None
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
        holder = next((name for name, taken in self.numbers.items() if taken == number), control)
        self.numbers[holder] = self.numbers[control]
        self.numbers[control] = number
        return Lesson(control, number, gave_way="" if holder == control else holder)

    def _turned(self, knob: str, value: int) -> Event | None:
        match knob:
            case "style":
                return Picked(value)
            case "mode":
                return Moded("follow" if value < 64 else "trade")
            case "tap":  # a pedal or a button: going down counts
                return Tapped() if value >= 64 else None
            case "keep":
                return Kept() if value >= 64 else None
        low, high = KNOBS[knob]
        return Turned(knob, low + (high - low) * value / 127)
