"""The rows that the model sees: the human's chords and the solo, on one time axis (DESIGN 1.2).

Ticks here are the player's; the decoder's window counts from an origin of its own, so that onsets stay small
however long the session lasts. When the window is full, its later half becomes the next one.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from jazzd.engine.protocol import Key, Note, Sampling
from jazzd.moonbeam.decode import Controls, Decoder, State
from jazzd.moonbeam.tokens import COMPING, DURATION, OCTAVE, ONSET, PITCH_CLASS, SOLO, VELOCITY

CROWD = 10
"""Solo notes that begin at one tick at most: ten fingers."""
LONGEST_REST = 150
"""Ticks after which the next solo note begins at the latest."""


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

    @classmethod
    def of_key(cls, key: Key) -> "Event":
        return cls(key.onset, key.duration, key.pitch, COMPING, key.velocity)

    @property
    def order(self) -> tuple[int, bool]:
        """By onset; at one tick the chord comes before the solo."""
        return self.onset, self.number >= 0


class Timeline:
    """What has been played and what will be, mirrored in the decoder's state."""

    def __init__(self, decoder: Decoder, seed: int) -> None:
        self._decoder, self._seed = decoder, seed
        self._events: list[Event] = []
        self._number = 0
        self._state: State
        self._window(0)

    @property
    def last_onset(self) -> int:
        """Tick of the last event; before the first, where it all begins."""
        return self._events[-1].onset if self._events else self._origin

    def revise(self, keep: int, keys: Sequence[Key]) -> None:
        """Forget the solo notes after number `keep`, and add what the human struck."""
        kept = [event for event in self._events if event.number <= keep]
        self._number = keep + 1
        wanted = sorted([*kept, *map(Event.of_key, keys)], key=lambda event: event.order)
        same = next(
            (i for i, (old, new) in enumerate(zip(self._events, wanted, strict=False)) if old != new),
            min(len(self._events), len(wanted)),
        )
        self._state = self._decoder.rollback(self._state, len(self._events) - same)
        del self._events[same:]
        if not same:  # a window begins with its first event: nothing may lie before its origin
            self._window(wanted[0].onset if wanted else 0)
        self._append(wanted[same:])

    def next_note(self, sampling: Sampling, floor: int, at_floor: bool, epoch: int) -> Note:
        """Draw the next solo note: it begins at `floor` or, unless `at_floor`, later."""
        if self._full(1):
            self._turn()
        onset = max(floor, self.last_onset + self._crowded())
        self._bridge(onset)
        controls = Controls(
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            audible=True,
            program=SOLO,
            low=min(sampling.low, sampling.high),
            high=max(sampling.low, sampling.high),
            floor=onset - self._origin,
            latest=onset - self._origin + (0 if at_floor else LONGEST_REST),
            density=sampling.density,
            weights=sampling.weights,
        )
        self._state, row = self._decoder.step(self._state, controls)
        pitch = int(row[OCTAVE]) * 12 + int(row[PITCH_CLASS])
        event = Event(
            int(row[ONSET]) + self._origin, int(row[DURATION]), pitch, SOLO, int(row[VELOCITY]), self._number
        )
        self._events.append(event)
        self._number += 1
        return Note(
            epoch=epoch,
            number=event.number,
            onset=event.onset,
            duration=event.duration,
            pitch=pitch,
            velocity=event.velocity,
        )

    def _append(self, events: Sequence[Event]) -> None:
        """Prefill the events, in a window that has room for them and reaches their onsets."""
        for event in events:
            if self._full(len(events)) or event.onset - self.last_onset > self._longest:
                self._events += events
                self._turn()
                return
        self._events += events
        self._state = self._decoder.prefill(self._state, self._rows(events))

    def _bridge(self, onset: int) -> None:
        """With nothing before it, or a silence longer than a timeshift can say, the music begins anew."""
        if not self._events or onset - self.last_onset > self._longest - LONGEST_REST:
            self._events.clear()
            self._window(onset)

    def _turn(self) -> None:
        """Begin a new window with the later half of the music, as much of it as hangs together."""
        kept = self._events[-self._decoder.capacity // 2 :]
        gaps = [i for i in range(1, len(kept)) if kept[i].onset - kept[i - 1].onset > self._longest]
        self._events = kept[gaps[-1] :] if gaps else kept
        self._window(self._events[0].onset)
        self._state = self._decoder.prefill(self._state, self._rows(self._events))

    def _window(self, origin: int) -> None:
        self._origin = origin
        # The window's origin is part of its dice: two windows of one piece are not to repeat each other.
        self._state = self._decoder.begin((self._seed << 32) + origin)

    def _crowded(self) -> bool:
        """Whether the last tick has all the solo notes that it may have."""
        last = self._events[-CROWD:]
        return len(last) == CROWD and all(e.number >= 0 and e.onset == self.last_onset for e in last)

    def _full(self, more: int) -> bool:
        return int(self._state.length) + more > self._decoder.capacity

    @property
    def _longest(self) -> int:
        return self._decoder.config.vocabulary.longest

    def _rows(self, events: Sequence[Event]) -> Int[np.ndarray, "N 6"]:
        rows = []
        for e in events:
            duration = min(e.duration, self._longest)
            rows.append([e.onset - self._origin, duration, *divmod(e.pitch, 12), e.program, e.velocity])
        return np.array(rows, np.int64).reshape(-1, 6)
