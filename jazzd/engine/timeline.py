"""The rows that the model sees: the human's chords and the solo, on one time axis (DESIGN 1.2).

Ticks here are the player's; the decoder's window counts from an origin of its own, so that onsets stay small
however long the session lasts. When the window is full, its later half becomes the next one. That is read
beforehand, a few rows at a time in a state of its own, so that the music need not wait when the window turns.
"""

import dataclasses
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import jax
import numpy as np

from jazzd.arrays import Int
from jazzd.engine.protocol import Beats, Change, Key, Note, Sampling
from jazzd.moonbeam.decode import Decoder, State
from jazzd.moonbeam.sampling import Controls
from jazzd.moonbeam.tokens import COMPING, DURATION, OCTAVE, ONSET, PITCH_CLASS, SOLO, VELOCITY

CROWD = 10
"""Solo notes that begin at one tick at most: ten fingers."""
LONGEST_REST = 150
"""Ticks after which the next solo note begins at the latest."""
REPEATING = 0.35
"""Of the chance to strike the same pitch again: narrowed to one chord's tones the model dwells on them."""
PIECE = 4
"""Rows of the next window read at a time: the most that a CPU reads in about the time of a note."""


@dataclass(frozen=True)
class Event:
    """A row of the timeline, its onset in the player's ticks."""

    onset: int
    duration: int
    pitch: int
    program: int
    velocity: int
    number: int = -1
    """Of a solo note; -1 for the human's keys."""
    foreseen: bool = False
    """A key of a chord that was known beforehand."""

    @classmethod
    def of_key(cls, key: Key, foreseen: bool = False) -> "Event":
        program = SOLO if key.solo else COMPING
        return cls(key.onset, key.duration, key.pitch, program, key.velocity, foreseen=foreseen)


@dataclass(frozen=True)
class Window:
    """A run of the timeline's events in a state of the decoder, onsets counted from the first of them."""

    first: int
    """Place of the first event among the timeline's."""
    origin: int
    """Its tick."""
    state: State

    @property
    def end(self) -> int:
        """Place after the last event that it holds."""
        return self.first + int(self.state.length) - 1  # less the SOS row


