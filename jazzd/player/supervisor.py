"""Keeps an engine alive: starts it, or finds it at its address; notices its death; starts it again."""

import asyncio
import contextlib
import math
import os
import socket
import subprocess
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import structlog

from jazzd.engine import protocol
from jazzd.errors import EngineError, ModelError

PING_S = 0.25
SILENCE_S = 1.0
"""An engine that leaves a ping unanswered for this long counts as dead, one that was stopped at the first,"""
STARVED_S = 5.0
"""and one that is at work all the same (the machine is busy) after this: a new one would be slower."""
RESERVE_AFTER_S = 1.0
"""An engine that has played for this long gets another in reserve: to start that takes computing time."""
LIGHT_PARAMETERS = 64_000_000
"""A base of no more than these (a quarter of a gigabyte) is loaded by the reserve, too, where a CPU plays.
A GPU's memory belongs to the engine that plays."""
ROOMY_GIB = 4.0
"""A machine with less memory has better use for the half of a gigabyte that such a reserve takes. With twice
that there is another behind it, which has only to load: an engine may crash again before a new one is up."""
REST_S = 0.5
"""A reserve that has not worked for so long has got ready."""
CONNECT_S = 5.0
FAREWELL_S = 1.0
"""What an engine gets to leave by itself, once its connection is closed."""
BACK_OFF_S = (0.0, 0.5, 1.0, 2.0, 5.0)
"""Before the first restart, the second, ..."""
STEADY_S = 10.0
"""An engine that was ready for this long has its failures before forgiven."""
WARM_UP = (
    protocol.Begin(seed=0),
    protocol.Revise(epoch=0, now=0, floor=1, answer=True, keys=(protocol.Key(0, 100, 60, 64),)),
    protocol.Advance(now=0, until=50),
)
AFTER_WARM_UP = protocol.Revise(epoch=0, now=0, floor=1, playing=False)
"""Of an epoch that no session asks for: theirs count from 1."""
TICKS_A_SECOND = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
"""Of /proc."""
PAGES = ("SC_PHYS_PAGES", "SC_PAGE_SIZE")
MEMORY_GIB = math.prod(map(os.sysconf, PAGES)) / 2**30 if hasattr(os, "sysconf") else 0.0
"""Of the machine; Windows, where no engine is started, does not tell it so."""
SLOW_START_S = 6.0
COMPILES = "it loads the model; the first start on a machine compiles it, too: a minute or so"
WARM_UP_S = 20.0
"""An engine that has made no note by then cannot make any."""


