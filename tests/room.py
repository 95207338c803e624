"""A player on a clock that only the test moves: the real scheduler and ledger, the fake engine."""

import random
from typing import Any

import mido
from fake_engine import FakeEngine

from jazzd.engine import protocol
from jazzd.engine.protocol import Revise
from jazzd.music.notes import Seconds
from jazzd.player.controls import Controls
from jazzd.player.ledger import Ledger
from jazzd.player.scheduler import Scheduler
from jazzd.player.session import Session
from jazzd.player.thru import Thru

NUMBERS = {
    "style": 20,
    "temperature": 21,
    "density": 22,
    "harmony": 23,
    "blend": 24,
    "mode": 25,
    "tap": 26,
    "keep": 27,
}


class Room:
    """A player, an engine that answers `delay_s` later, and time, which passes in `wait`."""

    def __init__(self, delay_s: float = 0.03, **parts: Any) -> None:
        self.time = 1000.0
        self.delay_s = delay_s
        self.engine = FakeEngine()
        self.alive = True
        self.asked: list[protocol.Message] = []
        self.made: list[protocol.Note] = []
        self.heard: list[tuple[float, mido.Message]] = []
        self._arriving: list[tuple[float, protocol.Message]] = []
        ledger = Ledger(self._hear)
        self.scheduler = Scheduler(ledger, self, on_sent=self._sent)
        sampling = protocol.Sampling(temperature=0.8)
        self.session = Session(
            self, self.scheduler, self, Controls(NUMBERS), sampling, seed=random.Random(0), **parts
        )
        self.thru = Thru(ledger)
        self.session.thru = self.thru.pass_on
        self.session.on_engine_ready()

    def now(self) -> float:
        return self.time

    def sleep_until(self, at: float) -> None:
        self.time = max(self.time, at)

    def send(self, message: protocol.Message) -> None:
        """The engine's end of the link."""
        self.asked.append(message)
        if self.alive:
            checked = protocol.read_by_engine(protocol.line(message))
            made = list(self.engine.hear(checked))
            self.made += [note for note in made if isinstance(note, protocol.Note)]
            self._arriving += [(self.time + self.delay_s, note) for note in made]

    def kill_engine(self) -> None:
        self.alive = False
        self._arriving.clear()
        self.session.on_engine_lost()
        self.wait(0)

    def start_engine(self) -> None:
        self.engine, self.alive = FakeEngine(), True
        self.session.on_engine_ready()

    def play(self, *messages: mido.Message) -> None:
        for message in messages:
            self.session.on_message(message, Seconds(self.time))

    def strike(self, *pitches: int) -> None:
        self.play(*(mido.Message("note_on", note=pitch, velocity=80) for pitch in pitches))

    def lift(self, *pitches: int) -> None:
        self.play(*(mido.Message("note_off", note=pitch) for pitch in pitches))

    def turn(self, control: int, value: int = 0) -> None:
        self.play(mido.Message("control_change", control=control, value=value))

    def tick(self, beats: float, bpm: float = 120.0) -> None:
        """MIDI clock for so many beats; time passes with it."""
        for _ in range(round(24 * beats)):
            self.play(mido.Message("clock"))
            self.wait(60 / bpm / 24)

    def wait(self, seconds: float) -> None:
        end = self.time + seconds
        while (at := self._next()) <= end:
            self.time = max(at, self.time)
            arrived = [message for due, message in self._arriving if due <= self.time]
            self._arriving = [(due, message) for due, message in self._arriving if due > self.time]
            for message in arrived:
                assert isinstance(message, protocol.Note)
                self.session.on_note(message)
            self.session.poll()
            self.scheduler.step()
        self.time = end

    def _hear(self, message: mido.Message) -> None:
        self.heard.append((self.time, message))

    def _next(self) -> float:
        times = [self.session.deadline(), self.scheduler.step(), *(due for due, _ in self._arriving)]
        return min((time for time in times if time is not None), default=float("inf"))

    def _sent(self, note_id: int, due: float, sent_at: float) -> None:
        self.session.on_sent(note_id, due, sent_at)

    @property
    def struck(self) -> list[tuple[float, int]]:
        return [(at, message.note) for at, message in self.heard if message.type == "note_on"]

    @property
    def sounding(self) -> set[int]:
        down: set[int] = set()
        for _, message in self.heard:
            if message.type == "note_on":
                down.add(message.note)
            elif message.type == "note_off":
                down.discard(message.note)
        return down

    @property
    def revisions(self) -> list[Revise]:
        return [message for message in self.asked if isinstance(message, Revise)]
