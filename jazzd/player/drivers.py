"""The MIDI systems that there may be: the ports they have, and a client of one."""

import contextlib
import math
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rtmidi

from jazzd.errors import MidiError
from jazzd.player.arrivals import Arrivals
from jazzd.player.clock import Clock

Receive = Callable[[Sequence[int], float], None]
"""Takes the bytes of a message, and when it came."""
CLIENT = "jazzd"
"""Our name in the eyes of others."""
PAUSE_S = 0.05
"""Between one client that comes or goes and the next."""
LOOKS = 12
"""So many looks at what ports there are; those who come and go do not do so in every one."""
YOUNG_S = 0.35
"""A JACK server that started just now has others to deal with, who waited for it as we did: see `_pause`."""
NOTICE_S = 0.2
"""By then libjack has heard that a server ended. Deleted before, its threads are cancelled wherever they are:
in the middle of a line on stderr, say, whose lock nobody gives back, and the process stands still."""
READ_S = 0.001
"""How often an input of JACK is read: a message is heard late by half of that."""
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


class Client:
    """A client for one direction: `kind` is MidiIn or MidiOut. Raises MidiError where the system is none."""

    def __init__(self, kind: type, backend: str) -> None:
        self.backend = backend
        if any(client.hung_up for client in list(_clients)):
            raise MidiError("the JACK server is gone; first jazzd lets go of what it had there")
        self._hung_up_at: float | None = None
        """On the system's monotonic clock."""
        self._server = _connect_jack() if backend == "jack" and sys.platform == "linux" else None
        try:
            self.midi = _client(kind, backend)
        except MidiError:
            if self._server is not None:
                self._server.close()
            raise
        _clients.add(self)
        self._pause()

    @property
    def hung_up(self) -> bool:
        """Whether the server behind it is no more: nothing may be asked of it then."""
        if self._hung_up_at is None and self._server is not None and _hung_up(self._server):
            self._hung_up_at = time.monotonic()
        return self._hung_up_at is not None

    @property
    def notice_s(self) -> float:
        """How long it must still be kept: until libjack has noticed that the server is no more."""
        return max(0.0, (self._hung_up_at or -math.inf) + NOTICE_S - time.monotonic())

    def ports(self) -> list[str]:
        """What it could open, as two looks running have it. Raises MidiError.

        A driver tells how many there are, then the name of each: a port that goes in between makes the last
        one an error, and one that comes as well hides a third.
        """
        before = None
        for _ in range(LOOKS):
            try:
                there = list(self.midi.get_ports())
            except rtmidi.RtMidiError as error:
                there, reason = None, str(error).strip()
            if there is not None and there == before:
                return there
            before = there
        raise MidiError(f"{self.backend}: {reason if before is None else 'ports come and go'}")

    def end(self) -> None:
        """Lets go of it, and of what it has opened.

        Where its server is no more that is left to `end_orphans`, unless this is the main thread.
        """
        if not self.hung_up:
            self._pause()
            self.midi.close_port()
            self._delete()
        elif threading.current_thread() is threading.main_thread():
            time.sleep(self.notice_s)
            with _no_waiting():
                self._delete()
        else:
            _orphans.append(self)

    def _pause(self) -> None:
        # JACK is not up to clients that come and go at the same moment: one that goes may be ended before it
        # has given the turn to the next, and in synchronous mode the server never gets over that.
        if self.backend == "jack":
            time.sleep(PAUSE_S)

    def _delete(self) -> None:
        _clients.discard(self)
        self.midi.delete()
        if self._server is not None:
            self._server.close()


_clients: set[Client] = set()
"""Those of this process. When it opens a client and has heard meanwhile that a server ended, libjack takes
down all clients of the process, those of a new server among them, without telling that one; and it hears of
it late on a busy machine. The server then waits in every cycle for a client that is no more, and nobody hears
anything. So nothing is opened beside a client that has outlived its server."""
_orphans: list[Client] = []


