"""Notes go out on time: one thread, one monotonic clock, nothing else in its way."""

import contextlib
import heapq
import itertools
import os
import sys
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace

import structlog

from jazzd.player.clock import Timer
from jazzd.player.ledger import Ledger

LATE_S = 0.010
"""A note this much behind its time counts as late."""
STALE_S = 0.250
"""A note this much behind is wrong music (the machine slept, the process was stopped): it is dropped."""
LEAD_S = 0.002
"""The thread turns to a note so long before its time: to wake up and to make ready takes a quarter of a
millisecond where nothing is in the way, and ten times that where the processor is not quite ours."""
RETRY_S = 0.1
"""A note-off that could not be sent is tried again this much later, for as long as it takes."""

_PRIORITY = 10  # of 1..99; JACK and sound drivers have more


@dataclass(frozen=True)
class PlannedNote:
    """A note that has not been sent: times in seconds of the player's clock, channel 0..15."""

    note_id: int
    due: float
    pitch: int
    velocity: int
    duration_s: float
    channel: int = 0
    asap: bool = False
    """It sounds when it arrives: never late, never stale."""


@dataclass(frozen=True)
class OutputFigures:
    """What came of the notes since the start, and how late the last ones were."""

    sent: int
    late: int
    dropped: int
    sounding: int
    lateness_ms: tuple[float, ...]


