"""Where seconds, beats and the timeline's ticks meet: the one place that converts them."""

from jazzd.music.notes import Seconds

TICKS_PER_SECOND = 100


def to_ticks(seconds: float) -> int:
    """The nearest tick of the timeline."""
    return round(seconds * TICKS_PER_SECOND)


def to_seconds(ticks: int) -> Seconds:
    return Seconds(ticks / TICKS_PER_SECOND)


def beats_to_seconds(beats: float, bpm: float) -> Seconds:
    return Seconds(beats * 60 / bpm)
