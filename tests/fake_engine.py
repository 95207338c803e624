"""An engine that needs no model: it speaks the protocol, and plays the chord's keys up and down.

Started as a process with `--listen fd:N`; `--mode` makes it misbehave, `mute` from the warm-up on. When it is
greeted it writes its number into the file of `--greetings`.
"""

import argparse
import contextlib
import os
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from jazzd.engine import protocol
from jazzd.engine.protocol import Advance, Begin, Hello, Note, Ping, Revise

STEP, LENGTH = 12, 10
"""Ticks from note to note, and of each note."""


class FakeEngine:
    def __init__(self, length: int = LENGTH, parameters: int = 0) -> None:
        self._length, self._parameters = length, parameters
        self._revision = Revise(epoch=0, now=0, floor=0, playing=False)
        self._keys: list[int] = []
        self._number = self._onset = 0
        self._onsets: list[int] = []

    def hear(self, message: protocol.ToEngine) -> Iterator[protocol.Message]:
        """What it answers."""
        match message:
            case Hello():
                yield protocol.Ready(base="fake", device="cpu", dtype="float32", parameters=self._parameters)
            case Begin():
                self._keys, self._onsets = [], []
            case Revise() as revision:
                self._revision = revision
                self._keys = [key.pitch for key in revision.keys] or self._keys
                self._number = revision.keep + 1
                del self._onsets[self._number :]
                # An answer begins where it may, what goes on goes on after the note before.
                goes_on = self._onsets and not revision.answer
                self._onset = max(revision.floor, self._onsets[-1] + STEP if goes_on else 0)
            case Advance(until=until):
                end = self._revision.end
                while self._revision.playing and self._onset <= until and (end is None or self._onset < end):
                    yield self._note()
            case Ping(n=n):
                yield protocol.Pong(n=n)

    def _note(self) -> Note:
        reached = [change for change in self._revision.ahead if change.at <= self._onset]
        keys = [key.pitch for key in reached[-1].keys] if reached else self._keys
        pitch = keys[self._number % len(keys)] if keys else 60
        while pitch < self._revision.sampling.low:
            pitch += 12
        note = Note(
            epoch=self._revision.epoch,
            number=self._number,
            onset=self._onset,
            duration=self._length,
            pitch=pitch,
            velocity=80,
        )
        self._onsets.append(self._onset)
        self._number += 1
        self._onset += STEP
        return note


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--mode", default="good")
    parser.add_argument("--listen", required=True)
    parser.add_argument("--parameters", type=int, default=0)
    parser.add_argument("--greetings", type=Path)
    arguments = parser.parse_args()
    if arguments.mode == "crashing":
        sys.exit(3)
    connection = socket.socket(fileno=int(arguments.listen.removeprefix("fd:")))
    engine = FakeEngine(300 if arguments.mode == "sustaining" else LENGTH, arguments.parameters)
    with connection.makefile("rwb") as stream:
        if arguments.mode == "failing":
            stream.write(protocol.line(protocol.Failed(reason="there is no base in /nowhere")))
            return
        for line in stream:
            message = protocol.read_by_engine(line)
            if isinstance(message, Hello) and arguments.greetings:
                with arguments.greetings.open("a") as greetings:
                    greetings.write(f"{os.getpid()}\n")
            asked = isinstance(message, Revise)
            warmed_up = isinstance(message, Revise) and message.epoch > 0
            if (arguments.mode == "mute" and asked) or (arguments.mode == "silent" and warmed_up):
                stream.read()  # until the player is gone
            if arguments.mode == "toiling" and warmed_up:
                until = time.monotonic() + 1.7
                while time.monotonic() < until:
                    pass
            if arguments.mode == "babbling" and warmed_up:
                stream.write(b"{what?\n")
            for answer in engine.hear(message):
                stream.write(protocol.line(answer))
            stream.flush()


if __name__ == "__main__":
    with contextlib.suppress(ConnectionError):  # the player went away
        main()
