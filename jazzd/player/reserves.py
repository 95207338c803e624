"""Engines that stand by for the one that plays: they have imported all, the next has loaded a light base."""

import asyncio
import contextlib
import math
import os
import time
from collections.abc import Sequence
from pathlib import Path

import structlog

from jazzd.engine import protocol
from jazzd.errors import EngineError
from jazzd.player.connection import TICKS_A_SECOND, Connection, spawn

AFTER_S = 1.0
"""An engine that has played for this long gets another in reserve: to start that takes computing time."""
LIGHT_PARAMETERS = 64_000_000
"""A base of no more than these (a quarter of a gigabyte) is loaded by the reserve, too, where a CPU plays.
A GPU's memory belongs to the engine that plays."""
ROOMY_GIB = 4.0
"""A machine with less memory has better use for the half of a gigabyte that such a reserve takes. With twice
that there is another behind it, which has only to load: an engine may crash again before a new one is up."""
REST_S = 0.5
"""A reserve that has not worked for so long has got ready."""
LOOK_S, SPARE = 0.25, 0.25
"""A reserve is started once so much of a core was idle for so long: where others take all there is, its start
would take it from the music."""
CORES = os.cpu_count() or 1
STAT = Path("/proc/stat")
PAGES = ("SC_PHYS_PAGES", "SC_PAGE_SIZE")
MEMORY_GIB = math.prod(map(os.sysconf, PAGES)) / 2**30 if hasattr(os, "sysconf") else 0.0
"""Of the machine; Windows, where no engine is started, does not tell it so."""


class Reserves:
    """`command` starts an engine."""

    def __init__(self, command: Sequence[str]) -> None:
        self._command = command
        self._first: Connection | None = None
        self._waiting: list[Connection] = []
        """The next one first."""
        self._starts = False
        """Whether the engine that was taken last is a new one, and no reserve."""
        self._log = structlog.get_logger()

    async def begin(self) -> None:
        """Has the first engine start and load at once. Raises EngineError."""
        self._first = await spawn(self._command)
        self._first.greet()

    async def take(self) -> Connection:
        """The next engine; a new one where none stands by. Raises EngineError."""
        first, self._first = self._first, None
        while self._waiting and not self._waiting[0].fit:
            await self._waiting.pop(0).close()
        self._starts = not self._waiting
        if first:  # even if it has failed: what it said of that is to be heard
            return first
        return await spawn(self._command) if self._starts else self._waiting.pop(0)

    async def call(self, playing: asyncio.Future[protocol.Ready]) -> None:
        """Has others stand by for the engine that will say this of itself."""
        with contextlib.suppress(EngineError):  # then it has to be started when it is needed
            # Beside its own start: to import takes one core, and the next one may be needed soon.
            if self._starts and CORES > 1 and MEMORY_GIB >= ROOMY_GIB:
                await self._add()
            light = is_light(await playing)
            self._load_next(light)  # at once: it has imported all already
            await asyncio.sleep(AFTER_S)
            while True:
                # One after another: the music needs its cores.
                for reserve in self._waiting:
                    await _rests(reserve)
                if len(self._waiting) >= (2 if light and MEMORY_GIB >= 2 * ROOMY_GIB else 1):
                    return
                await self._add()
                self._load_next(light)

    async def _add(self) -> None:
        began = time.monotonic()
        while await _idle_cores() < SPARE:
            pass
        self._log.debug("reserve_started", waited_s=round(time.monotonic() - began, 2))
        self._waiting.append(await spawn(self._command))

    def _load_next(self, light: bool) -> None:
        if self._waiting and light:
            self._waiting[0].greet()

    async def end(self) -> None:
        """Leaves none behind."""
        if self._first:
            self._waiting.append(self._first)
            self._first = None
        while self._waiting:
            reserve = self._waiting.pop()
            reserve.kill()
            await reserve.close()


def is_light(engine: protocol.Ready) -> bool:
    """Whether two engines may hold what this one holds."""
    return engine.device == "cpu" and engine.parameters <= LIGHT_PARAMETERS and MEMORY_GIB >= ROOMY_GIB


async def _idle_cores() -> float:
    """How many of the machine's cores had nothing to do, just now."""
    before, began = _idle_s(), time.monotonic()
    await asyncio.sleep(LOOK_S)
    return (_idle_s() - before) / (time.monotonic() - began)


def _idle_s() -> float:
    """Seconds that the machine's cores were idle, or had only what gives way to others (nice), all together
    (proc(5)); where the system does not tell they always are."""
    try:
        _, _, nice, _, idle, *_ = STAT.read_text().split(maxsplit=5)
    except OSError:
        return time.monotonic()
    return (int(nice) + int(idle)) / TICKS_A_SECOND


async def _rests(reserve: Connection) -> None:
    """Returns when it works no more."""
    before: float | None = -1.0
    while (now := reserve.worked_s) != before:
        before = now
        await asyncio.sleep(REST_S)
