"""What the faults happen to: a JACK server, a pianist, a real daemon, and a recorder that is none of ours."""

import bisect
import contextlib
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import jack
import mido

from jazzd.errors import JazzdError, MidiError
from jazzd.player import control, drivers
from jazzd.player.clock import MonotonicClock
from jazzd.player.ports import Ports, open_ports

PIANIST, RECORDER = "Pianist", "recorder"
COLD_S = 180.0
"""The first start on a machine compiles the model."""
SILENT_S = 2.5
"""After the last key has gone up, nothing may sound any more."""
SETTINGS = """
[midi]
backend = "jack"
input = "{input}"
output = "{output}"
tcp_listen = "127.0.0.1:0"
[styles]
folder = "styles"
[takes]
folder = "takes"
"""
Key = tuple[int, int]


class Recorder:
    """`jack_midi_dump`: what arrives at a synthesizer. Its keys stay down over a restart of JACK, as those of
    a synthesizer at the end of a cable would."""

    def __init__(self) -> None:
        self.struck: list[float] = []
        """When each note-on came."""
        self.down: dict[Key, float] = {}
        """The keys that are down, and since when."""
        self._process: subprocess.Popen[str] | None = None
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen(
            ["stdbuf", "-oL", "jack_midi_dump", RECORDER],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        threading.Thread(target=self._read, args=(self._process,), daemon=True).start()

    def stop(self) -> None:
        if self._process:
            self._process.kill()
            self._process.wait()

    def first_after(self, at: float) -> float | None:
        """When the first note-on after `at` came."""
        after = bisect.bisect_right(self.struck, at)
        return self.struck[after] if after < len(self.struck) else None

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            if found := re.match(r"\s*\d+: ((?:[0-9a-f]{2} ?)+)", line):
                status, *data = bytes.fromhex(found[1])
                self._hear(status & 0xF0, status & 0x0F, data)

    def _hear(self, kind: int, channel: int, data: list[int]) -> None:
        if kind == 0x90 and data[1]:
            self.struck.append(time.perf_counter())
            self.down[channel, data[0]] = self.struck[-1]
        elif kind in (0x80, 0x90):
            self.down.pop((channel, data[0]), None)
        elif kind == 0xB0 and data[0] in (120, 123):
            self.down = {key: since for key, since in self.down.items() if key[0] != channel}


class Pianist:
    """Chord after chord, with a hand on the knobs, until told to rest; a port that the daemon has to find."""

    def __init__(self, seed: int) -> None:
        self._hand = random.Random(seed)
        self._ports = _pianists_ports()
        self._play = threading.Event()
        self._idle = threading.Event()
        self._play.set()
        threading.Thread(target=self._run, daemon=True).start()

    def rest(self) -> None:
        """Lifts the hands; returns when they are up."""
        self._play.clear()
        self._idle.wait()

    def go_on(self) -> None:
        self._idle.clear()
        self._play.set()

    def reconnect(self) -> None:
        """After a restart of JACK: this program's port is new."""
        while not self._ports.look().found:
            time.sleep(0.05)

    def _run(self) -> None:
        while True:
            if not self._play.is_set():
                self._idle.set()
                self._play.wait()
            root = self._hand.randrange(41, 56)
            keys = [root + each for each in self._hand.choice(((0, 4, 7, 10), (0, 3, 7, 10), (0, 4, 7, 11)))]
            for key in keys:
                self._send("note_on", note=key, velocity=self._hand.randrange(40, 110))
                time.sleep(self._hand.uniform(0, 0.006))
            if self._hand.random() < 0.2:
                knob, value = self._hand.choice((20, 21, 23, 24)), self._hand.randrange(30, 128)
                self._send("control_change", control=knob, value=value)
            self._play_until(time.perf_counter() + self._hand.uniform(0.4, 1.4))
            for key in keys:
                self._send("note_off", note=key)

    def _play_until(self, end: float) -> None:
        while self._play.is_set() and time.perf_counter() < end:
            time.sleep(0.02)

    def _send(self, kind: str, **data: int) -> None:
        with contextlib.suppress(MidiError):  # JACK is down: so is the cable
            self._ports.send(mido.Message(kind, **data))


class Rig:
    """All of it, in a folder. A context manager: leaving it ends every part."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.seed = folder, seed
        self.socket = folder / "control.sock"
        self.styles, self.settings = folder / "styles", folder / "daemon.toml"
        self.crashes: list[str] = []
        self.orphans = 0
        self.born = 0.0
        """When the daemon of now was started."""
        self._jack_log, self._logs = folder / "jackd.log", 0

    def __enter__(self) -> "Rig":
        shutil.copytree(Path(__file__).parents[2] / "styles", self.styles)
        self.settings.write_text(SETTINGS.format(input=PIANIST, output=RECORDER))
        os.environ.update(jack.private(f"jazzd-chaos-{os.getpid()}"))
        self.jack = jack.start(self._jack_log)
        self.recorder, self.pianist = Recorder(), Pianist(self.seed)
        self.start_daemon()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.pianist.rest()
        self.daemon.send_signal(signal.SIGCONT)
        self.daemon.kill()
        self.daemon.wait()
        self.recorder.stop()
        jack.end(self.jack, self._jack_log)

    def start_daemon(self) -> None:
        self._logs += 1
        self.born = time.perf_counter()
        with (self.folder / f"daemon-{self._logs}.log").open("wb") as log:
            self.daemon = subprocess.Popen(
                [sys.executable, "-m", "jazzd", "run", "--config", str(self.settings)],
                env=os.environ | {"JAZZD_SOCKET": str(self.socket)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def look_after_daemon(self) -> None:
        """Starts it again if it has ended by itself, which it never should."""
        if (code := self.daemon.poll()) is not None:
            log = self.folder / f"daemon-{self._logs}.log"
            self.crashes.append(f"exit code {code}: {log.read_text(errors='replace')[-500:]}")
            self.start_daemon()

    def restart_jack(self) -> None:
        """Ends the server, whoever is connected, and starts another, to which the recorder is back; not the
        pianist."""
        self.jack.terminate()
        self.jack.wait()
        self.recorder.stop()
        self.jack = jack.start(self._jack_log)
        self.recorder.start()

    def ask(self, **request: Any) -> dict[str, Any]:
        return control.ask(request, self.socket)

    def status(self) -> dict[str, Any]:
        return self.ask(do="status")

    def wait_for(self, condition: Callable[[dict[str, Any]], object], within_s: float = 20.0) -> float:
        """Seconds until the status meets the condition. Raises TimeoutError."""
        began = time.perf_counter()
        while True:
            with contextlib.suppress(JazzdError):  # not listening yet
                if condition(self.status()):
                    return time.perf_counter() - began
            if time.perf_counter() - began > within_s:
                raise TimeoutError
            self.look_after_daemon()
            time.sleep(0.01)

    def music(self, since: float, within_s: float = 20.0) -> float:
        """Seconds from `since` (of `perf_counter`) to the first note heard after it. Raises TimeoutError."""
        while (heard := self.recorder.first_after(since)) is None:
            if time.perf_counter() - since > within_s:
                raise TimeoutError
            self.look_after_daemon()
            time.sleep(0.005)
        return heard - since

    def first_music(self) -> None:
        """Waits for it. Raises TimeoutError."""
        self.music(self.born, COLD_S)

    def hanging(self) -> list[Key]:
        """The keys that still sound when the pianist has rested for long enough."""
        self.pianist.rest()
        time.sleep(SILENT_S)
        left = sorted(self.recorder.down)
        self.pianist.go_on()
        return left

    def patchbay(self) -> str:
        """Which ports JACK has, and what they are connected with."""
        listed = subprocess.run(["jack_lsp", "-c"], capture_output=True, text=True, timeout=20)
        return listed.stdout + listed.stderr

    def account(self, keys: list[Key]) -> str:
        """What the daemon says of keys that hang: whether it has sent their note-offs."""
        sounding = self.status()["notes"]["sounding"]
        solo = mido.MidiFile(self.ask(do="keep")["file"])
        at, last, ended = 0.0, dict[Key, str](), solo.length
        for message in solo:
            at += message.time
            if message.type in ("note_on", "note_off"):
                last[message.channel, message.note] = f"{message.type} {ended - at:.2f} s before"
        told = ", ".join(f"{key}: {last.get(key, 'nothing')}" for key in keys)
        return f"jazzd knows of {sounding}, and sent last: {told}"

    def said(self, event: str) -> int:
        """How often the daemon of now has logged that."""
        log = self.folder / f"daemon-{self._logs}.log"
        return log.read_text(errors="replace").count(f'"event": "{event}"')

    def tracebacks(self) -> list[str]:
        return [
            log.name
            for log in sorted(self.folder.glob("*.log"))
            if "Traceback" in log.read_text(errors="replace")
        ]


def alive(pid: int) -> bool:
    """Whether a process still runs (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def memory_mb(pid: int) -> float:
    """What a process keeps in memory."""
    return int(_figure(pid, "VmRSS")) / 1024


def own_memory_mb(pid: int) -> float:
    """That, less what it shares with the JACK server: 100 MB for the audio that it has none of."""
    return memory_mb(pid) - int(_figure(pid, "RssShmem")) / 1024


def threads(pid: int) -> int:
    return int(_figure(pid, "Threads"))


def files(pid: int) -> int:
    """How many file handles a process has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def _figure(pid: int, key: str) -> str:
    found = re.search(rf"^{key}:\s+(\d+)", Path(f"/proc/{pid}/status").read_text(), re.M)
    assert found
    return found[1]


def _pianists_ports() -> Ports:
    # Of a client of that name: one that outlives its server, as the pianist's does, takes the turns of
    # another of its name on the next, and that server then stands still for ten time-outs.
    drivers.CLIENT = "pianist"
    ports = open_ports("jack", "pianist's ear", PIANIST, lambda message, at: None, MonotonicClock())
    time.sleep(jack.SETTLE_S)
    return ports
