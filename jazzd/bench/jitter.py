"""How exactly notes go out: the daemon quantizes to the clock of a DAW, and is heard from outside."""

import collections
import contextlib
import itertools
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

import mido

from jazzd.bench import machine
from jazzd.bench.daw import TICKS_PER_BEAT
from jazzd.bench.latency import line_to, transport
from jazzd.errors import JazzdError
from jazzd.music.grid import POSITIONS
from jazzd.player import ports
from jazzd.player.clock import MonotonicClock
from jazzd.player.latency import summary
from jazzd.rehearsal import Heard, daemon

SECONDS, BPM = 60.0, 120.0
CHORDS = ((50, 57, 60, 65), (43, 53, 59, 62), (48, 52, 59, 62), (45, 55, 60, 64))
CHORD_S = 2.0
FAREWELL_S = 3.0
STRIKE_BEAT = 0.8
"""Where in a beat the chords are struck: what was planned for the grid before them sounds well before (at
three quarters) or well after (at the beat), so that the next note is the first of their answer."""
NEAR_MS = 3.0
WITNESS = "jazzd bench witness"


def measure(seconds: float = SECONDS, jitter_ms: float = 0.0, options: Sequence[str] = ()) -> dict[str, Any]:
    """Plays chords for so long to a daemon run with `options`; the figures by the keys of the bench.

    `lateness_ms` is what the daemon says of itself: sent after its time. `off_grid_ms` is from outside: from
    the DAW's own grid of sixteenths and eighth-triplets. `ticks_off_ms` is what the machine does: how far the
    DAW's ticks are from their times (with the jitter that was asked for) as the bench hears them, without
    jazzd in between. Raises JazzdError without JACK.
    """
    with transport() as (kind, variables), daemon(options, variables | {"JAZZD_FEEL__QUANTIZE": "100"}) as it:
        if kind != "jack":
            raise JazzdError("the jitter is measured through JACK: apt-get install jackd2 brings it")
        status = it.wait_until_ready()
        with (
            line_to(kind, status) as line,
            _witness() as ticks,
            daw((status["midi"]["input"], WITNESS), str(BPM), seconds, jitter_ms) as began,
        ):
            first, struck = began + STRIKE_BEAT * 60 / BPM, []
            for chord, nth in zip(itertools.cycle(CHORDS), range(int((seconds - 1) / CHORD_S))):
                struck.append(_hold(line, chord, first + nth * CHORD_S))
        notes = it.status()["notes"]
        it.stop()
    off, ticks_off = off_grid_ms(line.heard, began, struck), ticks_off_ms(ticks, began)
    return machine.describe() | {
        "bpm": BPM,
        "clock_jitter_ms": jitter_ms,
        "lateness_ms": notes["lateness_ms"],
        "ticks_off_ms": summary(ticks_off),
        "off_grid_ms": summary(off),
        "ticks_near_share": _near(ticks_off),
        "on_grid_share": _near(off),
        "late": notes["late"],
        "dropped": notes["dropped"],
    }


def off_grid_ms(heard: Sequence[Heard], began: float, struck: Sequence[float]) -> list[float]:
    """How far each note-on is from the nearest position of the grid whose beat 0 is at `began`; seconds in,
    milliseconds out.

    Not counted are those that answer a chord (`struck` says when): they sound as soon as they can.
    """
    beat_s, waiting, off = 60 / BPM, collections.deque(struck), []
    for each in heard:
        if each.message.type != "note_on" or not each.message.velocity:
            continue
        answers = False
        while waiting and waiting[0] < each.at:
            waiting.popleft()
            answers = True
        beat = (each.at - began) / beat_s
        if not answers:
            off.append(1000 * beat_s * min(abs(beat % 1 - position) for position in (*POSITIONS, 1.0)))
    return off


def ticks_off_ms(heard: Sequence[float], began: float) -> list[float]:
    """How far each tick of a clock, all of which were heard at these times, is from its own; seconds in,
    milliseconds out."""
    tick_s = 60 / BPM / TICKS_PER_BEAT
    return [1000 * abs(at - began - number * tick_s) for number, at in enumerate(heard)]


def _near(off_ms: Sequence[float]) -> float | None:
    return sum(each <= NEAR_MS for each in off_ms) / len(off_ms) if off_ms else None


@contextlib.contextmanager
def _witness() -> Iterator[list[float]]:
    """When ticks come in at a port of our own."""
    heard: list[float] = []

    def hear(message: mido.Message, at: float) -> None:
        if message.type == "clock":
            heard.append(at)

    opened = ports.open_ports("jack", WITNESS, f"{WITNESS} out", hear, MonotonicClock())
    try:
        yield heard
    finally:
        opened.close()


def _hold(line: Any, chord: tuple[int, ...], at: float) -> float:
    """Plays the chord then; when its last key went down."""
    time.sleep(max(0.0, at - time.perf_counter()))
    for pitch in chord:
        line.send(mido.Message("note_on", note=pitch, velocity=72))
    struck = time.perf_counter()
    time.sleep(0.95 * CHORD_S)
    for pitch in chord:
        line.send(mido.Message("note_off", note=pitch))
    return struck


@contextlib.contextmanager
def daw(to: Sequence[str], bpm: str, seconds: float, jitter_ms: float = 0.0) -> Iterator[float]:
    """The DAW's process while the block lasts; when its beat 0 is.

    `to` are the ports that it plays to, `bpm` is a tempo, or FROM:TO.
    """
    command = [sys.executable, "-m", "jazzd.bench.daw", *to, "--bpm", bpm]
    command += ["--seconds", str(seconds), "--jitter-ms", str(jitter_ms)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            told = process.stdout.readline()
            if not told:
                raise JazzdError("the clock's process ended at once; what it said is above")
            yield json.loads(told)["began"]
        finally:
            # A client that is killed makes the JACK server stand still, and lose what was on its way.
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(FAREWELL_S)
            process.terminate()
