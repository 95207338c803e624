"""How a phrase ends when the hands are up: on a note to rest on, softer towards it."""

from collections.abc import Collection, Sequence
from dataclasses import replace

from jazzd.music.notes import Seconds
from jazzd.player.scheduler import PlannedNote

SHORTEST_LAST_NOTE = 0.12
"""Seconds: less time than this before the end, and a note is not one to end on."""
SOFTEST = 0.6
"""What is left of the velocity at the very end."""


def ending(planned: Sequence[PlannedNote], end: Seconds, tones: Collection[int]) -> list[PlannedNote]:
    """Which of `planned` (in their order) still sound in a phrase that is over at `end`, and how.

    The last of them is a chord tone (`tones`: pitch classes) if one is, and has a breath after it if it can.
    """
    candidates = [note for note in planned if note.due <= end - SHORTEST_LAST_NOTE]
    if not candidates:
        return []
    following = [note.due for note in candidates[1:]] + [end]

    def rest(number: int) -> float:
        note = candidates[number]
        breath = min(following[number] - note.due, 0.5)
        return (1.0 if note.pitch % 12 in tones else 0.0) + breath + min(note.duration_s, 0.5)

    last = max(range(len(candidates)), key=rest)
    began = candidates[0].due

    def faded(note: PlannedNote) -> PlannedNote:
        share = (note.due - began) / (end - began)
        return replace(note, velocity=max(1, round(note.velocity * (1 - (1 - SOFTEST) * share))))

    kept = [faded(note) for note in candidates[: last + 1]]
    return [*kept[:-1], replace(kept[-1], duration_s=end - kept[-1].due)]