def end_orphans() -> None:
    """Lets go of the clients that have ended after their server, those for which it is time. For the main
    thread: see `_no_waiting`."""
    for client in [each for each in _orphans if not each.notice_s]:
        _orphans.remove(client)
        client.end()


class Reader:
    """Reads an input of JACK until it is stopped.

    A callback would run on the thread that all of JACK waits for in every cycle, and wait there for the
    interpreter lock: other programs' sound would falter whenever we are busy, and while we open or close
    a client, which holds that lock until the cycle is over, all would stand still until JACK gives up.
    """

    def __init__(self, midi: Any, receive: Receive, clock: Clock) -> None:
        self._midi, self._receive, self._clock = midi, receive, clock
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="jack input", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Returns when nothing is read any more."""
        self._stopped = True
        self._thread.join()

    def _run(self) -> None:
        arrivals = Arrivals()
        while not self._stopped:
            while not self._stopped and (event := self._midi.get_message()):
                self._receive(event[0], arrivals.at(event[1], self._clock.now()))
            time.sleep(READ_S)


def list_ports(backend: str = "auto") -> PortList:
    """What `backend` (as for `open_ports`) offers. Never raises."""
    if backend in ("tcp", "none"):
        return PortList("none", (), (), f"midi.backend is {backend}")
    reasons = []
    for name in _AUTO if backend == "auto" else (backend,):
        try:
            return PortList(name, port_names(rtmidi.MidiIn, name), port_names(rtmidi.MidiOut, name))
        except MidiError as error:
            reasons.append(str(error))
    return PortList("none", (), (), "; ".join(reasons))


def port_names(kind: type, backend: str) -> tuple[str, ...]:
    """The ports that a client of that kind could open. Raises MidiError."""
    client = Client(kind, backend)
    try:
        return tuple(client.ports())
    finally:
        client.end()


def _client(kind: type, backend: str) -> Any:
    """A connection to the MIDI system; raises MidiError if there is none."""
    if _APIS[backend] not in rtmidi.get_compiled_api():  # RtMidi would quietly take another one
        raise MidiError(f"{backend} does not exist on this system")
    # Asking in vain would cost lines of the C libraries on stderr.
    if sys.platform == "linux" and backend == "alsa" and not Path("/dev/snd/seq").exists():
        raise MidiError("ALSA has no sequencer here (/dev/snd/seq is missing; try modprobe snd-seq)")
    with as_midi_error(backend):
        return kind(rtapi=_APIS[backend], name=CLIENT)


def _connect_jack() -> socket.socket:
    """A connection that ends when the JACK server does, which is YOUNG_S old by then; raises MidiError if
    none runs."""
    name = os.environ.get("JACK_DEFAULT_SERVER", "default")
    door = Path(f"/dev/shm/jack_{name}_{os.getuid()}_0")
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(str(door))
        age_s = time.time() - door.stat().st_mtime
    except OSError:
        connection.close()
        raise MidiError(f"no JACK server runs under the name {name!r}") from None
    if 0 <= age_s < YOUNG_S:  # the system's clock may have been set
        time.sleep(YOUNG_S - age_s)
    return connection


def _hung_up(connection: socket.socket) -> bool:
    try:
        return connection.recv(1, socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


@contextlib.contextmanager
def _no_waiting() -> Iterator[None]:
    """RtMidi's output would wait here for a second, with the interpreter lock in its hands, for a server that
    is no more. A signal ends such a wait; only the main thread is sure to have it."""
    before = signal.signal(signal.SIGALRM, lambda _number, _frame: None)
    running = signal.setitimer(signal.ITIMER_REAL, 0.002, 0.002)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, *running)
        signal.signal(signal.SIGALRM, before)


@contextlib.contextmanager
def as_midi_error(backend: str) -> Iterator[None]:
    """The driver's own error is one of ours."""
    try:
        yield
    except rtmidi.RtMidiError as error:
        raise MidiError(f"{backend}: {str(error).strip()}") from None
