"""What the soloist remembers of the phrase that is being played."""

from dataclasses import dataclass

from jazzd.music.grid import Song
from jazzd.music.notes import Seconds
from jazzd.player.form import Form
from jazzd.player.timeline import Timeline


@dataclass
class Answer:
    """The first note after a chord, on its way."""

    asked_at: Seconds
    last_note_on: Seconds | None
    """Of the chord; None if nobody waits for the answer to it."""
    at: Seconds | None = None
    """When it is to sound; None for as soon as it is here."""
    beat: int | None = None
    """The number of the beat that this is, in `song`."""
    song: Song | None = None
    floor: int = 0
    """Of the timeline, when it was asked for."""
    note_id: int | None = None
    """None until the engine has made it."""


@dataclass
class Phrase:
    """From the first chord after a silence to the last note."""

    timeline: Timeline
    began: Seconds
    advance_at: Seconds
    answer: Answer | None = None
    notes: int = 0
    form: Form | None = None
    """The chords to come, where they are known."""
    cut_at: Seconds | None = None
    """When its last note is chosen; None while nobody knows."""
    end: Seconds | None = None
    again_at: Seconds | None = None
    """When to look again at when the beat of the answer is."""
    resting: bool = False
    """Its last note is chosen, the engine makes no more."""

    @property
    def unanswered(self) -> Answer | None:
        """What the engine has still to make."""
        return self.answer if self.answer and self.answer.note_id is None else None
