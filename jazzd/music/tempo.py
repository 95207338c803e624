"""Where seconds, beats and the timeline's ticks meet: the one place that converts them."""

from jazzd.music.notes import Seconds

TICKS_PER_SECOND = 100
LONGEST_FILE_S = 24 * 3600.0
"""A MIDI file in which more time passes is damaged: there is no end to what one may claim."""


def to_ticks(seconds: float) -> int:
    """The nearest tick of the timeline."""
    return round(seconds * TICKS_PER_SECOND)


def to_seconds(ticks: int) -> Seconds:
    return Seconds(ticks / TICKS_PER_SECOND)


def beats_to_seconds(beats: float, bpm: float) -> Seconds:
    return Seconds(beats * 60 / bpm)
