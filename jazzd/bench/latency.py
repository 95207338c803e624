"""Chord-to-note, measured from outside: real chords into the real daemon, through JACK where there is one."""

import contextlib
import json
import os
import random
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mido
from rich.console import Console
from rich.progress import track

from jazzd.bench import machine
from jazzd.errors import ConfigError, MidiError
from jazzd.music import chart
from jazzd.music.chords import Chord
from jazzd.music.grid import BEATS_PER_BAR
from jazzd.music.voicing import voice
from jazzd.player import drivers, ports
from jazzd.player.clock import MonotonicClock
from jazzd.player.latency import Latency
from jazzd.rehearsal import Heard, Line, Struck, TcpLine, answer_times, daemon

CHORDS = 300
QUALITIES = ("m7", "7", "maj7", "m7b5", "6", "7b9", "m9", "13")
OPENING_S = 0.3
"""What is sent sooner after opening a port is lost by some drivers."""
PAUSE_S = 2.0
"""After every 25 chords the hands are lifted, so that the first chord after silence is measured too."""


@dataclass(frozen=True)
class Comping:
    """A chord to play: its keys, and how long it lasts in seconds."""

    pitches: tuple[int, ...]
    seconds: float


def at_random(chords: int) -> list[Comping]:
    """So many chords that follow no tune."""
    hand, comped = random.Random(300), []
    for _ in range(chords):
        root = hand.randrange(12)
        pitches = voice(Chord(root, hand.choice(QUALITIES), root), hand)
        comped.append(Comping(tuple(pitches), hand.uniform(0.4, 0.7)))
    return comped


@dataclass(frozen=True)
class Tune:
    name: str
    bpm: float
    progression: chart.Progression


def tunes(folder: Path) -> list[Tune]:
    """The charts (`.json`) in the folder that are in 4/4, each with its own tempo. Raises ConfigError."""
    found = []
    for file in sorted(folder.glob("*.json")):
        try:
            sheet = chart.read(str(file))
        except ConfigError:  # in eighths, or not a chart at all
            continue
        if sheet.bar != BEATS_PER_BAR:
            continue
        bpm = float(json.loads(file.read_text()).get("tempo_bpm") or 120)
        found.append(Tune(file.stem, bpm, sheet.progression))
    if not found:
        raise ConfigError(f"{folder}: there is no chart (.json) in it")
    return found


def of_charts(folder: Path, chords: int) -> list[Comping]:
    """The first so many chords of the charts in the folder, each tune once. Raises ConfigError."""
    hand = random.Random(300)
    comped = [
        Comping(tuple(voice(chord, hand)), bars * 4 * 60 / tune.bpm)
        for tune in tunes(folder)
        for chord, bars in tune.progression
        if chord
    ]
    return comped[:chords]


def measure(comped: Sequence[Comping], options: Sequence[str] = ()) -> dict[str, Any]:
    """Plays the chords into a daemon run with `options`; the figures by the keys of the bench."""
    with transport() as (kind, variables), daemon(options, variables) as playing:
        status = playing.wait_until_ready()
        with line_to(kind, status) as line:
            time.sleep(OPENING_S)
            struck = _play(line, comped)
            time.sleep(PAUSE_S)
        notes, engine = playing.status()["notes"], status["engine"]
        playing.stop()
    latency, answers = Latency(), answer_times(struck, line.heard)
    for answer in answers:
        if answer is not None:
            latency.add(answer)
    return machine.describe() | {
        "transport": kind,
        "base": engine["base"],
        "device": engine["device"],
        "chord_to_note_ms": latency.summary(),
        "unanswered": answers.count(None),
        "late": notes["late"],
        "dropped": notes["dropped"],
        "lateness_ms": notes["lateness_ms"],
    }


def _play(line: Line, comped: Sequence[Comping]) -> list[Struck]:
    clock, hand, struck = MonotonicClock(), random.Random(301), []
    for number, chord in enumerate(track(comped, "chords", console=Console(stderr=True)), 1):
        first = clock.now()
        for pitch in chord.pitches:
            line.send(mido.Message("note_on", note=pitch, velocity=hand.randint(50, 90)))
            last = clock.now()
            time.sleep(hand.uniform(0, 0.004))
        struck.append(Struck(first, last))
        time.sleep(max(0.0, 0.92 * chord.seconds - (clock.now() - first)))
        for pitch in chord.pitches:
            line.send(mido.Message("note_off", note=pitch))
        rest = max(0.02, chord.seconds - (clock.now() - first))
        time.sleep(PAUSE_S if number % 25 == 0 else rest)
    return struck


@contextlib.contextmanager
def transport() -> Iterator[tuple[str, dict[str, str]]]:
    """`jack` (a server of our own) where jackd is installed, else `tcp`; and the JAZZD_* variables for it."""
    if shutil.which("jackd") is None:
        yield "tcp", {"JAZZD_MIDI__BACKEND": "tcp", "JAZZD_MIDI__TCP_LISTEN": "127.0.0.1:0"}
        return
    name = f"jazzd-bench-{os.getpid()}"
    private = {"JACK_DEFAULT_SERVER": name, "JACK_NO_AUDIO_RESERVATION": "1", "JACK_NO_START_SERVER": "1"}
    before = {key: os.environ.get(key) for key in private}
    # Synchronous (-S): the other mode loses one message in some thousands. Then a client that goes at the
    # wrong moment makes the server stand still for ten time-outs: of 40 ms each, not of 500 (-t).
    # Real-time as on a stage (jackd goes on without, where the user has no such rights), and its threads
    # before jazzd's own.
    command = ["jackd", "-R", "-P", "20", "-n", name, "-S", "-t", "40"]
    command += ["-d", "dummy", "-r", "48000", "-p", "64"]
    os.environ.update(private)  # libjack in this process looks there, too
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_for_jack(server)
        yield "jack", {"JAZZD_MIDI__BACKEND": "jack"} | private
    finally:
        server.terminate()
        server.wait()
        for key, value in before.items():
            os.environ.pop(key)
            if value is not None:
                os.environ[key] = value


def _wait_for_jack(server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and server.poll() is None:
        if drivers.list_ports("jack").backend == "jack":
            return
        time.sleep(0.1)
    raise MidiError("jackd does not start; try `jackd -d dummy` to see why")


@contextlib.contextmanager
def line_to(transport: str, status: dict[str, Any]) -> Iterator[Line]:
    """A connection to the daemon: its input is our output, and the other way round."""
    if transport == "tcp":
        with TcpLine(status["midi"]["tcp"]) as line:
            yield line
        return
    jack = _JackLine(status["midi"]["input"], status["midi"]["output"])
    try:
        yield jack
    finally:
        jack.close()


class _JackLine:
    """A line through the daemon's ports, by their full names."""

    def __init__(self, daemon_input: str, daemon_output: str) -> None:
        self.heard: list[Heard] = []
        self._ports = ports.open_ports(
            "jack", daemon_output, daemon_input, self._on_message, MonotonicClock()
        )

    def send(self, message: mido.Message) -> None:
        self._ports.send(message)

    def close(self) -> None:
        self._ports.close()

    def _on_message(self, message: mido.Message, stamp: float) -> None:
        self.heard.append(Heard(stamp, message))