class Scheduler:
    """Plays planned notes through the ledger, each at its time and with its note-off. Thread-safe.

    Planning, cancelling and sending exclude each other: what `cancel` returns was not sent and never will be,
    all else was. `on_sent(note_id, due, sent_at)` is called on the scheduler's thread after each note-on,
    `on_error(error)` on the first send that fails after one that did not. Neither may block.
    """

    def __init__(
        self,
        ledger: Ledger,
        clock: Timer,
        on_sent: Callable[[int, float, float], None] = lambda note_id, due, sent_at: None,
        on_error: Callable[[Exception], None] = lambda error: None,
    ) -> None:
        self._ledger = ledger
        self._clock = clock
        self._on_sent = on_sent
        self._on_error = on_error
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="scheduler", daemon=True)
        # Heaps of (time, serial, note). The caller's note ids may come round again, the serials do not: an
        # old note's note-off must not find a new note.
        self._ons: list[tuple[float, int, PlannedNote]] = []
        self._offs: list[tuple[float, int, PlannedNote]] = []
        self._serials = itertools.count()
        self._sent = self._late = self._dropped = 0
        self._lateness_ms: deque[float] = deque(maxlen=4096)
        self._owed_at: float | None = None
        """When to try again what could not be released."""
        self._failing = self._closed = False

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Drops what is planned, releases what sounds, ends the thread. Nothing is sent after this."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join()
        self.panic()

    def play(
        self,
        note_id: int,
        due: float,
        pitch: int,
        velocity: int,
        duration_s: float,
        channel: int = 0,
        asap: bool = False,
    ) -> None:
        """Plans a note for `due` (seconds of the clock; the past means now)."""
        note = PlannedNote(note_id, due, pitch, velocity, duration_s, channel, asap)
        with self._changed:
            if self._closed:
                return
            heapq.heappush(self._ons, (due, next(self._serials), note))
            if self._ons[0][2] is note:
                self._changed.notify()

    def cancel(self, after: float = float("-inf")) -> list[PlannedNote]:
        """Drops the planned notes due at `after` or later; returns them in their order."""
        with self._changed:
            dropped = sorted(entry for entry in self._ons if entry[0] >= after)
            self._ons = [entry for entry in self._ons if entry[0] < after]
            heapq.heapify(self._ons)
            return [note for _, _, note in dropped]

    def cancel_and_trim(self, at: float) -> list[PlannedNote]:
        """Ends the music at `at`: no note begins then or later, none sounds on. Returns the dropped notes."""
        with self._changed:
            dropped = self.cancel(after=at)
            self._ons = [
                (due, serial, replace(note, duration_s=min(note.duration_s, at - due)))
                for due, serial, note in self._ons
            ]
            self._offs = [(min(end, at), serial, note) for end, serial, note in self._offs]
            heapq.heapify(self._offs)
            self._changed.notify()
            return dropped

    def release_all(self) -> bool:
        """Sends every sounding note off now, and says whether all could be; planned notes stay planned."""
        with self._changed:
            self._offs.clear()
            sent = self._try(self._ledger.release_all)
            if not sent:
                self.owe()
            return sent

    def rest(self) -> None:
        """Puts the pedals and wheels at rest that were passed on."""
        with self._changed:
            self._try(self._ledger.rest)

    def owe(self) -> None:
        """The ledger could not release something: it is tried again until it can."""
        with self._changed:
            self._owed_at = self._clock.now() + RETRY_S
            self._changed.notify()

    def panic(self) -> list[PlannedNote]:
        """Drops everything planned and silences everything now; returns the dropped notes."""
        with self._changed:
            dropped = self.cancel()
            self.release_all()
            return dropped

    @property
    def idle(self) -> bool:
        """Nothing sounds and nothing is planned."""
        with self._changed:
            return not (self._ons or self._offs or self._ledger.sounding)

    def healthy(self, patience_s: float) -> bool:
        """Whether notes can go out: its thread lives, and is not stuck in a driver for longer than that."""
        if not self._thread.is_alive() or not self._changed.acquire(timeout=patience_s):
            return False
        self._changed.release()
        return True

    def figures(self) -> OutputFigures:
        with self._changed:
            sounding = len(self._ledger.sounding)
            return OutputFigures(self._sent, self._late, self._dropped, sounding, tuple(self._lateness_ms))

    def step(self) -> float | None:
        """Sends what is due, waiting for notes that are about to be.

        Returns when to call it next (seconds of the clock), None if nothing is planned.
        """
        with self._changed:
            struck = []
            if self._owed_at is not None and self._owed_at <= self._clock.now():
                self._owed_at = None
                if not self._try(self._ledger.settle):
                    self.owe()
            while self._offs and self._offs[0][0] <= self._clock.now():
                self._release(*heapq.heappop(self._offs))
            while self._ons and self._ons[0][0] - LEAD_S <= self._clock.now():
                struck += self._strike(*heapq.heappop(self._ons))
            next_at = self._next()
        for note, sent_at in struck:
            self._on_sent(note.note_id, note.due, sent_at)
        return next_at

    def _strike(self, due: float, serial: int, note: PlannedNote) -> list[tuple[PlannedNote, float]]:
        if not note.asap and self._clock.now() - due > STALE_S:
            self._dropped += 1
            return []
        key, hold = (note.channel, note.pitch), lambda: self._clock.sleep_until(due)
        sent = self._try(lambda: self._ledger.strike(serial, *key, note.velocity, hold))
        sent_at = self._clock.now()
        # Even if it failed: part of the output may have had it.
        heapq.heappush(self._offs, (sent_at + note.duration_s, serial, note))
        if not sent:
            self._dropped += 1
            return []
        self._sent += 1
        if not note.asap:
            self._late += sent_at - due > LATE_S
            self._lateness_ms.append((sent_at - due) * 1000)
        return [(note, sent_at)]

    def _release(self, _end: float, serial: int, note: PlannedNote) -> None:
        if not self._try(lambda: self._ledger.release(serial, note.channel, note.pitch)):
            self.owe()

    def _try(self, send: Callable[[], None]) -> bool:
        try:
            send()
        except Exception as error:  # whatever a driver raises, the thread must live: it owes note-offs
            if not self._failing:
                self._on_error(error)
            self._failing = True
            return False
        self._failing = False
        return True

    def _next(self) -> float | None:
        ons, offs = ([entry[0] for entry in heap[:1]] for heap in (self._ons, self._offs))
        owed = [] if self._owed_at is None else [self._owed_at]
        return min([*(due - LEAD_S for due in ons), *offs, *owed], default=None)

    def _run(self) -> None:
        log = structlog.get_logger()
        _ask_for_priority()
        while not self._closed:
            try:
                self.step()
            except Exception:  # a bug in a callback is no reason to leave notes sounding
                log.exception("scheduler_callback_failed")
            self._wait()

    def _wait(self) -> None:
        """Sleeps until the next note or the next change."""
        with self._changed:
            next_at = self._next()
            if self._closed:
                return
            if next_at is None:
                self._changed.wait()
            elif (wait_s := next_at - self._clock.now()) > 0:
                self._changed.wait(wait_s)


def _ask_for_priority() -> None:
    """This thread before all ordinary ones, where the system allows it: decoding may keep every core busy.
    And timers that keep time."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(_PRIORITY))
    elif sys.platform == "win32":  # whose timers are 15 ms coarse until somebody asks for better
        import ctypes

        ctypes.windll.winmm.timeBeginPeriod(1)
