"""The real daemon, started for a while and heard from outside: what the demo and the latency bench share."""

import bisect
import contextlib
import json
import math
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import mido

from jazzd.errors import JazzdError, MidiError
from jazzd.player import control
from jazzd.player.clock import MonotonicClock
from jazzd.player.messages import Decoder

READY_S = 240.0
"""Longest wait for the engine: a big base on a cold compile cache."""
STOP_S = 5.0
"""A daemon that was told to stop is gone by then."""


@dataclass(frozen=True)
class Heard:
    """A message on its way, `at` in seconds of `MonotonicClock`."""

    at: float
    message: mido.Message


class Line(Protocol):
    """A MIDI connection to the daemon: what is sent goes to its input, what its output says is heard."""

    heard: list[Heard]

    def send(self, message: mido.Message) -> None: ...


class TcpLine:
    """A line over TCP to `HOST:PORT`. A context manager: leaving it hangs up."""

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self.heard: list[Heard] = []
        try:
            self._socket = socket.create_connection((host, int(port)), timeout=5)
        except OSError as error:
            raise MidiError(f"no MIDI connection to {address}: {error.strerror or error}") from None
        self._socket.settimeout(None)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._listener = threading.Thread(target=self._listen, name="listener", daemon=True)
        self._listener.start()

    def __enter__(self) -> "TcpLine":
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):  # the daemon hung up first
            self._socket.shutdown(socket.SHUT_RDWR)
        self._listener.join()
        self._socket.close()

    def send(self, message: mido.Message) -> None:
        self._socket.sendall(message.bin())

    def _listen(self) -> None:
        decoder, clock = Decoder(), MonotonicClock()
        with contextlib.suppress(OSError):
            while data := self._socket.recv(4096):
                at = clock.now()
                self.heard.extend(Heard(at, message) for message in decoder.feed(data))


class Daemon:
    """A `jazzd run` of our own, with its own control socket and log."""

    def __init__(self, options: Sequence[str], variables: Mapping[str, str], folder: Path) -> None:
        self.socket = folder / "control.sock"
        self._log = folder / "log"
        # An empty file, so that neither the working folder's settings nor the user's have a say.
        config = folder / "daemon.toml"
        config.touch()
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "jazzd", "run", "--config", str(config), *options],
                env=os.environ | dict(variables) | {"JAZZD_SOCKET": str(self.socket)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def status(self) -> dict[str, Any]:
        """What `jazzd status` would say. Raises JazzdError when the daemon does not answer."""
        return control.ask({"do": "status"}, self.socket)

    def styles(self) -> dict[str, str]:
        """The status of each style that the daemon knows of."""
        styles = control.ask({"do": "styles"}, self.socket)["styles"]
        return {style["name"]: style["status"] for style in styles}

    def use(self, shares: Mapping[str, float]) -> None:
        """What `jazzd styles use` does. Raises JazzdError for a style that cannot be played."""
        control.ask({"do": "use", "mix": dict(shares)}, self.socket)

    def choose(self, **manner: str) -> None:
        """What `jazzd set mode trade` does, for example."""
        control.ask({"do": "choose"} | manner, self.socket)

    def wait_until_ready(self) -> dict[str, Any]:
        """Its status once the engine can play. Raises JazzdError with the daemon's last words if not."""
        deadline = time.monotonic() + READY_S
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise JazzdError(f"the daemon ended at once: {self._last_words()}")
            with contextlib.suppress(JazzdError):  # not listening yet
                status = self.status()
                if status["engine"]["state"] == "ready":
                    return status
                if status["engine"]["state"] == "failed":
                    break
            time.sleep(0.05)
        raise JazzdError(f"the engine did not come up: {self._last_words()}")

    def stop(self) -> None:
        """SIGTERM, and what the daemon promises about it. Raises JazzdError if the promise is broken."""
        self._process.send_signal(signal.SIGTERM)
        try:
            code = self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            raise JazzdError(f"the daemon did not stop within {STOP_S:.0f} s: {self._last_words()}") from None
        if code:
            raise JazzdError(f"the daemon ended with exit code {code}: {self._last_words()}")

    def kill(self) -> None:
        """Gone, whatever state it was in."""
        self._process.kill()
        self._process.wait()

    def _last_words(self) -> str:
        last = (self._log.read_text(errors="replace").strip().splitlines() or ["it said nothing"])[-1]
        try:
            event = json.loads(last)
        except ValueError:  # the sentence of an error
            return last.removeprefix("jazzd: ")
        return f"{event['event']}: {event.get('reason', 'no reason given')}"


@contextlib.contextmanager
def daemon(options: Sequence[str], variables: Mapping[str, str]) -> Iterator[Daemon]:
    """A daemon with these options of `jazzd run` and these JAZZD_* variables, while the block lasts.

    SIGTERM, too, ends the block in order: the daemon would outlive us.
    """
    with tempfile.TemporaryDirectory(prefix="jazzd-") as folder, _ended_in_order():
        started = Daemon(options, variables, Path(folder))
        try:
            yield started
        finally:
            started.kill()


@contextlib.contextmanager
def _ended_in_order() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():  # the only one that signals are for
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@dataclass(frozen=True)
class Struck:
    """A chord that was sent: its first and last note-on, in seconds of `MonotonicClock`."""

    first: float
    last: float


def answer_times(chords: Sequence[Struck], heard: Sequence[Heard]) -> list[float | None]:
    """Seconds from each chord's last note-on to the first solo note-on before the next chord, else None."""
    ons = [it.at for it in heard if it.message.type == "note_on" and it.message.velocity > 0]
    ends = [chord.first for chord in chords[1:]] + [math.inf]
    answers = []
    for chord, end in zip(chords, ends, strict=True):
        after = bisect.bisect_left(ons, chord.last)
        answered = after < len(ons) and ons[after] < end
        answers.append(ons[after] - chord.last if answered else None)
    return answers
