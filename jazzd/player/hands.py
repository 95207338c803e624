"""Which hand a key belongs to: chords for the solo to follow, or the human's own line."""

from dataclasses import dataclass

import mido

from jazzd.music.notes import MidiPitch, Seconds


@dataclass(frozen=True)
class Led:
    """A note of the human's own line, from key down to key up."""

    pitch: MidiPitch
    velocity: int
    at: Seconds
    until: Seconds


class Hands:
    """Without a `split` (MIDI pitch) and a `chord_channel` (1..16) every key is part of a chord; 0 for none.

    Keys below the split are chords and those from it on the line, or those of one channel are chords and
    those of all others the line; with both, a chord is below the split and on the channel.
    """

    def __init__(self, split: int = 0, chord_channel: int = 0) -> None:
        self.split = split
        self.chord_channel = chord_channel
        self._held: dict[tuple[int, int], tuple[int, Seconds]] = {}
        self._led: list[Led] = []
        self._last = Seconds(float("-inf"))

    def lead(self, message: mido.Message, at: Seconds) -> bool:
        """Whether this message, which came at `at`, belongs to the line; then it is remembered."""
        if message.type not in ("note_on", "note_off"):
            return False
        place = message.channel, message.note
        down = message.type == "note_on" and message.velocity > 0
        if not (self._is_lead(*place) if down else place in self._held):
            return False
        if place in self._held:
            velocity, since = self._held.pop(place)
            self._led.append(Led(MidiPitch(message.note), velocity, since, at))
        if down:
            self._held[place] = message.velocity, at
        self._last = at
        return True

    def quiet_at(self, patience_s: float) -> Seconds | None:
        """When the line is over if no key is struck any more: so long after the last; None with keys down."""
        return None if self._held else Seconds(self._last + patience_s)

    def take(self) -> list[Led]:
        """The notes of the line that have ended since the last time."""
        led, self._led = self._led, []
        return led

    def reset(self) -> None:
        """Believe that no key of the line is down."""
        self._held.clear()
        self._led.clear()
        self._last = Seconds(float("-inf"))

    def _is_lead(self, channel: int, pitch: int) -> bool:
        elsewhere = bool(self.chord_channel) and channel != self.chord_channel - 1
        return elsewhere or (bool(self.split) and pitch >= self.split)
