"""Notes and their units."""

from dataclasses import dataclass
from typing import NewType, Self

Seconds = NewType("Seconds", float)
"""A time or a length in seconds."""

Beats = NewType("Beats", float)
"""A time or a length in quarter notes."""

MidiPitch = NewType("MidiPitch", int)
"""A key number 0..127; 60 is middle C."""


@dataclass(frozen=True)
class Note5D:
    """A note: onset and duration in seconds, pitch as `12 * octave + pitch_class`, velocity 1..127."""

    onset_time: float
    duration: float
    octave: int
    pitch_class: int
    velocity: int

    @classmethod
    def from_pitch(cls, onset_time: float, duration: float, pitch: int, velocity: int) -> Self:
        """The note with this MIDI pitch."""
        octave, pitch_class = divmod(pitch, 12)
        return cls(onset_time, duration, octave, pitch_class, velocity)

    @property
    def pitch(self) -> MidiPitch:
        return MidiPitch(12 * self.octave + self.pitch_class)

    @property
    def end(self) -> float:
        """When it stops sounding, in seconds."""
        return self.onset_time + self.duration
