"""One MIDI port of a driver: found or created by name, asked for and closed without hanging."""

import gc
import math
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any

import rtmidi
from mido import Message

from jazzd.errors import MidiError
from jazzd.player.clock import Clock
from jazzd.player.drivers import CLIENT, Client, Reader, Receive, as_midi_error


class Port:
    """A port of a driver by its name, and whatever becomes of it."""

    def __init__(self, kind: type, wanted: str, key: str) -> None:
        self.name = ""
        """As others see it; while it is away, what it was."""
        self.theirs = False
        """Whether it is somebody else's, who may take it away, or was when it was there last."""
        self.ready_at = -math.inf
        """Seconds of the clock."""
        self._kind, self._wanted, self._key = kind, wanted, key
        self._lock = threading.Lock()
        self._client: Client | None = None
        self._waiting: Client | None = None
        """Of a port that is away: a new client at every look would stir up the patchbay, and JACK."""
        self._leaving = False
        """It can still be played to, and is closed with the next look."""
        self._others = 0
        """How many ports of other programs there were at the last look."""
        self.deserted = False
        """Whether we made it, and the last of those has gone since the look before."""

    @property
    def is_open(self) -> bool:
        return self._client is not None

    @property
    def usable(self) -> bool:
        return self.is_open and not self._leaving

    @property
    def others(self) -> list[str]:
        """The ports that it could be; the other one of ours is among them. Raises MidiError."""
        client = self._client or self._waiting
        return [] if client is None else client.ports()

    def connect(self, backend: str) -> None:
        """Has a client that can be asked. Raises MidiError where there is no such system."""
        if self._client is None and self._waiting is None:
            client = Client(self._kind, backend)
            self._prepare(client)
            self._waiting = client

    def open(self, other: "Port") -> None:
        """Opens somebody else's port whose name fits, else a virtual one of that name; both are connected.

        Raises MidiError where it cannot be opened, or would have to be made although it was somebody else's
        before.
        """
        client = self._waiting
        assert client is not None
        try:
            with as_midi_error(client.backend):
                # What the other has made is not somebody else's: we would play into our own ear.
                there = [name for name in self.others if other.theirs or name != other.name]
                found = _match(self._wanted, there)
                if found is None:
                    name = None if self.theirs else self._make(client, other)
                else:
                    name = self._join(client, found)
        except MidiError:
            self._waiting = None
            self._end(client)
            raise
        if name is None and found is None:
            raise MidiError(f"{self.name} is gone; jazzd waits for its return")
        if name is None:
            raise MidiError("ports come and go: that number may have been another one's by then")
        with self._lock:
            self._client, self._waiting = client, None
            self.name, self.theirs, self._leaving = name, found is not None, False

    def has_gone(self, ours: Sequence[str]) -> bool:
        """Whether it was usable until now, and is not any more; what cannot be used is closed."""
        if self._waiting is not None and self._waiting.hung_up:
            self._end(self._waiting)
            self._waiting = None
        self.deserted = False
        if self._client is None:
            return False
        if self._leaving:
            self.close()
            return False
        there = _ports(self._client)
        if there is None or (self.theirs and self.name not in there):
            self.close()
            return True
        others = [name for name in there if name not in ours]
        self.deserted, self._others = bool(self._others) and not others and not self.theirs, len(others)
        self._leaving = not self.theirs and bool(_match(self._wanted, others))
        return self._leaving

    def renew(self) -> None:
        """Somebody else's is closed with the next look, as a superseded one is."""
        if self.is_open and self.theirs:
            self._leaving = True

    def close(self) -> None:
        with self._lock:  # a driver object that was deleted would crash the process, not raise
            client, self._client = self._client, None
        waiting, self._waiting = self._waiting, None
        for each in (client, waiting):
            if each is not None:
                self._end(each)

    def _end(self, client: Client) -> None:
        self._hush(client)
        client.end()

    def _join(self, client: Client, name: str) -> str | None:
        """None where the ports have come to have other numbers meanwhile."""
        there = client.ports()
        if name in there:
            client.midi.open_port(there.index(name), name=CLIENT)  # the other's name is the other's
            if client.ports() == there:
                return name
            client.midi.close_port()
        return None

    def _make(self, client: Client, other: "Port") -> str:
        if sys.platform == "win32":
            there = ", ".join(client.ports()) or "none"
            raise MidiError(
                f"no MIDI port has {self._wanted!r} in its name (there are: {there}): create it with "
                f"loopMIDI, or set {self._key} to one of these"
            )
        before = other.others
        client.midi.open_virtual_port(self._wanted)
        seen = (name for name in other.others if name not in before and self._wanted in name)
        return next(seen, self._wanted)

    def _prepare(self, client: Client) -> None:
        """Before anything is opened."""

    def _hush(self, client: Client) -> None:
        """Before it is closed."""


class InputPort(Port):
    def __init__(self, wanted: str, receive: Receive, clock: Clock) -> None:
        super().__init__(rtmidi.MidiIn, wanted, "midi.input")
        self._receive, self._clock = receive, clock
        self._kept: list[Any] = []
        self._reader: Reader | None = None

    def _prepare(self, client: Client) -> None:
        if client.backend == "jack":
            # What RtMidi is told to ignore takes its time with it, and active sensing comes often.
            client.midi.ignore_types(sysex=True, timing=False, active_sense=False)
            self._reader = Reader(client.midi, self._receive, self._clock)
            return

        def called(event: tuple[Sequence[int], float], _: object) -> None:
            self._receive(event[0], self._clock.now())

        client.midi.ignore_types(sysex=True, timing=False, active_sense=True)
        client.midi.set_callback(called)
        # python-rtmidi frees its record of the callback in cancel_callback, and a callback that waits for the
        # interpreter lock then reads it: so the record must live longer.
        self._kept = gc.get_referrers(called)

    def _hush(self, client: Client) -> None:
        if self._reader is not None:
            self._reader.stop()
            self._reader = None
            return
        client.midi.cancel_callback()
        # A callback that waits for the interpreter lock now would be waited for by close_port, which holds
        # it: let it through first.
        time.sleep(0.05)


class OutputPort(Port):
    def __init__(self, wanted: str) -> None:
        super().__init__(rtmidi.MidiOut, wanted, "midi.output")

    def send(self, message: Message) -> None:
        """Raises MidiError while it is away."""
        with self._lock:
            if self._client is None:
                raise MidiError(f"{self.name or self._wanted} is not there; jazzd waits for it")
            if self._client.hung_up:
                # RtMidi would not say so: it fills a buffer that nobody empties, then waits for ever, and
                # with it every thread of this process.
                raise MidiError("the JACK server is gone; jazzd waits for its return")
            try:
                self._client.midi.send_message(message.bytes())
            except (rtmidi.RtMidiError, ValueError) as error:
                raise MidiError(f"cannot send to {self.name}: {error}; is it still connected?") from None


def _ports(client: Client) -> list[str] | None:
    """What it could open; None where the system behind it is no more."""
    try:
        return None if client.hung_up else client.ports()
    except MidiError:
        return None


def _match(wanted: str, names: list[str]) -> str | None:
    """The port of exactly that name, else the first that has it in its name."""
    return next((name for name in names if name == wanted), None) or next(
        (name for name in names if wanted in name), None
    )
