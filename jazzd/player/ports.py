"""Our two MIDI ports: found or created by name, read on the driver's thread, opened again when back."""

import contextlib
import gc
import math
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import rtmidi
import structlog
from mido import Message

from jazzd.errors import MidiError
from jazzd.player.clock import Clock
from jazzd.player.drivers import CLIENT, Client, Reader, Receive, as_midi_error, list_ports
from jazzd.player.messages import Held, parse

CLOSE_S = 1.0
"""How long a look that is under way is waited for."""
SETTLE_S = 0.25
"""What is sent sooner than this after opening is lost on some drivers (0.2 s was measured on JACK)."""

OnMessage = Callable[[Message, float], None]
"""Called with a message and when it came (seconds of the clock), on a driver's thread: it must not block."""


@dataclass(frozen=True)
class Change:
    """Names of the ports that went, and of those that may be played to (again)."""

    lost: tuple[str, ...] = ()
    found: tuple[str, ...] = ()


class Ports:
    """An input and an output by their names, and whatever becomes of each.

    With backend `none` there are none, and sending does nothing. `look` finds out that a port has gone, and
    opens it again when it is back; what was somebody else's is then waited for, not made. Who plays to a port
    that we made is not known: when nobody is left who could, the keys that are down are taken for lifted.
    """

    def __init__(self, wanted: str, names: tuple[str, str], on_message: OnMessage, clock: Clock) -> None:
        self.backend = "none"
        self.reason = ""
        self._wanted = wanted
        self._clock, self._on_message, self._held = clock, on_message, Held()
        self._input = _InputPort(names[0], _receiver(self._heard), clock)
        self._output = _OutputPort(names[1])
        self._closed = False
        self._looking = threading.Lock()

    @property
    def input(self) -> str:
        return self._input.name

    @property
    def output(self) -> str:
        return self._output.name

    @property
    def ready_at(self) -> float:
        """Nothing that is sent before this (seconds of the clock) arrives for sure."""
        return max(self._input.ready_at, self._output.ready_at)

    @property
    def connected(self) -> bool:
        return self._input.usable and self._output.usable

    @property
    def made(self) -> tuple[str, ...]:
        """Those that we have made because there were none of that name."""
        return tuple(port.name for port in (self._input, self._output) if port.is_open and not port.theirs)

    def send(self, message: Message) -> None:
        """Sends on the output port.

        Raises MidiError if the driver would not, or while the port is away, or so new that it may be lost.
        """
        if self._closed or self.backend == "none":
            return
        if self._clock.now() < self._output.ready_at:
            raise MidiError(f"{self._output.name} was opened just now; jazzd waits until it can be played to")
        self._output.send(message)

    def open(self) -> None:
        """Opens what is not open. Raises MidiError where there is no backend, or no such port."""
        if self.backend == "none":
            found = list_ports(self._wanted)
            self.backend, self.reason = found.backend, found.reason
        failure = MidiError(self.reason) if self.backend == "none" else self._open()
        self.reason = str(failure or "")
        if failure:
            raise failure

    def _open(self) -> MidiError | None:
        """The first thing that went wrong, if any did."""
        failure = None
        for port, other in ((self._input, self._output), (self._output, self._input)):
            if not port.is_open:
                try:
                    for each in (port, other):
                        each.connect(self.backend)
                    port.open(other)
                    port.ready_at = self._clock.now() + SETTLE_S
                except MidiError as error:
                    failure = failure or error
        return failure

    def look(self) -> Change:
        """What has become of the ports. May take a while: not for the loop.

        One of ours for which somebody else's has come, that it only stood for, is lost now and closed with
        the next look: what sounds on it can still be released. When one of somebody else's has gone, the
        other may have gone and come back between two looks: it is opened anew in the same way.
        """
        with self._looking:
            return Change() if self._closed or self._wanted in ("tcp", "none") else self._look()

    def _look(self) -> Change:
        ports = (self._input, self._output)
        made = self.made
        lost = [port for port in ports if port.has_gone(made)]
        if self._input.deserted or self._input in lost:
            for message in self._held.released():
                self._on_message(message, self._clock.now())
        if any(port.theirs for port in lost):
            for port in ports:
                port.renew()
        away = [port for port in ports if not port.is_open and port not in lost]
        if away:
            with contextlib.suppress(MidiError):
                self.open()
        found = [port for port in away if port.is_open]
        return Change(tuple(port.name for port in lost), tuple(port.name for port in found))

    def _heard(self, message: Message, at: float) -> None:
        self._held.heard(message)
        self._on_message(message, at)

    def close(self) -> None:
        """Closes them for good, after a look that is under way, unless a driver holds that up."""
        self._closed = True
        waited = self._looking.acquire(timeout=CLOSE_S)
        self._input.close()
        self._output.close()
        if waited:
            self._looking.release()


class _Port:
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

    def open(self, other: "_Port") -> None:
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

    def _make(self, client: Client, other: "_Port") -> str:
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


class _InputPort(_Port):
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


class _OutputPort(_Port):
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


class Output:
    """Where the notes go: every message to each of the senders."""

    def __init__(self, *senders: Callable[[Message], None]) -> None:
        self._senders = senders

    def send(self, message: Message) -> None:
        """Raises what the last failing sender raised, after all have had the message."""
        failure = None
        for send in self._senders:
            try:
                send(message)
            except MidiError as error:
                failure = error
        if failure is not None:
            raise failure


def open_ports(backend: str, input_name: str, output_name: str, on_message: OnMessage, clock: Clock) -> Ports:
    """Opens the ports whose names contain the given ones, else virtual ports of those names.

    `backend`: auto alsa jack coremidi winmm tcp none. `auto` without any MIDI system gives backend `none` and
    its reason; a backend that was named and is not there raises MidiError, and so does a port that neither
    exists nor can be created, but on Windows, where loopMIDI may come later.
    """
    ports = Ports(backend, (input_name, output_name), on_message, clock)
    try:
        ports.open()
    except MidiError:
        if backend not in ("auto", "tcp", "none") and sys.platform != "win32":
            ports.close()
            raise
    return ports


def _receiver(on_message: OnMessage) -> Receive:
    log = structlog.get_logger()

    def receive(data: Sequence[int], at: float) -> None:
        try:
            if (message := parse(data)) is not None:
                on_message(message, at)
        except Exception:  # it must not reach the driver's thread
            log.exception("message_not_handled")

    return receive


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
