"""What the engine is told: the chords, the knobs and the beat, in its ticks."""

from collections.abc import Iterable, Sequence

from jazzd.engine import protocol
from jazzd.music.chords import Chord
from jazzd.music.grid import Grid, strong
from jazzd.music.notes import Seconds
from jazzd.music.tempo import TICKS_PER_SECOND, to_ticks
from jazzd.player.capture import Struck
from jazzd.player.form import Foreseen, Form
from jazzd.player.hands import Led
from jazzd.player.knobs import Knobs
from jazzd.player.pace import Pace
from jazzd.player.timeline import Timeline

HORIZON_TICKS, SHORT_HORIZON_TICKS = 100, 40
"""How far ahead of the play head the engine makes notes, and how far when it can hardly keep up: what is made
for the next chord to take back is work for nothing."""
THINNEST = 0.8
"""How much is taken from the density when the engine cannot keep up: rather fewer notes than late ones."""
LONGEST_NOTE_TICKS = 400
LARGEST_CHORD, MOST_KEYS = 32, 128
"""The latest that are told of a chord, and of all: the engine reads them before it answers."""
FORESEEN_S = 2.0
"""How long ago a chord of a form may have begun and still be told again."""
MOST_FORESEEN = 64


class Brief:
    """Puts the messages together; sends none."""

    def __init__(self, knobs: Knobs, pace: Pace) -> None:
        self._knobs, self._pace = knobs, pace

    def revise(
        self,
        epoch: int,
        timeline: Timeline,
        now: Seconds,
        begin: float,
        grid: Grid | None,
        over: Chord | Form | None,
        playing: bool = True,
        answer: bool = False,
        keys: tuple[protocol.Key, ...] = (),
    ) -> protocol.Revise:
        """Go on after the last note that stays, from `begin` on, over a chord or over a form's."""
        form = over if isinstance(over, Form) else None
        chord = form.chord(begin) if form else over
        return protocol.Revise(
            epoch=epoch,
            now=timeline.tick(now),
            keep=timeline.last,
            floor=timeline.raise_floor(max(begin, now)),
            answer=playing and answer,
            playing=playing,
            keys=keys,
            sampling=self._thinned(self._knobs.sampling(chord if isinstance(chord, Chord) else None)),
            mix=tuple(self._knobs.styling.mix.items()),
            ahead=self._changes(timeline, form, now) if form else (),
            end=timeline.tick(form.end) if form and form.end is not None else None,
            beats=_beats(timeline, grid),
        )

    def advance(self, timeline: Timeline, now: Seconds) -> protocol.Advance:
        """Where the play head is, and how far notes are wanted."""
        head = timeline.tick(now)
        horizon = HORIZON_TICKS - round((HORIZON_TICKS - SHORT_HORIZON_TICKS) * self._pace.strain)
        return protocol.Advance(now=head, until=head + horizon)

    def keys(
        self, timeline: Timeline, struck: Sequence[Struck], led: Iterable[Led] = ()
    ) -> tuple[protocol.Key, ...]:
        """What was struck and what the human led with, as the engine wants it."""
        length = self._pace.chord_ticks
        chord = [
            protocol.Key(timeline.tick(key.at), length, key.pitch, key.velocity)
            for key in struck[-LARGEST_CHORD:]
        ]
        line = [
            protocol.Key(
                timeline.tick(note.at),
                min(max(to_ticks(note.until - note.at), 1), LONGEST_NOTE_TICKS),
                note.pitch,
                note.velocity,
                solo=True,
            )
            for note in led
            if note.at >= timeline.origin
        ]
        return tuple(sorted([*chord, *line]))[-MOST_KEYS:]

    def _thinned(self, sampling: protocol.Sampling) -> protocol.Sampling:
        if not self._pace.strain:
            return sampling
        density = max(-1.0, sampling.density - THINNEST * self._pace.strain)
        return sampling.model_copy(update={"density": density})

    def _changes(self, timeline: Timeline, form: Form, now: Seconds) -> tuple[protocol.Change, ...]:
        near = [change for change in form.changes if change.at + change.duration_s > now - FORESEEN_S]
        return tuple(self._change(timeline, change) for change in near[:MOST_FORESEEN])

    def _change(self, timeline: Timeline, change: Foreseen) -> protocol.Change:
        at, length = timeline.tick(change.at), min(max(to_ticks(change.duration_s), 1), LONGEST_NOTE_TICKS)
        weights, strong = self._knobs.weights(change.chord)
        # A human may have played a long line over a chord that is heard again.
        struck = change.keys[: protocol.MOST_KEYS_AHEAD]
        keys = tuple(protocol.Key(at, length, pitch, velocity) for pitch, velocity in struck)
        return protocol.Change(at=at, keys=keys, weights=weights, strong=strong)


def _beats(timeline: Timeline, grid: Grid | None) -> protocol.Beats | None:
    if grid is None:
        return None
    every = strong(grid.bar)
    origin = grid.next(timeline.origin, every) - timeline.origin
    return protocol.Beats(
        origin=TICKS_PER_SECOND * origin, length=TICKS_PER_SECOND * every * grid.beat_s, bar=grid.bar
    )
