"""Our two MIDI ports: found or created by name, read on the driver's thread, opened again when back."""

import contextlib
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog
from mido import Message

from jazzd.errors import MidiError
from jazzd.player.clock import Clock
from jazzd.player.drivers import Receive, list_ports
from jazzd.player.messages import Held, parse
from jazzd.player.port import InputPort, OutputPort

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
        self._input = InputPort(names[0], _receiver(self._heard), clock)
        self._output = OutputPort(names[1])
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
            self.let_go()
        if any(port.theirs for port in lost):
            for port in ports:
                port.renew()
        away = [port for port in ports if not port.is_open and port not in lost]
        if away:
            with contextlib.suppress(MidiError):
                self.open()
        found = [port for port in away if port.is_open]
        return Change(tuple(port.name for port in lost), tuple(port.name for port in found))

    def let_go(self) -> None:
        """The keys and pedals that are down count as lifted: nobody can tell any more."""
        for message in self._held.released():
            self._on_message(message, self._clock.now())

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
