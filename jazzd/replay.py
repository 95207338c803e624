"""A take, played again: the same notes from the same questions."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

from pydantic import ValidationError

from jazzd.engine.protocol import Note, Revise
from jazzd.engine.timeline import Timeline
from jazzd.errors import MidiError
from jazzd.moonbeam.decode import Decoder
from jazzd.moonbeam.weights import Base
from jazzd.music.notes import Note5D
from jazzd.music.tempo import to_seconds
from jazzd.styles.wardrobe import Wardrobe
from jazzd.takes import Log, Passage

BREAK_S = 2.0
"""Between two timelines: nobody wrote down how long it was quiet."""


@dataclass(frozen=True)
class Difference:
    """The first note that came out otherwise."""

    passage: int
    was: Note
    now: Note | None


@dataclass(frozen=True)
class Replay:
    notes: int
    """Made then."""
    same: int
    difference: Difference | None
    solo: list[Note5D]
    """The notes as they come now, those that were taken back left out; seconds."""


def warnings(log: Log, base: Base, wardrobe: Wardrobe) -> list[str]:
    """Why the notes may come out otherwise, in sentences."""
    found = []
    if log.fingerprint and log.fingerprint != base.fingerprint:
        found.append(
            f"it was played with the base {log.base} ({log.fingerprint}), this is {base.fingerprint}"
        )
    if log.dtype and (log.dtype, log.device) != (base.dtype, base.device):
        found.append(f"it was played in {log.dtype} on {log.device}, this is {base.dtype} on {base.device}")
    now = {record.name: record.fingerprint for record in wardrobe.registry.records}
    used = {name for p in log.passages for e in p.events if isinstance(e, Revise) for name, _ in e.mix}
    for name in sorted(used):
        if now.get(name) != log.styles.get(name):
            found.append(f"the style {name} " + ("is another one now" if name in now else "is not there"))
    return found


def replay(log: Log, decoder: Decoder, wardrobe: Wardrobe) -> Replay:
    """Plays the log, and leaves the decoder plain.

    Raises StyleError for a style that is not there, MidiError for a log that asks for what no player asks.
    """
    notes = same = 0
    difference: Difference | None = None
    solo: list[Note5D] = []
    for number, passage in enumerate(log.passages):
        began = max((note.end for note in solo), default=-BREAK_S) + BREAK_S
        kept: dict[int, Note] = {}
        for was, now, keep in _played(passage, decoder, wardrobe):
            if was is None:  # a revision took back what came after this
                kept = {n: note for n, note in kept.items() if n <= keep}
                continue
            notes += 1
            alike = now == was
            same += alike
            if not alike and difference is None:
                difference = Difference(number, was, now)
            if now:
                kept[now.number] = now
        solo += _in_seconds(kept, began)
    decoder.mix = None
    return Replay(notes, same, difference, solo)


def _played(
    passage: Passage, decoder: Decoder, wardrobe: Wardrobe
) -> Iterator[tuple[Note | None, Note | None, int]]:
    """Every note as it was and as it is; (None, None, keep) for a revision."""
    decoder.mix = None
    timeline = Timeline(decoder, passage.seed)
    notes: dict[int, list[Note]] = {}
    for note in (event for event in passage.events if isinstance(event, Note)):
        notes.setdefault(note.epoch, []).append(note)
    before = {
        epoch: (place, ended)
        for note in itertools.chain(*notes.values())
        for epoch, place, ended in note.read_before
    }
    for revise in (event for event in passage.events if isinstance(event, Revise)):
        place, ended = before.get(revise.epoch, (0, False))
        if ended:
            timeline.conclude()
        timeline.prepare_to(place)
        decoder.mix = wardrobe.mix(dict(revise.mix))
        timeline.revise(revise.keep, revise.keys, revise.ahead, revise.floor, revise.end)
        yield None, None, revise.keep
        fresh = revise.answer
        # Some were on their way while the next revision was, too, and stand behind it.
        for was in notes.get(revise.epoch, ()):
            timeline.prepare_to(was.read)
            try:
                now = timeline.next_note(revise.sampling, was.floor, fresh, was.epoch, revise.beats)
            except ValidationError as error:  # later than any time that can be said
                raise MidiError(f"the take is damaged: {error.errors()[0]['msg']}") from None
            fresh = False
            yield was, now and now.model_copy(update=_told(was)), -1


def _told(note: Note) -> dict[str, object]:
    """What the engine says of a note besides the note."""
    return {"read": note.read, "read_before": note.read_before}


def _in_seconds(kept: dict[int, Note], began: float) -> list[Note5D]:
    if not kept:
        return []
    first = min(note.onset for note in kept.values())
    return [
        Note5D.from_pitch(
            began + to_seconds(note.onset - first), to_seconds(note.duration), note.pitch, note.velocity
        )
        for note in kept.values()
    ]