class Timeline:
    """What has been played and what will be, mirrored in the decoder's state.

    Which window a note is drawn in, and with which dice, hangs on the events alone. So when `prepare` is
    called makes no difference, but to the time a turn takes.
    """

    def __init__(self, decoder: Decoder, seed: int) -> None:
        self._decoder, self._seed = decoder, seed
        self._longest = decoder.config.vocabulary.longest
        self._events: list[Event] = []
        self._number = 0
        self._foreseen: list[Change] = []
        """Chords that are known and not reached yet."""
        self._change: Change | None = None
        """The chord that was reached last, of those that were known."""
        self._end: int | None = None
        self._live: Window
        """Of all the events: what the next note is drawn in."""
        self._next: Window | None
        """Of the later ones, as far as they are read: what the music goes on in when the live one is full."""
        self._begin(0)

    @property
    def last_onset(self) -> int:
        """Tick of the last event; before the first, where it all begins."""
        return self._events[-1].onset if self._events else self._live.origin

    @property
    def behind(self) -> bool:
        """Whether there is something to prepare."""
        return len(self._events) - self._ahead >= PIECE

    def revise(
        self,
        keep: int,
        keys: Sequence[Key],
        ahead: Sequence[Change] = (),
        floor: int = 0,
        end: int | None = None,
    ) -> None:
        """Forget the solo notes after number `keep`, and add what the human struck.

        Of the chords `ahead`, those up to `floor` or the last note that stays are rows from now on, and so
        are the others when the notes get there; what was foreseen before for later than that is forgotten.
        No note begins at `end` or later.
        """
        reached = max([floor, *(e.onset for e in self._events if 0 <= e.number <= keep)])
        past = [change for change in ahead if change.at <= reached]
        self._foreseen, self._end = list(ahead[len(past) :]), end
        self._change = past[-1] if past else None
        kept = [e for e in self._events if e.number <= keep and not (e.foreseen and e.onset > reached)]
        self._number = keep + 1
        struck = [Event.of_key(key) for key in keys]
        struck += [Event.of_key(key, foreseen=True) for change in past for key in change.keys]
        known = {event for event in kept if event.number < 0}
        self._become([*kept, *(event for event in struck if event not in known)])

    def _become(self, wanted: list[Event]) -> None:
        """Have these events, in whatever order, be all there are; what is the same is not read again."""
        wanted.sort(key=lambda event: (event.onset, event.number >= 0))  # at one tick the chord comes first
        wanted = self._coherent(wanted)
        same = next(
            (i for i, (old, new) in enumerate(zip(self._events, wanted, strict=False)) if old != new),
            min(len(self._events), len(wanted)),
        )
        del self._events[same:]
        if same:
            self._live = self._back(self._live, same)
            if self._next:
                self._next = self._back(self._next, same) if self._next.first < same else None
        else:  # a window begins with its first event: nothing may lie before its origin
            self._begin(wanted[0].onset if wanted else 0)
        self._append(wanted[same:])

    def next_note(
        self, sampling: Sampling, floor: int, at_floor: bool, epoch: int, beats: Beats | None = None
    ) -> Note | None:
        """Draw the next solo note: it begins at `floor` or, unless `at_floor`, later. None at the end."""
        while True:
            change = self._change
            over = change or sampling
            weights = {"weights": over.weights, "strong": over.strong}
            event = self._draw(sampling.model_copy(update=weights), floor, at_floor, beats)
            if self._foreseen and event.onset >= self._foreseen[0].at:
                self._pass(self._foreseen.pop(0), self._events[:-1])  # and the note is drawn again
            elif self._end is not None and event.onset >= self._end:
                self._become(self._events[:-1])
                return None
            else:
                break
        self._number += 1
        return Note(
            epoch=epoch,
            number=event.number,
            onset=event.onset,
            duration=event.duration,
            pitch=event.pitch,
            velocity=event.velocity,
            floor=floor,
        )

    def conclude(self) -> None:
        """Have all chords that were foreseen be rows, as `next_note` does when it comes to the end."""
        if self._full(self._live):
            self._turn()
        while self._foreseen:
            self._pass(self._foreseen.pop(0), self._events)

    def _pass(self, change: Change, before: list[Event]) -> None:
        """The music goes beyond a chord that was foreseen: it is a row after those `before`."""
        self._change = change
        keys = [Event.of_key(key, foreseen=True) for key in change.keys]
        known = set(self._events)
        self._become([*before, *(event for event in keys if event not in known)])

    def _draw(self, sampling: Sampling, floor: int, at_floor: bool, beats: Beats | None) -> Event:
        """The next row of the solo, appended."""
        if self._full(self._live):
            self._turn()
        onset = max(floor, self.last_onset + self._crowded())
        self._bridge(onset)
        earliest = onset - self._live.origin
        controls = Controls(
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            free_time=True,
            audible=True,
            program=SOLO,
            low=min(sampling.low, sampling.high),
            high=max(sampling.low, sampling.high),
            floor=earliest,
            latest=earliest + (0 if at_floor else LONGEST_REST),
            density=sampling.density,
            previous=next((e.pitch for e in reversed(self._events) if e.program == SOLO), -1),
            repeating=REPEATING,
            strong_at=beats.origin - self._live.origin if beats else 0.0,
            strong_every=beats.length if beats else 0.0,
            weights=sampling.weights,
            strong=sampling.strong,
        )
        state, row = self._decoder.step(self._live.state, controls)
        self._live = dataclasses.replace(self._live, state=state)
        pitch = int(row[OCTAVE]) * 12 + int(row[PITCH_CLASS])
        onset = int(row[ONSET]) + self._live.origin
        event = Event(onset, int(row[DURATION]), pitch, SOLO, int(row[VELOCITY]), self._number)
        self._events.append(event)
        return event

    @property
    def read(self) -> int:
        """How far the next window is read: a place among the events."""
        return self._ahead

    def prepare_to(self, place: int) -> None:
        """Read the next window as far as that, in pieces as ever: a take is replayed."""
        while self._ahead < place and self.behind:
            self.prepare()

    def prepare(self) -> None:
        """One piece of work on the next window, about as long as a note's; nothing when not `behind`."""
        if not self.behind:
            return
        if self._next is None:
            self._next = self._window(self._successor)
        else:
            self._next = self._read(self._next, self._ahead + PIECE)
        # The device takes orders in advance: without the wait, a chord would queue behind them all.
        jax.block_until_ready((self._next.state.rows, self._next.state.cache))

    @property
    def _successor(self) -> int:
        """Place of the next window's first event.

        A turn keeps the later half of a full window, so which event that is, is known once there is half a
        window. From then on it can be read at the pace of the music: an even load, and never much to catch up
        with, however many keys come between the notes.
        """
        if self._next:
            return self._next.first
        return self._decoder.capacity - 1 - self._decoder.capacity // 2

    @property
    def _ahead(self) -> int:
        """Place of the first event that the next window has not read."""
        return self._next.end if self._next else self._successor

    def _append(self, events: Sequence[Event]) -> None:
        """Have the events read, in a window that has room for them and for a note."""
        self._events += events
        if self._full(self._live):
            self._turn()
        else:
            self._live = self._read(self._live, len(self._events))

    def _bridge(self, onset: int) -> None:
        """With nothing before it, or a silence longer than a timeshift can say, the music begins anew."""
        if not self._events or onset - self.last_onset > self._longest - LONGEST_REST:
            self._events.clear()
            self._begin(onset)

    def _coherent(self, events: list[Event]) -> list[Event]:
        """The events after the last silence that is longer than a timeshift can say."""
        starts = [
            i for i, (a, b) in enumerate(itertools.pairwise(events), 1) if b.onset - a.onset > self._longest
        ]
        return events[starts[-1] :] if starts else events

    def _begin(self, origin: int) -> None:
        """Forget everything: the music begins anew at tick `origin`."""
        self._live, self._next = self._opened(0, origin), None

    def _turn(self) -> None:
        """Go on in the next window, once it has read what it has not read yet."""
        count = len(self._events)
        window = self._next or self._window(self._successor)
        if self._full(window):  # so many keys at once
            window = self._window(count - self._decoder.capacity // 2)
        window = self._read(window, count)
        del self._events[: window.first]
        self._live, self._next = dataclasses.replace(window, first=0), None

    def _window(self, first: int) -> Window:
        """An empty window for the events from place `first` on."""
        return self._opened(first, self._events[first].onset)

    def _opened(self, first: int, origin: int) -> Window:
        # The window's origin is part of its dice: two windows of one piece are not to repeat each other.
        return Window(first, origin, self._decoder.begin((self._seed << 32) + origin))

    def _read(self, window: Window, end: int) -> Window:
        """The window with the events up to place `end`."""
        rows = self._rows(self._events[window.end : end], window.origin)
        return dataclasses.replace(window, state=self._decoder.prefill(window.state, rows))

    def _back(self, window: Window, end: int) -> Window:
        """The window without the events from place `end` on."""
        beyond = max(0, window.end - end)
        return dataclasses.replace(window, state=self._decoder.rollback(window.state, beyond))

    def _crowded(self) -> bool:
        """Whether the last tick has all the solo notes that it may have."""
        last = self._events[-CROWD:]
        return len(last) == CROWD and all(e.number >= 0 and e.onset == self.last_onset for e in last)

    def _full(self, window: Window) -> bool:
        """Whether there are too many events for the window to hold them and a note."""
        return len(self._events) - window.first >= self._decoder.capacity - 1  # the SOS row takes one

    def _rows(self, events: Sequence[Event], origin: int) -> Int[np.ndarray, "N 6"]:
        rows = []
        for e in events:
            duration = min(e.duration, self._longest)
            rows.append([e.onset - origin, duration, *divmod(e.pitch, 12), e.program, e.velocity])
        return np.array(rows, np.int64).reshape(-1, 6)
