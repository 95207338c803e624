"""A private JACK server for a test, and a client that plays and records there.

Use: `pytest_plugins = ["jack"]` and the fixture `jack_server`.
"""

import contextlib
import itertools
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mido
import pytest
import rtmidi

SETTLE_S = 0.25
"""What is sent sooner than this after opening a port is lost."""

_ARGUMENTS = ("--no-realtime", "-S", "-t", "40", "-d", "dummy", "-r", "48000", "-p", "64")
"""Without -S it loses about one message in 4,000; with it, it stands still for ten time-outs when a client is
killed, which are 500 ms each unless -t says otherwise. A time-out is shorter than the pause that
`player.drivers` makes between two clients, so that no cycle sees both of them change, and longer than most
pauses of a starved client, which cost it its notes."""

_numbers = itertools.count()


@pytest.fixture
def jack_server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A server that this test and its children connect to."""
    if shutil.which("jackd") is None:
        missing = "jackd is not installed (apt install jackd2)"
        pytest.fail(missing) if os.environ.get("CI") == "true" else pytest.skip(missing)
    for variable, value in private(f"jazzd-test-{os.getpid()}-{next(_numbers)}").items():
        monkeypatch.setenv(variable, value)
    log = tmp_path / "jackd.log"
    process = start(log)
    try:
        yield process
    finally:
        end(process, log)


class JackClient:
    """A musician: `play` goes into the port named `into`, `heard` is what `listen_to` sent, with times.

    Names are substrings of full port names; empty: not connected. Where it is not to listen, a port named
    `made` is there for others to send to. Times are `time.perf_counter()` seconds.
    """

    def __init__(self, into: str = "", listen_to: str = "", made: str = "", timeout_s: float = 10.0) -> None:
        self.heard: list[tuple[float, mido.Message]] = []
        self._out = rtmidi.MidiOut(rtapi=rtmidi.API_UNIX_JACK, name="musician out")
        self._in = rtmidi.MidiIn(rtapi=rtmidi.API_UNIX_JACK, name="musician in")
        self._in.ignore_types(sysex=False, timing=False, active_sense=False)
        self._leaving = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)  # no callback: see player/port.py
        self._reader.start()
        if into:
            self._out.open_port(_index(self._out, into, timeout_s), name="out")
        if listen_to:
            self._in.open_port(_index(self._in, listen_to, timeout_s), name="in")
        elif made:
            self._in.open_virtual_port(made)
        time.sleep(SETTLE_S)

    def __enter__(self) -> "JackClient":
        return self

    def __exit__(self, *_: object) -> None:
        self._leaving.set()
        self._reader.join()
        for port in (self._in, self._out):
            port.close_port()
            port.delete()

    def play(self, *messages: mido.Message) -> float:
        """Sends at once; returns when the last one left."""
        for message in messages:
            self._out.send_message(message.bytes())
        return time.perf_counter()

    def play_bytes(self, data: bytes) -> None:
        self._out.send_message(list(data))

    def wait_for(self, condition: Callable[[list[mido.Message]], object], timeout_s: float = 5.0) -> None:
        """Returns when the condition holds for the messages heard so far; else fails the test."""
        deadline = time.perf_counter() + timeout_s
        while not condition(self.messages):
            if time.perf_counter() > deadline:
                pytest.fail(f"not within {timeout_s} s; heard {self.messages[-8:]}")
            time.sleep(0.005)

    @property
    def messages(self) -> list[mido.Message]:
        return [message for _, message in self.heard]

    @property
    def sounding(self) -> set[tuple[int, int]]:
        """(channel, pitch) of every note-on heard that has had no note-off."""
        down: set[tuple[int, int]] = set()
        for message in self.messages:
            if message.type == "note_on" and message.velocity:
                down.add((message.channel, message.note))
            elif message.type in ("note_on", "note_off"):
                down.discard((message.channel, message.note))
        return down

    def _read(self) -> None:
        while not self._leaving.wait(0.0005):
            while event := self._in.get_message():
                self.heard.append((time.perf_counter(), mido.Message.from_bytes(event[0])))


def private(name: str) -> dict[str, str]:
    """The environment of those who are to meet at a server of that name."""
    return {"JACK_DEFAULT_SERVER": name, "JACK_NO_AUDIO_RESERVATION": "1", "JACK_NO_START_SERVER": "1"}


def start(log: Path) -> subprocess.Popen[bytes]:
    """A server under the name in the environment, ready for clients. Fails the test without one."""
    with log.open("ab") as output:
        process = subprocess.Popen(["jackd", *_ARGUMENTS], stdout=output, stderr=subprocess.STDOUT)
    socket = Path(f"/dev/shm/jack_{os.environ['JACK_DEFAULT_SERVER']}_{os.getuid()}_0")
    deadline = time.perf_counter() + 10
    while time.perf_counter() < deadline and process.poll() is None:
        # A client of our own would not do: others of this process may have outlived the last server.
        if socket.exists() and subprocess.run(["jack_lsp"], capture_output=True).returncode == 0:
            return process
        time.sleep(0.02)
    process.kill()
    pytest.fail(f"jackd did not start: {log.read_text(errors='replace')[-2000:]}")


def end(process: subprocess.Popen[bytes], log: Path) -> None:
    """Ends a server, and leaves nothing of it behind."""
    if not _ended_well(process):
        # A server that was killed keeps its place among the eight that JACK knows, until one of its name
        # ends well.
        _ended_well(start(log))
        for left_over in Path("/dev/shm").glob(f"jack_sem.*{os.environ['JACK_DEFAULT_SERVER']}_*"):
            left_over.unlink(missing_ok=True)


def _ended_well(process: subprocess.Popen[bytes]) -> bool:
    process.terminate()
    try:
        return process.wait(timeout=5) == 0
    except subprocess.TimeoutExpired:  # it waits for clients that were killed
        process.kill()
        process.wait()
        return False


def _index(port: Any, wanted: str, timeout_s: float) -> int:
    deadline, names = time.perf_counter() + timeout_s, list[str]()
    while True:
        with contextlib.suppress(rtmidi.RtMidiError):  # one that left meanwhile
            names = port.get_ports()
        for index, name in enumerate(names):
            if wanted in name:
                return index
        if time.perf_counter() > deadline:
            pytest.fail(f"no JACK port named {wanted!r} within {timeout_s} s, only {names}")
        time.sleep(0.02)
