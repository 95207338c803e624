"""Keeps an engine alive: starts it, or finds it at its address; notices its death; starts it again."""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import structlog

from jazzd.engine import protocol
from jazzd.errors import EngineError, ModelError
from jazzd.player.connection import Connection, reach
from jazzd.player.reserves import Reserves

PING_S = 0.25
SILENCE_S = 1.0
"""An engine that leaves a ping unanswered for this long counts as dead, one that was stopped at the first,"""
STARVED_S = 5.0
"""and one that is at work all the same (the machine is busy) after this: a new one would be slower. So does
one elsewhere, into which nobody can look, and which there is no other of."""
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
SLOW_START_S = 6.0
COMPILES = "it loads the model; the first start on a machine compiles it, too: a minute or so"
WARM_UP_S = 20.0
"""An engine that has made no note by then cannot make any."""


@dataclass(frozen=True)
class Callbacks:
    """What the player does about it, called in the loop."""

    ready: Callable[[], None]
    lost: Callable[[], None]
    note: Callable[[protocol.Note], None]
    styles: Callable[[tuple[protocol.Style, ...]], None]


class Supervisor:
    """`command` starts an engine when `--listen fd:N` is added; with an `address` (unix:PATH or
    tcp://HOST:PORT) somebody else keeps the engine, who may want to hear a `token`, and nothing is
    started."""

    def __init__(self, command: Sequence[str], address: str = "", token: str = "") -> None:
        self.state: Literal["starting", "ready", "failed"] = "starting"
        self.restarts = 0
        self.ready: protocol.Ready | None = None
        """What the engine said of itself when it was last ready."""
        self.trouble = ""
        """Why there is none that is ready, where it was ready before or cannot be reached."""
        self._address, self._token = address, token
        self._engine: Connection | None = None
        self._pong = 0
        """The last ping that it answered."""
        self._reserves = Reserves(command)
        self._ready_at = 0.0
        """When an engine was last ready."""
        self._log = structlog.get_logger()

    @property
    def pid(self) -> int | None:
        """Of our child; None while there is none."""
        return self._engine.child.pid if self._engine and self._engine.child else None

    def send(self, message: protocol.Message) -> None:
        """Sends to the engine; while none is ready, nothing happens."""
        if self._engine and self.state == "ready":
            self._engine.send(message)

    async def prepare(self) -> None:
        """Has the first engine start, which takes longest, while its player puts itself together; `run` takes
        it over, or else `end` ends it."""
        if not self._address:
            with contextlib.suppress(EngineError):  # `run` will find out, and say so
                await self._reserves.begin()

    async def end(self) -> None:
        """Leaves no engine behind that does not play."""
        await self._reserves.end()

    async def run(self, callbacks: Callbacks) -> None:
        """Keeps an engine alive until cancelled, and then leaves none behind.

        Raises ModelError if the very first one of ours refuses to start: the settings are wrong.
        """
        try:
            await self._keep(callbacks)
        finally:
            await self.end()

    async def _keep(self, callbacks: Callbacks) -> None:
        clock = asyncio.get_running_loop().time
        failures = 0
        while True:
            self.state = "starting"
            came_up = False
            try:
                engine = await (reach(self._address, self._token) if self._address else self._reserves.take())
            except EngineError as error:
                reason = str(error)
            else:
                came_up, reason = await self._live(engine, callbacks)
                self.restarts += came_up or not self._address  # one elsewhere may never have been there
            if came_up and clock() - self._ready_at >= STEADY_S:
                failures = 0
            self.state = "starting" if came_up else "failed"
            delay_s = BACK_OFF_S[min(failures, len(BACK_OFF_S) - 1)]
            failures += 1
            tell = self._log.error if reason != self.trouble else self._log.info  # as it was: no news
            tell("engine_lost", reason=reason, restarts=self.restarts, again_in_s=delay_s)
            self.trouble = reason
            await asyncio.sleep(delay_s)

    async def _live(self, engine: Connection, callbacks: Callbacks) -> tuple[bool, str]:
        """One engine's life; whether it was ever ready, and why it ended."""
        self._engine, self._pong = engine, 0
        playing: asyncio.Future[protocol.Ready] = asyncio.get_running_loop().create_future()
        beside = [asyncio.create_task(self._ping(engine))]
        if not self._address:
            beside.append(asyncio.create_task(self._reserves.call(playing)))
        code = None
        try:
            playing.set_result(await self._get_ready(engine, callbacks))
            while True:
                self._hear(await engine.receive(), callbacks)
        except EngineError as error:
            reason = str(error)
        except asyncio.CancelledError:
            engine.kill()
            raise
        finally:
            for task in beside:
                task.cancel()
            came_up, self.state, self._engine = self.state == "ready", "starting", None
            if came_up:
                callbacks.lost()
            code = await engine.close()
        if code and code > 0 and self.ready is None:
            raise ModelError(f"the engine cannot start (exit code {code}): what it said is above")
        return came_up, reason if code is None else f"{reason}; exit code {code}"

    async def _get_ready(self, engine: Connection, callbacks: Callbacks) -> protocol.Ready:
        """Has it load, and then play a phrase that nobody hears; what it said of itself."""
        engine.greet()
        while not isinstance(said := await engine.receive(), protocol.Ready):
            self._hear(said, callbacks)
        self.ready = said
        self._log.info("engine_ready", **said.model_dump(exclude={"kind"}))
        for warm_up in WARM_UP:
            engine.send(warm_up)
        try:
            async with asyncio.timeout(WARM_UP_S):
                while not isinstance(message := await engine.receive(), protocol.Note):
                    self._hear(message, callbacks)
        except TimeoutError:
            raise EngineError(f"it made no note within {WARM_UP_S:.0f} s") from None
        engine.send(AFTER_WARM_UP)
        self.state, self._ready_at = "ready", asyncio.get_running_loop().time()
        self.trouble = ""
        callbacks.ready()
        return said

    def _hear(self, message: protocol.ToPlayer, callbacks: Callbacks) -> None:
        match message:
            case protocol.Note(epoch=AFTER_WARM_UP.epoch):
                pass  # still of the warm-up
            case protocol.Note():
                callbacks.note(message)
            case protocol.Styles(styles=styles):
                callbacks.styles(styles)
            case protocol.Pong(n=n):
                self._pong = n
            case protocol.Failed(reason=reason) if self._address:  # it may be mended over there at any time
                raise EngineError(f"the engine at {self._address} says: {reason}")
            case protocol.Failed(reason=reason) if self.ready is None:
                raise ModelError(reason)
            case protocol.Failed(reason=reason):
                raise EngineError(reason)

    async def _ping(self, engine: Connection) -> None:
        """Cuts it off when pings stay unanswered."""
        sent = unanswered = starting = 0
        worked_s = deque([engine.worked_s], maxlen=int(SILENCE_S / PING_S))  # shorter than the silence itself
        while True:
            # Counted, not timed: when this process itself stood still, the answer may be waiting to be read.
            await asyncio.sleep(PING_S)
            if engine.stopped and self.state != "ready":
                engine.cut("its process was stopped by a signal")
                return
            if self.state != "ready":
                starting += 1
                if starting * PING_S == SLOW_START_S:
                    self._tell_it_is_slow()
                continue
            if self._pong == sent:
                sent, unanswered = sent + 1, 0
                self.send(protocol.Ping(n=sent))
            else:
                unanswered += 1
            worked_s.append(engine.worked_s)
            if unanswered * PING_S >= self._patience_s(engine, worked_s):
                engine.cut(f"it left pings unanswered for {unanswered * PING_S:g} s")
                return

    def _tell_it_is_slow(self) -> None:
        reason = COMPILES
        if self._address:
            reason = (
                f"the engine at {self._address} has not answered yet: it loads its model, or stands still"
            )
            self.trouble = reason
        self._log.info("engine_still_starting", reason=reason)

    @staticmethod
    def _patience_s(engine: Connection, worked_s: Sequence[float | None]) -> float:
        """For how long an engine that has done so much work lately may leave a ping unanswered."""
        if engine.stopped:
            return PING_S
        may_work = engine.child is None or worked_s[0] != worked_s[-1] or engine.waits_for_a_core
        return STARVED_S if may_work else SILENCE_S
