"""A DAW as far as jazzd can tell: a process of its own that sends MIDI clock, well or badly, through JACK.

`python -m jazzd.bench.daw PORT... [--bpm 120 | --bpm 60:300] [--seconds 30] [--jitter-ms 5]`. It sends
Start, ticks for so long, and Stop, to every PORT; on its standard output stands `{"began": T}`, the time of
beat 0 in seconds of the system's monotonic clock, before the first tick goes out.
"""

import argparse
import contextlib
import json
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import mido

from jazzd.player import ports
from jazzd.player.clock import MonotonicClock

TICKS_PER_BEAT = 24
OPENING_S = 0.3
PORT = "DAW"


@dataclass(frozen=True)
class Transport:
    """A tempo that goes evenly from one to another; beats a minute."""

    first: float
    last: float
    seconds: float

    def bpm(self, at: float) -> float:
        """The tempo so many seconds after the start."""
        return self.first + (self.last - self.first) * min(at / self.seconds, 1.0)

    def ticks(self) -> Iterator[float]:
        """Seconds after the start of every tick."""
        at = 0.0
        while at < self.seconds:
            yield at
            at += 60 / self.bpm(at) / TICKS_PER_BEAT


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("ports", nargs="+", help="part of the name of each port to send to")
    parser.add_argument("--bpm", default="120", help="a tempo, or FROM:TO")
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--jitter-ms", type=float, default=0.0)
    parser.add_argument("--break-off", action="store_true", help="end without Stop")
    given = parser.parse_args()
    first, _, last = given.bpm.partition(":")
    transport = Transport(float(first), float(last or first), given.seconds)
    with contextlib.ExitStack() as stack:
        outputs = [
            ports.open_ports("jack", PORT, name, lambda message, at: None, MonotonicClock())
            for name in given.ports
        ]
        for output in outputs:
            stack.callback(output.close)
        time.sleep(OPENING_S)
        _play(transport, given.jitter_ms / 1000, not given.break_off, outputs)
        time.sleep(OPENING_S)


def _play(transport: Transport, jitter_s: float, stop: bool, outputs: Sequence[ports.Ports]) -> None:
    dice = random.Random(1)
    began = time.perf_counter() + OPENING_S
    print(json.dumps({"began": began}), flush=True)
    _send(outputs, "start")
    for tick in transport.ticks():
        _sleep_until(began + tick + dice.uniform(-jitter_s, jitter_s))
        _send(outputs, "clock")
    if stop:
        _send(outputs, "stop")


def _send(outputs: Sequence[ports.Ports], kind: str) -> None:
    for output in outputs:
        output.send(mido.Message(kind))


def _sleep_until(at: float) -> None:
    """Sleeps most of the time and looks at the clock for the last of it: sleep alone is up to 0.1 ms late."""
    while (left := at - time.perf_counter()) > 0:
        if left > 0.001:
            time.sleep(left - 0.0005)


if __name__ == "__main__":
    main()
