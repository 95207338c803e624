"""The MIDI ports of the system: found or created by name, read on the driver's thread."""

import contextlib
import ctypes
import gc
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import rtmidi
import structlog
from mido import Message

from jazzd.errors import MidiError
from jazzd.player.clock import Clock
from jazzd.player.messages import parse

SETTLE_S = 0.25
"""What is sent sooner than this after opening is lost on some drivers (0.2 s was measured on JACK)."""

OnMessage = Callable[[Message, float], None]
"""Called with a message and when it came (seconds of the clock), on a driver's thread: it must not block."""

_CLIENT = "jazzd"
_APIS = {
    "alsa": rtmidi.API_LINUX_ALSA,
    "jack": rtmidi.API_UNIX_JACK,
    "coremidi": rtmidi.API_MACOSX_CORE,
    "winmm": rtmidi.API_WINDOWS_MM,
}
_AUTO = {"darwin": ("coremidi", "jack"), "win32": ("winmm",)}.get(sys.platform, ("alsa", "jack"))


@dataclass(frozen=True)
class PortList:
    """The ports at hand: `inputs` can be read, `outputs` written. `reason` says why there is no backend."""

    backend: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    reason: str = ""


class Ports:
    """A pair of ports by their names, and whatever becomes of them.

    With backend `none` there is none, and sending does nothing. `look` finds out that a port has gone, and
    opens it again when it is back; what was somebody else's is then waited for, not made.
    """

    def __init__(self, wanted: str, names: tuple[str, str], on_message: OnMessage, clock: Clock) -> None:
        self.backend = "none"
        self.reason = ""
        self.input = self.output = ""
        self.ready_at = clock.now()
        """Nothing should be sent before this (seconds of the clock)."""
        self._wanted, self._names, self._on_message = wanted, names, on_message
        self._clock = clock
        self._pair: _Pair | None = None
        self._theirs = (False, False)
        """Whether input and output were somebody else's when they were there last."""
        self._lock = threading.Lock()
        self._closed = False

    @property
    def connected(self) -> bool:
        return self._pair is not None

    def send(self, message: Message) -> None:
        """Sends on the output port; raises MidiError if the driver would not, or while the port is away."""
        with self._lock:  # a driver object that was deleted would crash the process, not raise
            if self._pair is not None:
                self._pair.send(message)
            elif self.output and not self._closed:
                raise MidiError(f"{self.output} is gone; jazzd waits for its return")

    def open(self) -> None:
        """Opens the pair. Raises MidiError where there is no backend, or no such port."""
        found = list_ports(self._wanted)
        if found.backend == "none":
            self.reason = found.reason
            raise MidiError(found.reason)
        pair = _Pair(found.backend, self._names, self._theirs, self._on_message, self._clock)
        self.ready_at = self._clock.now() + SETTLE_S
        with self._lock:
            self._pair, self.backend, self.reason = pair, found.backend, ""
            self.input, self.output, self._theirs = pair.input, pair.output, pair.theirs

    def look(self) -> Literal["lost", "found"] | None:
        """Whether the ports have gone, or come back and are open again. May take a while: not for the loop.

        Ours are given up, too, when one of somebody else's comes that they only stand for.

        One thread at a time.
        """
        if self._closed or self._wanted in ("tcp", "none"):
            return None
        if self._pair is not None:
            if self._pair.settled():
                return None
            with self._lock:
                gone, self._pair = self._pair, None
            gone.abandon()
            return "lost"
        try:
            self.open()
        except MidiError:
            return None
        return "found"

    def close(self) -> None:
        """Closes the pair for good."""
        with self._lock:
            pair, self._pair, self._closed = self._pair, None, True
        if pair is not None:
            pair.close()


class _Pair:
    """Two open ports of a driver. Raises MidiError where they cannot be opened, or would have to be made
    although they have to be somebody else's (`must_be_theirs`)."""

    def __init__(
        self,
        backend: str,
        names: tuple[str, str],
        must_be_theirs: tuple[bool, bool],
        on_message: OnMessage,
        clock: Clock,
    ) -> None:
        self.input = self.output = ""
        self._names = names
        self._server = _connect_jack() if backend == "jack" and sys.platform == "linux" else None
        self._source = _client(rtmidi.MidiIn, backend)
        self._target = _client(rtmidi.MidiOut, backend)
        self._source.ignore_types(sysex=True, timing=False, active_sense=True)
        receive = _receiver(on_message, clock)
        self._source.set_callback(receive)
        # python-rtmidi frees its record of the callback in cancel_callback, and a callback that waits for the
        # interpreter lock then reads it: so the record must live longer.
        self._kept = gc.get_referrers(receive)
        try:
            with _as_midi_error(backend):
                # Both lists before either port is opened: ours must not be found as somebody else's, or we
                # would play into our own ear.
                sources, targets = self._source.get_ports(), self._target.get_ports()
                for name, there, must in zip(names, (sources, targets), must_be_theirs, strict=True):
                    if must and not _match(name, there):
                        raise MidiError(f"{name} is gone; jazzd waits for its return")
                # A virtual input is a target in the eyes of the others, and the other way round.
                self.input = _open_port(self._source, names[0], sources, self._target, targets, "midi.input")
                self.output = _open_port(
                    self._target, names[1], targets, self._source, sources, "midi.output"
                )
        except MidiError:
            self.close()
            raise
        self.theirs = (self.input in sources, self.output in targets)
        """Which of them are somebody else's, who may take them away."""

    def send(self, message: Message) -> None:
        """Raises MidiError."""
        if self._server is not None and _hung_up(self._server):
            # RtMidi would not say so: it fills a buffer that nobody empties, then waits for ever, and with it
            # every thread of this process.
            raise MidiError("the JACK server is gone; jazzd waits for its return")
        try:
            self._target.send_message(message.bytes())
        except (rtmidi.RtMidiError, ValueError) as error:
            raise MidiError(f"cannot send to {self.output}: {error}; is it still connected?") from None

    def settled(self) -> bool:
        """Whether both ports are still there, and none has come that should be used instead."""
        if self._server is not None and _hung_up(self._server):
            return False
        try:
            sources, targets = self._source.get_ports(), self._target.get_ports()
        except rtmidi.RtMidiError:
            return False
        ours = (self.input, self.output)
        for name, port, theirs, there in zip(self._names, ours, self.theirs, (sources, targets), strict=True):
            if theirs and port not in there:
                return False
            if not theirs and _match(name, [each for each in there if each not in ours]):
                return False
        return True

    def close(self) -> None:
        self._source.cancel_callback()
        # A callback that waits for the interpreter lock now would be waited for by close_port, which holds
        # it: let it through first.
        time.sleep(0.05)
        _delete(self._source)
        _delete(self._target)
        if self._server is not None:
            self._server.close()

    def abandon(self) -> None:
        """Lets go of ports that are no more."""
        if self._server is None or not _hung_up(self._server):
            self.close()
            return
        # Closing would wait a second for a server that is no more, with the interpreter lock in its hands,
        # and so would the end of the objects: they never end.
        for client in (self._source, self._target):
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(client))
        self._server.close()


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
    except MidiError as error:
        if backend not in ("auto", "tcp", "none") and sys.platform != "win32":
            raise
        ports.reason = str(error)
    return ports


