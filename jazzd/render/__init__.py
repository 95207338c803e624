"""Music made visible and audible: the piano roll in the terminal, MIDI files, sound files."""

from jazzd.render.midi import PlayedChord, read_chords, write_midi
from jazzd.render.roll import piano_roll
from jazzd.render.sound import write_wav

__all__ = ["PlayedChord", "piano_roll", "read_chords", "write_midi", "write_wav"]