async def reach(address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection to the engine at `unix:PATH` or `tcp://HOST:PORT`. Raises EngineError."""
    kind, _, place = address.partition(":")
    try:
        async with asyncio.timeout(CONNECT_S):
            if kind == "unix":
                return await asyncio.open_unix_connection(place, limit=protocol.LINE_LIMIT)
            host, _, port = place.removeprefix("//").rpartition(":")
            return await asyncio.open_connection(host.strip("[]"), int(port), limit=protocol.LINE_LIMIT)
    except OSError as error:  # TimeoutError is one
        raise EngineError(f"no engine at {address} ({error or 'timeout'})") from None


@dataclass(frozen=True)
class Callbacks:
    """What the player does about it, called in the loop."""

    ready: Callable[[], None]
    lost: Callable[[], None]
    note: Callable[[protocol.Note], None]
    styles: Callable[[tuple[protocol.Style, ...]], None]


@dataclass
class _Link:
    """A connection to an engine, and the child behind it if it is ours."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    child: asyncio.subprocess.Process | None = None
    greeted: bool = False
    pong: int = 0
    warming: bool = False
    """It is ready by its own account, and plays a phrase that nobody hears."""

    @property
    def lives(self) -> bool:
        """Whether our child still runs."""
        return self.child is not None and self.child.returncode is None

    @property
    def stopped(self) -> bool:
        """Whether our child was stopped by a signal, and will not go on by itself."""
        return self._told[:1] == ["T"]

    @property
    def worked_s(self) -> float | None:
        """Seconds of work that the system has given our child; None where it does not tell."""
        return sum(map(int, self._told[11:13])) / TICKS_A_SECOND if self._told else None

    @property
    def waits_for_a_core(self) -> bool:
        """Whether one of our child's threads would work if the machine let it."""
        if self.child is None:
            return False
        try:
            threads = [each.read_text() for each in Path(f"/proc/{self.child.pid}/task").glob("*/stat")]
        except OSError:  # a thread that ended just now
            return True
        return any(told.rpartition(")")[2].split()[0] == "R" for told in threads)

    @property
    def _told(self) -> list[str]:
        """What the system tells of our child, as proc(5) has it from the field `state` on: the name before
        that is in brackets, and may hold anything."""
        try:
            told = Path(f"/proc/{self.child.pid}/stat").read_text() if self.child else ""
        except OSError:
            return []
        return told.rpartition(")")[2].split()

    def greet(self, token: str) -> None:
        """Say hello, once: the engine loads then, and what it says of that waits to be received."""
        if not self.greeted:
            self.greeted = True
            self.writer.write(protocol.line(protocol.Hello(token=token)))

    async def receive(self) -> protocol.ToPlayer:
        """The engine's next message. Raises EngineError when there will be none."""
        try:
            line = await self.reader.readline()
        except OSError as error:
            raise EngineError(f"the connection broke ({error})") from None
        except ValueError:
            raise EngineError(f"it sent a line longer than {protocol.LINE_LIMIT} bytes") from None
        if not line.endswith(b"\n"):
            raise EngineError("it hung up")
        return protocol.read_by_player(line)

    def kill(self) -> None:
        """Ends our child at once, whatever it is doing: it has nothing to put in order."""
        if self.child and self.lives:
            self.child.kill()

    def cut(self) -> None:
        """Ends the connection, too, and with it all waiting for the engine."""
        self.kill()
        self.writer.transport.abort()

    async def close(self) -> int | None:
        """Ends it; returns the child's exit code, negative for a signal."""
        self.writer.close()
        try:
            # Not wait_for: up to Python 3.11 it can swallow a cancellation, and ours would never end.
            async with asyncio.timeout(FAREWELL_S):
                with contextlib.suppress(OSError):  # it was broken already
                    await self.writer.wait_closed()
                if self.child:
                    await self.child.wait()
        except TimeoutError:
            pass
        finally:
            self.kill()
        return await self.child.wait() if self.child else None


class Supervisor:
    """`command` starts an engine when `--listen fd:N` is added; with an `address` (unix:PATH or
    tcp://HOST:PORT) somebody else keeps the engine, who may want to hear a `token`, and nothing is
    started."""

    def __init__(self, command: Sequence[str], address: str = "", token: str = "") -> None:
        self.state: Literal["starting", "ready", "failed"] = "starting"
        self.restarts = 0
        self.ready: protocol.Ready | None = None
        """What the engine said of itself when it was last ready."""
        self._command = command
        self._address, self._token = address, token
        self._link: _Link | None = None
        self._reserves: list[_Link] = []
        """Those that follow, the next one first: it has loaded a light base. All have imported what an engine
        needs, and wait for their music."""
        self._ready_at = 0.0
        """When an engine was last ready."""
        self._log = structlog.get_logger()

    @property
    def pid(self) -> int | None:
        """Of our child; None while there is none."""
        return self._link.child.pid if self._link and self._link.child else None

    def send(self, message: protocol.Message) -> None:
        """Sends to the engine; while none is ready, nothing happens."""
        if self._link and self.state == "ready" and not self._link.writer.is_closing():
            self._link.writer.write(protocol.line(message))

    async def run(self, callbacks: Callbacks) -> None:
        """Keeps an engine alive until cancelled, and then leaves none behind.

        Raises ModelError or EngineError if the very first one refuses to start: the settings are wrong.
        """
        try:
            await self._keep(callbacks)
        finally:
            for reserve in self._reserves:
                reserve.kill()
                await reserve.close()

    async def _keep(self, callbacks: Callbacks) -> None:
        clock = asyncio.get_running_loop().time
        failures = 0
        while True:
            self.state = "starting"
            came_up = False
            try:
                link = await self._connect()
            except EngineError as error:
                reason = str(error)
            else:
                came_up, reason = await self._live(link, callbacks)
                self.restarts += 1
            if came_up and clock() - self._ready_at >= STEADY_S:
                failures = 0
            self.state = "starting" if came_up else "failed"
            delay_s = BACK_OFF_S[min(failures, len(BACK_OFF_S) - 1)]
            failures += 1
            self._log.error("engine_lost", reason=reason, restarts=self.restarts, again_in_s=delay_s)
            await asyncio.sleep(delay_s)

    async def _connect(self) -> _Link:
        if not self._address:
            while self._reserves:
                reserve = self._reserves.pop(0)
                if reserve.lives and not reserve.stopped:
                    return reserve
                await reserve.close()
            return await self._spawn()
        return _Link(*await reach(self._address))

    async def _spawn(self) -> _Link:
        # An inherited socket, not an address: nobody else can connect, and when either process dies, however
        # it dies, the other one reads the end of the stream.
        try:
            ours, theirs = socket.socketpair()
        except OSError as error:  # no file handles are left, which may pass
            raise EngineError(f"cannot talk to an engine: {error.strerror}") from None
        with theirs:
            reader, writer = await asyncio.open_unix_connection(sock=ours, limit=protocol.LINE_LIMIT)
            try:
                child = await asyncio.create_subprocess_exec(
                    *self._command,
                    "--listen",
                    f"fd:{theirs.fileno()}",
                    stdin=subprocess.DEVNULL,
                    stdout=2,  # our stdout belongs to our user
                    pass_fds=[theirs.fileno()],
                    start_new_session=True,  # Ctrl-C is for us: we end the engine when the notes are off
                )
            except OSError as error:
                writer.close()
                raise EngineError(f"cannot start {self._command[0]}: {error.strerror}") from None
            except asyncio.CancelledError:
                writer.close()
                raise
        return _Link(reader, writer, child)

    async def _live(self, link: _Link, callbacks: Callbacks) -> tuple[bool, str]:
        """One engine's life; whether it was ever ready, and why it ended."""
        self._link = link
        beside = [asyncio.create_task(self._ping(link))]
        if not self._address:
            beside.append(asyncio.create_task(self._call_reserves()))
        code = None
        try:
            link.greet(self._token)
            while True:
                waiting = asyncio.timeout(WARM_UP_S if link.warming else None)
                try:
                    async with waiting:
                        message = await link.receive()
                except TimeoutError:
                    raise EngineError(f"it made no note within {WARM_UP_S:.0f} s") from None
                self._hear(message, link, callbacks)
        except EngineError as error:
            reason = str(error)
        except asyncio.CancelledError:
            link.kill()
            raise
        finally:
            for task in beside:
                task.cancel()
            came_up, self.state, self._link = self.state == "ready", "starting", None
            if came_up:
                callbacks.lost()
            code = await link.close()
        if code and code > 0 and self.ready is None:
            raise ModelError(f"the engine cannot start (exit code {code}): what it said is above")
        return came_up, reason if code is None else f"{reason}; exit code {code}"

    def _hear(self, message: protocol.ToPlayer, link: _Link, callbacks: Callbacks) -> None:
        match message:
            case protocol.Note() if link.warming:
                link.warming = False
                link.writer.write(protocol.line(AFTER_WARM_UP))
                self.state, self._ready_at = "ready", asyncio.get_running_loop().time()
                callbacks.ready()
            case protocol.Note(epoch=AFTER_WARM_UP.epoch):
                pass  # still of the warm-up
            case protocol.Note():
                callbacks.note(message)
            case protocol.Styles(styles=styles):
                callbacks.styles(styles)
            case protocol.Pong(n=n):
                link.pong = n
            case protocol.Ready():
                self.ready = message
                self._log.info("engine_ready", **message.model_dump(exclude={"kind"}))
                link.warming = True
                for warm_up in WARM_UP:
                    link.writer.write(protocol.line(warm_up))
            case protocol.Failed(reason=reason) if self.ready is None:
                raise ModelError(reason)
            case protocol.Failed(reason=reason):
                raise EngineError(reason)

    async def _call_reserves(self) -> None:
        """Starts the engines that are to follow when this one is lost, one after another: the music needs its
        cores."""
        played_s = 0.0
        while played_s < RESERVE_AFTER_S:
            await asyncio.sleep(PING_S)
            if self.state == "ready":
                played_s += PING_S
                self._load_next()  # at once: it has imported all already
        with contextlib.suppress(EngineError):  # then it has to be started when it is needed
            while True:
                for reserve in self._reserves:
                    await self._rests(reserve)
                if len(self._reserves) >= self._wanted_reserves:
                    return
                self._reserves.append(await self._spawn())
                self._load_next()

    def _load_next(self) -> None:
        """Has the next one load what it would have to load when it is needed, if that is light."""
        if self._reserves and self._light:
            self._reserves[0].greet(self._token)

    @property
    def _light(self) -> bool:
        """Whether two engines may hold what the one that plays holds."""
        ready = self.ready
        small = ready is not None and ready.device == "cpu" and ready.parameters <= LIGHT_PARAMETERS
        return small and MEMORY_GIB >= ROOMY_GIB

    @property
    def _wanted_reserves(self) -> int:
        return 2 if self._light and MEMORY_GIB >= 2 * ROOMY_GIB else 1

    @staticmethod
    async def _rests(reserve: _Link) -> None:
        """Returns when it works no more."""
        before: float | None = -1.0
        while (now := reserve.worked_s) != before:
            before = now
            await asyncio.sleep(REST_S)

    async def _ping(self, link: _Link) -> None:
        """Cuts the link when pings stay unanswered."""
        sent = unanswered = starting = 0
        worked_s = deque([link.worked_s], maxlen=int(SILENCE_S / PING_S))  # shorter than the silence itself
        while True:
            # Counted, not timed: when this process itself stood still, the answer may be waiting to be read.
            await asyncio.sleep(PING_S)
            if link.stopped and self.state != "ready":
                self._log.error("engine_stopped", reason="its process was stopped by a signal")
                link.cut()
                return
            if self.state != "ready":
                starting += 1
                if starting * PING_S == SLOW_START_S:
                    self._log.info("engine_still_starting", reason=COMPILES)
                continue
            if link.pong == sent:
                sent, unanswered = sent + 1, 0
                self.send(protocol.Ping(n=sent))
            else:
                unanswered += 1
            worked_s.append(link.worked_s)
            if unanswered * PING_S >= self._patience_s(link, worked_s):
                self._log.error("engine_silent", seconds=unanswered * PING_S)
                link.cut()
                return

    @staticmethod
    def _patience_s(link: _Link, worked_s: Sequence[float | None]) -> float:
        """For how long an engine that has done so much work lately may leave a ping unanswered."""
        if link.stopped:
            return PING_S
        return STARVED_S if worked_s[0] != worked_s[-1] or link.waits_for_a_core else SILENCE_S