def list_ports(backend: str = "auto") -> PortList:
    """What `backend` (as for `open_ports`) offers. Never raises."""
    if backend in ("tcp", "none"):
        return PortList("none", (), (), f"midi.backend is {backend}")
    reasons = []
    for name in _AUTO if backend == "auto" else (backend,):
        try:
            return PortList(name, _names(rtmidi.MidiIn, name), _names(rtmidi.MidiOut, name))
        except MidiError as error:
            reasons.append(str(error))
    return PortList("none", (), (), "; ".join(reasons))


def _receiver(on_message: OnMessage, clock: Clock) -> Callable[[tuple[Sequence[int], float], object], None]:
    log = structlog.get_logger()

    def receive(event: tuple[Sequence[int], float], _data: object) -> None:
        stamp = clock.now()
        try:
            if (message := parse(event[0])) is not None:
                on_message(message, stamp)
        except Exception:  # it must not reach the driver's thread
            log.exception("message_not_handled")

    return receive


def _open_port(port: Any, wanted: str, names: list[str], mirror: Any, mirrored: list[str], key: str) -> str:
    """Opens or creates `wanted`; `mirror` lists what others see of us, `mirrored` is what it saw before."""
    if found := _match(wanted, names):
        there = port.get_ports()  # anew: the port that we have just opened may stand before it
        if found not in there:
            raise MidiError(f"{found} has gone at this very moment")
        port.open_port(there.index(found), name=_CLIENT)  # the other's name is the other's
        return found
    if sys.platform == "win32":
        raise MidiError(
            f"no MIDI port has {wanted!r} in its name (there are: {', '.join(names) or 'none'}): create it "
            f"with loopMIDI, or set {key} to one of these"
        )
    port.open_virtual_port(wanted)
    seen = (name for name in mirror.get_ports() if name not in mirrored and wanted in name)
    return next(seen, wanted)


def _match(wanted: str, names: list[str]) -> str | None:
    """The port of exactly that name, else the first that has it in its name."""
    return next((name for name in names if name == wanted), None) or next(
        (name for name in names if wanted in name), None
    )


def _names(kind: type, backend: str) -> tuple[str, ...]:
    client = _client(kind, backend)
    with _as_midi_error(backend):
        try:
            return tuple(client.get_ports())
        finally:
            client.delete()


def _client(kind: type, backend: str) -> Any:
    """A connection to the MIDI system; raises MidiError if there is none."""
    if _APIS[backend] not in rtmidi.get_compiled_api():  # RtMidi would quietly take another one
        raise MidiError(f"{backend} does not exist on this system")
    # Asking in vain would cost lines of the C libraries on stderr.
    if sys.platform == "linux" and backend == "alsa" and not Path("/dev/snd/seq").exists():
        raise MidiError("ALSA has no sequencer here (/dev/snd/seq is missing; try modprobe snd-seq)")
    if sys.platform == "linux" and backend == "jack":
        _connect_jack().close()
    with _as_midi_error(backend):
        return kind(rtapi=_APIS[backend], name=_CLIENT)


def _connect_jack() -> socket.socket:
    """A connection that ends when the JACK server does; raises MidiError if none runs."""
    name = os.environ.get("JACK_DEFAULT_SERVER", "default")
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(f"/dev/shm/jack_{name}_{os.getuid()}_0")
    except OSError:
        connection.close()
        raise MidiError(f"no JACK server runs under the name {name!r}") from None
    return connection


def _hung_up(connection: socket.socket) -> bool:
    try:
        return connection.recv(1, socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


@contextlib.contextmanager
def _as_midi_error(backend: str) -> Iterator[None]:
    try:
        yield
    except rtmidi.RtMidiError as error:
        raise MidiError(f"{backend}: {str(error).strip()}") from None


def _delete(client: Any) -> None:
    client.close_port()
    client.delete()
