"""The record of what sounds: every note-on goes out through here, so every one can be taken back."""

import math
import mmap
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from mido import Message

from jazzd.errors import MidiError
from jazzd.player.messages import MODULATION, PEDALS, SUSTAIN

CHANNELS, PITCHES = 16, 128
LEFT_BEHIND = -1
"""Owner of the notes that an earlier run left sounding."""
UNDER_WAY_S = 1.0
"""A note-off sent so long ago has reached the driver: before, it may die with this process."""

_ALL_SOUND_OFF, _ALL_NOTES_OFF = 120, 123
_QUIET = [Message("control_change", control=control) for control in (SUSTAIN, _ALL_NOTES_OFF, _ALL_SOUND_OFF)]
_AT_REST = [
    *(Message("control_change", control=control) for control in (*PEDALS, MODULATION)),
    Message("aftertouch"),
    Message("pitchwheel"),
]


class Ledger:
    """Strikes and releases keys of the output, and knows which are down and whose they are. Thread-safe.

    A key counts as down from just before its note-on is sent until just after its note-off was: when in
    doubt, one note-off too many. With a `path`, what is down survives this process, kill -9 included: the
    next ledger on that path begins with those keys, owned by `LEFT_BEHIND`, for its `release_all` to lift:
    each time, and the next one's again, until `let_go`.
    So do keys whose note-off was just sent: a driver takes it at once and sends it a little later.
    Whatever `send` raises comes out of the methods here, with the record left true.
    """

    def __init__(
        self,
        send: Callable[[Message], None],
        path: Path | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._send, self._now = send, now
        self._lock = threading.Lock()
        self._marks = _map(path)
        down = [slot for slot, mark in enumerate(self._marks[:]) if mark]
        self._owners = {divmod(slot, PITCHES): LEFT_BEHIND for slot in down}
        self._left = sorted(self._owners)
        """What an earlier run left sounding: its synth may be there later than we are, or not before a later
        run."""
        self._channels = {channel for channel, _ in self._owners}
        self._moved: set[int] = set()
        """Channels on which a pedal or a wheel may not be at rest."""
        self._owed: set[tuple[int, int]] = set()
        """Keys whose note-off could not be sent."""
        self._lifted: dict[int, float] = {}
        """When each slot was lifted last, in that order; their marks stay for UNDER_WAY_S."""

    def strike(
        self, owner: int, channel: int, pitch: int, velocity: int, hold: Callable[[], None] = lambda: None
    ) -> None:
        """Sends a note-on (channel 0..15), and before it the note-off of whoever had this key.

        `hold` returns when it is time: what can be done before is done by then.
        """
        with self._lock:
            message = Message("note_on", channel=channel, note=pitch, velocity=velocity)
            self._forget(self._now() - UNDER_WAY_S)
            hold()
            if (channel, pitch) in self._owners:
                self._lift(channel, pitch)
            self._owners[channel, pitch] = owner
            self._marks[channel * PITCHES + pitch] = 1
            self._channels.add(channel)
            self._send(message)

    def release(self, owner: int, channel: int, pitch: int) -> None:
        """Sends the note-off of `owner`'s note, unless the key is up or a newer note has it."""
        with self._lock:
            if self._owners.get((channel, pitch)) == owner:
                self._lift(channel, pitch)

    def pass_on(self, message: Message) -> None:
        """Sends what is no key: a pedal, a bend."""
        with self._lock:
            self._moved.add(message.channel)
            self._send(message)

    def release_all(self) -> None:
        """Sends every key up, those that an earlier run left sounding each time; then pedal up, all notes off
        and all sound off on each channel ever used; and puts pedals and wheels at rest."""
        with self._lock:
            failures = []
            again = [key for key in self._left if key not in self._owners]
            for channel, pitch in sorted(self._owners):
                try:
                    self._lift(channel, pitch)
                except Exception as error:  # the other keys must still go up
                    failures.append(error)
            for channel, pitch in again:
                failures += self._tell([channel], [Message("note_off", note=pitch)])
            failures += self._tell(self._channels | self._moved, _QUIET)
            failures += self._put_at_rest()
            if failures:
                raise failures[0]

    def let_go(self) -> None:
        """What an earlier run left sounding was released where it sounds."""
        with self._lock:
            left, self._left = self._left, []
            for channel, pitch in left:
                self._note_lifted(channel * PITCHES + pitch)

    def rest(self) -> None:
        """Puts the pedals and wheels at rest that were passed on."""
        with self._lock:
            if failures := self._put_at_rest():
                raise failures[0]

    def settle(self) -> None:
        """Sends the note-offs that could not be sent when it was their time."""
        with self._lock:
            for key in sorted(self._owed):
                self._lift(*key)

    def lift_again(self, keys: Iterable[tuple[int, int]]) -> None:
        """Sends the note-offs of these keys, those that are up, once more: the first may have been lost on a
        port that was opened just before."""
        with self._lock:
            for channel, pitch in keys:
                if (channel, pitch) not in self._owners:
                    self._send(Message("note_off", channel=channel, note=pitch))

    @property
    def sounding(self) -> list[tuple[int, int]]:
        """The keys that are down: (channel, pitch), sorted."""
        with self._lock:
            return sorted(self._owners)

    def close(self) -> None:
        """Lets go of the file; what is still down stays in it."""
        self._forget(math.inf)
        self._marks.close()

    def owner(self, channel: int, pitch: int) -> int | None:
        """Whose key that is, also while its note-on or note-off is being sent."""
        return self._owners.get((channel, pitch))

    def _put_at_rest(self) -> list[Exception]:
        failures = self._tell(self._moved, _AT_REST)
        if not failures:
            self._moved.clear()
        return failures

    def _tell(self, channels: Iterable[int], messages: Iterable[Message]) -> list[Exception]:
        """Sends these on those channels, all that can be sent; what went wrong."""
        failures = []
        for channel in sorted(channels):
            for message in messages:
                try:
                    self._send(message.copy(channel=channel))
                except Exception as error:
                    failures.append(error)
        return failures

    def _lift(self, channel: int, pitch: int) -> None:
        self._owed.add((channel, pitch))
        self._send(Message("note_off", channel=channel, note=pitch))
        self._owed.discard((channel, pitch))
        del self._owners[channel, pitch]
        self._note_lifted(channel * PITCHES + pitch)

    def _note_lifted(self, slot: int) -> None:
        self._lifted.pop(slot, None)
        self._lifted[slot] = self._now()

    def _forget(self, before: float) -> None:
        """Takes away the marks of what was lifted before then, and is not down again, nor left by an earlier
        run."""
        while self._lifted:
            slot, at = next(iter(self._lifted.items()))
            if at >= before:
                return
            del self._lifted[slot]
            key = divmod(slot, PITCHES)
            if key not in self._owners and key not in self._left:
                self._marks[slot] = 0


def _map(path: Path | None) -> mmap.mmap:
    """One byte a key; with a path, in a file that the system writes for us even after kill -9."""
    size = CHANNELS * PITCHES
    if path is None:
        return mmap.mmap(-1, size)
    try:
        path.touch(mode=0o600)
        with path.open("r+b") as file:
            if file.seek(0, 2) != size:  # new, or not ours
                file.seek(0)
                file.truncate()
                # Written, not just made longer: on a disk that is full by then, a hole cannot be filled, and
                # the system would end the process.
                file.write(bytes(size))
                file.flush()
            return mmap.mmap(file.fileno(), size)
    except OSError as error:
        raise MidiError(
            f"cannot keep the record of sounding notes in {path}: {error.strerror}; make that folder writable"
        ) from None
