"""The engine process: one connection to a player, one thread that owns the device.

The loop only moves lines; the worker loads the model, keeps the timeline and decodes. Between two pieces of
work it looks at what the player sent, so nothing the player says waits longer than one step.
"""

import asyncio
import hmac
import os
import queue
import signal
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

import structlog

from jazzd.engine import protocol
from jazzd.engine.loading import Loaded
from jazzd.engine.protocol import LINE_LIMIT
from jazzd.engine.timeline import Timeline
from jazzd.errors import EngineError, StyleError
from jazzd.styles.wardrobe import News
from jazzd.styles.watch import Watch

log = structlog.get_logger()
Send = Callable[[protocol.Message], None]
Loader = Callable[[], Loaded]
"""Loads the base, compiles it and opens its styles; runs in the worker."""
STEP_GUESS_S = 0.01
TICK_S = 0.01
MOST_READS = 256
"""Revisions that a note tells of; more without a note between them come from no player of ours."""
GREETING_TIMEOUT_S, FAREWELL_S = 10.0, 1.0
KEEP_ALIVE = {"TCP_KEEPIDLE": 5, "TCP_KEEPINTVL": 2, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": 11_000}
"""After 5 s without a word a player is asked for a sign of life, thrice in 6 s (tcp(7))."""
LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass
class _Turn:
    """What the last revision asked for."""

    revise: protocol.Revise
    answered: bool
    ended: bool
    """All is played up to where it is to end."""
    until: int
    now: int
    heard_at: float
    """When the player said `now`, on this process's own clock: only differences of it are used."""


class Worker:
    """Decodes what the player asks for. `run` is the thread's body; other threads may call the rest."""

    def __init__(self, load: Loader, quiet: bool = False) -> None:
        """A `quiet` one keeps what it finds in the styles folder to itself until its first music: it may be a
        reserve, and the engine that plays says the same."""
        self._load, self._quiet = load, quiet
        self._inbox: queue.SimpleQueue[tuple[protocol.ToEngine, Send] | News | None] = queue.SimpleQueue()
        self._timeline: Timeline | None = None
        self._turn: _Turn | None = None
        self._step_s = STEP_GUESS_S
        self._noted = False
        """Whether the last piece of work was a note; then it is the next window's turn, if that is behind."""
        self._ended = False
        self._worn: protocol.Mix = ()
        self._reads: list[tuple[int, int, bool]] = []
        """As `Note.read_before` tells it."""

    def tell(self, message: protocol.ToEngine, reply: Send) -> None:
        self._inbox.put((message, reply))

    def rest(self) -> None:
        """The player is gone: forget its music."""
        self._inbox.put(None)

    def end(self) -> None:
        """Let `run` return, once it has done what it is doing."""
        self._ended = True
        self._inbox.put(None)

    def run(self) -> None:
        """Load, then serve until the end. Raises what loading raises."""
        self._base, self._decoder, self._wardrobe = self._load()
        if news := self._wardrobe.look():
            self._wardrobe.take(news)
        if not self._quiet:
            base = self._base
            log.info("engine_ready", base=base.name, device=base.device, dtype=base.dtype)
            self._tell_trouble()
        with Watch(self._wardrobe.registry.folder, self._look):
            self._serve()

    def _tell_trouble(self) -> None:
        if trouble := self._wardrobe.registry.trouble:
            log.warning("no_styles", reason=trouble)

    def _look(self) -> bool:
        """What is new in the styles folder; runs in the thread of the watch."""
        if news := self._wardrobe.look():
            self._inbox.put(news)
        return self._wardrobe.registry.unsettled

    def _serve(self) -> None:
        reply: Send = _nowhere
        while not self._ended:
            work = self._work()
            try:
                item = self._inbox.get(block=work is None)
            except queue.Empty:
                assert work is not None  # else it would still wait
                work(reply)
                continue
            if item is None:
                self._timeline = self._turn = None
            elif isinstance(item, News):
                self._change(item)
                reply(self._styles())
            else:
                message, reply = item
                self._heed(message, reply)

    def _work(self) -> Callable[[Send], None] | None:
        """The next piece of work, unless the player says something first."""
        behind = self._timeline is not None and self._timeline.behind
        if self._wanted() and not (behind and self._noted):
            return self._play
        return self._prepare if behind else None

    def _wanted(self) -> bool:
        turn, timeline = self._turn, self._timeline
        if turn is None or timeline is None or turn.ended or not turn.revise.playing:
            return False
        return not turn.answered or timeline.last_onset < turn.until

    def _heed(self, message: protocol.ToEngine, reply: Send) -> None:
        match message:
            case protocol.Hello():
                self._timeline = self._turn = None
                reply(self._styles())
                reply(
                    protocol.Ready(
                        base=self._base.name,
                        device=self._base.device,
                        dtype=self._base.dtype,
                        parameters=self._base.parameters,
                        fingerprint=self._base.fingerprint,
                    )
                )
            case protocol.Ping():
                reply(protocol.Pong(n=message.n))
            case protocol.Begin():
                if self._quiet:
                    self._quiet = False
                    self._tell_trouble()
                self._timeline, self._turn = Timeline(self._decoder, message.seed), None
                self._reads.clear()
            case protocol.Revise():
                assert self._timeline is not None  # the door lets no revision in before a beginning
                ended = self._turn is not None and self._turn.ended
                self._reads.append((message.epoch, self._timeline.read, ended))
                if message.mix != self._worn:
                    self._wear(message.mix)
                self._timeline.revise(message.keep, message.keys, message.ahead, message.floor, message.end)
                self._noted = False  # the answer comes before anything else
                until = max(message.now, self._turn.until if self._turn else 0)
                self._turn = _Turn(message, not message.answer, False, until, message.now, time.monotonic())
            case protocol.Advance():
                if self._turn:
                    self._turn.until, self._turn.now = message.until, message.now
                    self._turn.heard_at = time.monotonic()

    def _play(self, reply: Send) -> None:
        turn, timeline = self._turn, self._timeline
        assert turn is not None  # _wanted said so
        assert timeline is not None
        revise, began = turn.revise, time.monotonic()
        answer = not turn.answered
        # A note that would begin before it can arrive begins later instead: late notes are worse than rests.
        head = turn.now + (began - turn.heard_at + self._step_s) / TICK_S
        floor = revise.floor if answer else max(revise.floor, int(head) + 1)
        read = timeline.read
        note = timeline.next_note(revise.sampling, floor, answer, revise.epoch, revise.beats)
        turn.answered = self._noted = True
        self._step_s += 0.2 * (time.monotonic() - began - self._step_s)
        if note:
            before = tuple(self._reads[-MOST_READS:])
            reply(note.model_copy(update={"read": read, "read_before": before}))
            self._reads.clear()
        else:
            turn.ended = True

    def _change(self, news: News) -> None:
        """The files of styles have changed."""
        names = self._wardrobe.take(news)
        if not self._quiet:
            for record in news.records:
                log.info("style_changed", style=record.name, status=record.status, reason=record.reason)
            for name in news.lost:
                log.info("style_lost", style=name)
        if names & dict(self._worn).keys():
            self._wear(self._worn)

    def _wear(self, mix: protocol.Mix) -> None:
        """Play in these styles from the next note on. What was read before stays: see docs/styles.md."""
        self._worn = mix
        try:
            self._decoder.mix = self._wardrobe.mix(dict(mix))
        except StyleError as error:  # its file went or broke this very moment: the player hears of it soon
            log.warning("style_unavailable", reason=str(error), instead="the plain base")
            self._decoder.mix = None

    def _styles(self) -> protocol.Styles:
        playable = self._wardrobe.playable
        return protocol.Styles(
            styles=tuple(
                protocol.Style(
                    name=record.name,
                    status="ready" if record.name in playable else record.status,
                    reason=record.reason,
                    program=record.program,
                    settings=protocol.StyleSettings.model_validate(record.settings),
                    fingerprint=record.fingerprint,
                )
                for record in self._wardrobe.registry.records
            )
        )

    def _prepare(self, reply: Send) -> None:
        assert self._timeline is not None  # _work said so
        self._timeline.prepare()
        self._noted = False


def _nowhere(message: protocol.Message) -> None:
    """Where notes go while no player is there."""


async def serve(listen: str, load: Loader, token: str = "") -> bool:
    """Serve one player at a time until the process is told to end; whether nothing is at work any more.

    A thread that still loads or compiles when Python ends would abort the process.

    `listen` is `unix:PATH`, `tcp://HOST:PORT`, or `fd:N` for a socket inherited from the player, whose end is
    the engine's end too. Raises EngineError for an address that cannot be served, and what loading raises.
    """
    loop, stopped = asyncio.get_running_loop(), asyncio.Event()
    ours = listen.startswith("fd:")
    worker, failures = Worker(load, quiet=ours), list[BaseException]()

    def work() -> None:
        try:
            worker.run()
        except BaseException as error:  # carried to the loop, which ends the process
            failures.append(error)
        with suppress(RuntimeError):  # the loop is gone already
            loop.call_soon_threadsafe(stopped.set)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    thread = threading.Thread(target=work, name="decode", daemon=True)
    if ours:  # until it is greeted it is a reserve, and needs no more memory than that
        door = Door(worker, token, None, thread.start)
        close = await _listen(listen, door, stopped)
    else:
        door = Door(worker, token, GREETING_TIMEOUT_S)
        close = await _listen(listen, door, stopped)
        thread.start()
    try:
        await stopped.wait()
        for failure in failures:
            if await door.fail(str(failure)) and ours:
                raise SystemExit(1)  # the player that started us knows, and tells the user
            raise failure
    finally:
        close()
        worker.end()
        if thread.is_alive():
            thread.join(FAREWELL_S)
    return not thread.is_alive()


async def _listen(listen: str, door: "Door", stopped: asyncio.Event) -> Callable[[], object]:
    """Let players in; returns what ends that, without a wait for those who are in. Raises EngineError."""
    kind, _, rest = listen.partition(":")
    try:
        if kind == "fd":
            connection = socket.socket(fileno=int(rest))
            talk = asyncio.create_task(
                door.talk(*await asyncio.open_connection(sock=connection, limit=LINE_LIMIT))
            )
            talk.add_done_callback(lambda _: stopped.set())
            return talk.cancel
        if kind == "unix":
            server = await asyncio.start_unix_server(door.talk, rest, limit=LINE_LIMIT)
            os.chmod(rest, 0o600)
            return server.close
        if kind == "tcp" and (address := urlsplit(listen)).hostname and address.port is not None:
            if address.hostname not in LOOPBACK and not door.token:
                raise EngineError(
                    f"{listen}: only this machine may connect without a token; say --token-file, or listen "
                    "on 127.0.0.1"
                )
            server = await asyncio.start_server(door.talk, address.hostname, address.port, limit=LINE_LIMIT)
            return server.close
        raise ValueError("no such kind of address")
    except OSError as error:
        raise EngineError(f"cannot listen on {listen!r}: {error.strerror or error}") from None
    except ValueError as error:
        raise EngineError(f"cannot listen on {listen!r}: {error}; use unix:PATH or tcp://HOST:PORT") from None


def _keep_alive(writer: asyncio.StreamWriter) -> None:
    """Have the system find out when a player's machine has gone without a word, and free its place."""
    connection = writer.get_extra_info("socket")
    if connection.family not in (socket.AF_INET, socket.AF_INET6):
        return
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in KEEP_ALIVE.items():
        if hasattr(socket, name):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


class Door:
    """Lets one player in at a time, greets it and passes its lines to the worker."""

    def __init__(
        self,
        worker: Worker,
        token: str,
        patience_s: float | None,
        on_greeted: Callable[[], None] = lambda: None,
    ) -> None:
        self._worker, self.token, self._patience_s, self._on_greeted = worker, token, patience_s, on_greeted
        self._player: asyncio.StreamWriter | None = None
        self._greeted = asyncio.Event()

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, from `Hello` to its end."""
        loop = asyncio.get_running_loop()

        def send(message: protocol.Message) -> None:
            with suppress(RuntimeError):  # the loop is gone, and the player with it
                loop.call_soon_threadsafe(writer.write, protocol.line(message))

        _keep_alive(writer)
        try:
            said = await asyncio.wait_for(reader.readline(), self._patience_s)
            if not said:
                return  # nobody's: a look whether we are here, or a reserve that was not needed
            hello = protocol.read_by_engine(said)
            self._check(hello)
            self._player = writer
            self._worker.tell(hello, send)
            self._greeted.set()
            self._on_greeted()
            await self._pass_on(reader, send)
        except (EngineError, ValueError, OSError, TimeoutError) as error:
            log.warning("player_refused", reason=str(error))
            with suppress(OSError):
                writer.write(protocol.line(protocol.Failed(reason=str(error))))
        except asyncio.CancelledError:  # the engine ends: up to 3.11 asyncio would print this as a mistake
            pass
        finally:
            if self._player is writer:
                self._player = None
                self._greeted.clear()
                self._worker.rest()
            writer.close()

    async def _pass_on(self, reader: asyncio.StreamReader, send: Send) -> None:
        """The player's messages to the worker, until it hangs up. Raises EngineError for one out of turn."""
        begun = False
        while data := await reader.readline():
            message = protocol.read_by_engine(data)
            begun = begun or isinstance(message, protocol.Begin)
            if isinstance(message, protocol.Hello) or (isinstance(message, protocol.Revise) and not begun):
                raise EngineError(f"`{message.kind}` came out of turn")
            self._worker.tell(message, send)

    async def fail(self, reason: str) -> bool:
        """Tell the player why there will be no music, waiting for one on its way in; whether it was told."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._greeted.wait(), FAREWELL_S)
        if self._player is None:
            return False
        with suppress(OSError):
            self._player.write(protocol.line(protocol.Failed(reason=reason)))
            await self._player.drain()
        return True

    def _check(self, hello: protocol.ToEngine) -> None:
        if not isinstance(hello, protocol.Hello) or hello.version != protocol.VERSION:
            raise EngineError("the first line is no greeting of this version of jazzd")
        if not hmac.compare_digest(hello.token.encode(), self.token.encode()):
            raise EngineError("the token is wrong")
        if self._player:
            raise EngineError(protocol.IN_USE)
