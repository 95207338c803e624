"""The last ten minutes, always: what the human played, what was sent, what the engine was asked and made."""

import threading
from bisect import bisect_left, bisect_right
from collections import deque
from importlib import metadata

import mido

from jazzd import takes
from jazzd.engine import protocol
from jazzd.music.grid import Grid
from jazzd.player.clock import Clock
from jazzd.player.messages import SUSTAIN
from jazzd.player.soloist import EngineLink
from jazzd.player.tempo_map import TempoMap

LENGTH_S = 600.0
MOST_MESSAGES, MOST_EVENTS = 30_000, 20_000
"""What is kept at most, however fast it comes in: a flood pushes the older part out sooner."""


class _Passage:
    """A timeline of the engine."""

    def __init__(self, seed: int, at: float) -> None:
        self.seed, self.began, self.last = seed, at, at
        self.events: list[bytes] = []
        """Revisions and notes, as the lines of the protocol."""


class _Reel:
    """The last messages that were played, in memory that does not grow; for any thread."""

    def __init__(self) -> None:
        # Copied, or the system would give the memory only when it is written.
        self._room = bytearray(bytes(MOST_MESSAGES * takes.PLAYED.size))
        self._count = 0
        self._lock = threading.Lock()

    def add(self, at: float, message: mido.Message) -> None:
        with self._lock:
            takes.PLAYED.pack_into(self._room, self._place(self._count), at, message.bin())
            self._count += 1

    def between(self, begin: float, end: float) -> bytes:
        """What was played from `begin` to `end`, as PLAYED, in the order in which it came."""
        with self._lock:
            kept = range(max(0, self._count - MOST_MESSAGES), self._count)
            first = bisect_left(kept, begin, key=self._when)
            last = bisect_right(kept, end, key=self._when)
            start, stop = self._place(kept.start + first), self._place(kept.start + last)
            room = memoryview(self._room)  # a reel is large: only what is wanted is copied, and once
            whole = first == last or start < stop
            return b"".join((room[start:stop],) if whole else (room[start:], room[:stop]))

    def _place(self, number: int) -> int:
        return number % MOST_MESSAGES * takes.PLAYED.size

    def _when(self, number: int) -> float:
        return takes.when(self._room, self._place(number))


class Tape:
    """Hears everything; belongs to the loop, but `heard` and `sent` may be called from any thread."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._human, self._solo = _Reel(), _Reel()
        self._passages: deque[_Passage] = deque()
        self._tempo = TempoMap()

    def heard(self, message: mido.Message, at: float) -> None:
        """The human played this at `at` (seconds of the clock)."""
        if message.type in ("note_on", "note_off") or message.is_cc(SUSTAIN):
            self._human.add(at, message)

    def sent(self, message: mido.Message) -> None:
        """This was sent to the output now."""
        if message.type in ("note_on", "note_off"):
            self._solo.add(self._clock.now(), message)

    def told(self, message: protocol.Message) -> None:
        """The engine was told this."""
        now = self._clock.now()
        if isinstance(message, protocol.Begin):
            self._forget(now)
            self._passages.append(_Passage(message.seed, now))
        elif isinstance(message, protocol.Revise):
            self._log(message, now)

    def counted(self, at: float, grid: Grid) -> None:
        """The beats lie so at `at`."""
        self._tempo.count(at, grid)
        self._tempo.forget(at - LENGTH_S)

    def made(self, note: protocol.Note) -> None:
        """The engine made this note."""
        self._log(note, self._clock.now())

    def take(
        self, told: protocol.Ready | None, styles: tuple[protocol.Style, ...], since: float
    ) -> takes.Take:
        """What happened after `since` and in the last LENGTH_S, as far as it is kept.

        A timeline that reaches into that is there from its beginning. `told` is what the engine says of
        itself.
        """
        now = self._clock.now()
        begin = max(since, now - LENGTH_S)
        human, solo = self._human.between(begin, now), self._solo.between(begin, now)
        first = min((takes.when(played) for played in (human, solo) if played), default=begin)
        began = self._tempo.bar_line(first)
        return takes.Take(
            takes.Log(
                jazzd=metadata.version("jazzd"),
                base=told.base if told else "",
                fingerprint=told.fingerprint if told else "",
                dtype=told.dtype if told else "",
                device=told.device if told else "",
                styles={style.name: style.fingerprint for style in styles if style.fingerprint},
            ),
            [(passage.seed, tuple(passage.events)) for passage in self._passages if passage.last >= begin],
            human,
            solo,
            self._tempo.tempi(began),
            began,
            now,
            self._tempo.bar,
        )

    def _log(self, event: protocol.Revise | protocol.Note, now: float) -> None:
        if not self._passages:
            return
        passage = self._passages[-1]
        passage.last = now
        passage.events.append(protocol.line(event))
        self._forget(now)

    def _forget(self, now: float) -> None:
        """What is older than it need be, and what is too much: timelines as a whole, for so they replay."""
        while self._passages and self._passages[0].last < now - LENGTH_S:
            self._passages.popleft()
        while sum(len(passage.events) for passage in self._passages) > MOST_EVENTS:
            self._passages.popleft()


class TapedLink:
    """The link to the engine, with the tape listening."""

    def __init__(self, engine: EngineLink, tape: Tape) -> None:
        self._engine, self._tape = engine, tape

    def send(self, message: protocol.Message) -> None:
        self._tape.told(message)
        self._engine.send(message)
