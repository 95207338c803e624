"""Bytes to MIDI messages, whatever the bytes."""

import re
from collections.abc import Iterator, Sequence

from mido import Message

SUSTAIN, SUSTAIN_DOWN = 64, 64
"""The pedal's control, and the value from which it, or another, is down."""
PEDALS = (SUSTAIN, 66, 67, 68, 69)
"""With sostenuto, soft, legato and hold 2."""
MODULATION = 1

_REAL_TIME = 0xF8
_CHANNEL = {0x80: 2, 0x90: 2, 0xA0: 2, 0xB0: 2, 0xC0: 1, 0xD0: 1, 0xE0: 2}
_SYSTEM = {0xF1: 1, 0xF2: 2, 0xF3: 1, 0xF6: 0, 0xF8: 0, 0xFA: 0, 0xFB: 0, 0xFC: 0, 0xFF: 0}
"""Data bytes after each status that jazzd hears: all but SysEx, active sensing and the undefined ones."""

_ANY_STATUS = re.compile(rb"[\x80-\xff]")


def parse(data: Sequence[int]) -> Message | None:
    """The one message that `data` is, or None if it is not one that jazzd hears."""
    if not data or _data_bytes(data[0]) != len(data) - 1 or max(data[1:], default=0) > 0x7F:
        return None
    return Message.from_bytes(data)


class Held:
    """What somebody holds down, to be released for them when they are gone."""

    def __init__(self) -> None:
        self._held: dict[bytes, Message] = {}
        """What lets go of each, by its bytes, which sort keys before pedals before wheels."""

    def heard(self, message: Message) -> None:
        match message.type:
            case "note_on" | "note_off":
                rest = Message("note_off", channel=message.channel, note=message.note)
                held = message.type == "note_on" and message.velocity > 0
            case "control_change" if message.control in (*PEDALS, MODULATION):
                rest, held = message.copy(value=0), message.value > 0
            case "aftertouch":
                rest, held = message.copy(value=0), message.value > 0
            case "pitchwheel":
                rest, held = message.copy(pitch=0), message.pitch != 0
            case _:
                return
        key = bytes(rest.bytes())
        if held:
            self._held[key] = rest
        else:
            self._held.pop(key, None)

    def released(self) -> list[Message]:
        """What lets go of it all."""
        held, self._held = self._held, {}
        return [rest for _, rest in sorted(held.items())]


class Decoder:
    """A stream of MIDI bytes, cut anywhere, to messages.

    mido's parser knows no running status, and loses the message that a clock byte interrupts. SysEx, active
    sensing and stray bytes are skipped as they come, so that no stream can fill the memory.
    """

    def __init__(self) -> None:
        self._status = 0  # 0: skipping up to the next status byte
        self._data = bytearray()

    def feed(self, data: bytes) -> Iterator[Message]:
        """The messages that these bytes complete."""
        position = 0
        while position < len(data):
            byte = data[position]
            position += 1
            if byte >= _REAL_TIME:  # may stand between any two bytes of another message
                if message := parse([byte]):
                    yield message
                continue
            if byte >= 0x80:
                self._begin(byte)
            elif self._status:
                self._data.append(byte)
            else:
                found = _ANY_STATUS.search(data, position)
                position = found.start() if found else len(data)
            if self._status and len(self._data) == _data_bytes(self._status):
                if message := parse([self._status, *self._data]):
                    yield message
                self._begin(self._status if self._status < 0xF0 else 0)

    def _begin(self, status: int) -> None:
        self._status = status if _data_bytes(status) is not None else 0
        self._data.clear()


def _data_bytes(status: int) -> int | None:
    return _CHANNEL.get(status & 0xF0) if status < 0xF0 else _SYSTEM.get(status)
