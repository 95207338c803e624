"""The MIDI ports of the system: found or created by name, read on the driver's thread."""

import contextlib
import gc
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
    """The open pair of ports, by full name; with backend `none` there is none, and sending does nothing."""

    def __init__(self, backend: str, clock: Clock, reason: str = "") -> None:
        self.backend = backend
        self.reason = reason
        self.input = self.output = ""
        self.ready_at = clock.now()
        """Nothing should be sent before this (seconds of the clock)."""
        self._clock = clock
        self._source: Any = None
        self._target: Any = None
        self._kept: list[object] = []
        self._server: socket.socket | None = None
        self._lock = threading.Lock()

    def send(self, message: Message) -> None:
        """Sends on the output port; raises MidiError if the driver would not."""
        with self._lock:  # a driver object that was deleted would crash the process, not raise
            if self._target is None:
                return
            if self._server is not None and _hung_up(self._server):
                # RtMidi would not say so: it fills a buffer that nobody empties, then waits for ever, and
                # with it every thread of this process.
                raise MidiError("the JACK server is gone: start it again, then jazzd")
            try:
                self._target.send_message(message.bytes())
            except (rtmidi.RtMidiError, ValueError) as error:
                raise MidiError(f"cannot send to {self.output}: {error}; is it still connected?") from None

    def close(self) -> None:
        if self._source is not None:
            self._source.cancel_callback()
            # A callback that waits for the interpreter lock now would be waited for by close_port, which
            # holds it: let it through first.
            time.sleep(0.05)
            _delete(self._source)
        with self._lock:
            if self._target is not None:
                _delete(self._target)
            if self._server is not None:
                self._server.close()
            self._source = self._target = self._server = None

    def _open(self, input_name: str, output_name: str, on_message: OnMessage) -> None:
        if self.backend == "jack" and sys.platform == "linux":
            self._server = _connect_jack()
        self._source = _client(rtmidi.MidiIn, self.backend)
        self._target = _client(rtmidi.MidiOut, self.backend)
        self._source.ignore_types(sysex=True, timing=False, active_sense=True)
        receive = _receiver(on_message, self._clock)
        self._source.set_callback(receive)
        # python-rtmidi frees its record of the callback in cancel_callback, and a callback that waits for the
        # interpreter lock then reads it: so the record must live longer.
        self._kept = gc.get_referrers(receive)
        with _as_midi_error(self.backend):
            # Both lists before either port is opened: ours must not be found as somebody else's, or we would
            # play into our own ear.
            sources, targets = self._source.get_ports(), self._target.get_ports()
            # A virtual input is a target in the eyes of the others, and the other way round.
            self.input = _open_port(self._source, input_name, sources, self._target, targets, "midi.input")
            self.output = _open_port(self._target, output_name, targets, self._source, sources, "midi.output")
        self.ready_at = self._clock.now() + SETTLE_S


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
    exists nor can be created.
    """
    found = list_ports(backend)
    if found.backend == "none":
        if backend not in ("auto", "tcp", "none"):
            raise MidiError(found.reason)
        return Ports("none", clock, found.reason)
    ports = Ports(found.backend, clock)
    try:
        ports._open(input_name, output_name, on_message)
    except MidiError:
        ports.close()
        raise
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
    exact = [index for index, name in enumerate(names) if name == wanted]
    if matches := exact or [index for index, name in enumerate(names) if wanted in name]:
        port.open_port(matches[0], name=wanted)
        return names[matches[0]]
    if sys.platform == "win32":
        there = ", ".join(names) or "none"
        raise MidiError(
            f"no MIDI port has {wanted!r} in its name (there are: {there}): create it with loopMIDI, or set "
            f"{key} to one of these"
        )
    port.open_virtual_port(wanted)
    seen = (name for name in mirror.get_ports() if name not in mirrored and wanted in name)
    return next(seen, wanted)


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
