"""Engines that stand by for the one that plays: they have imported all, the next has loaded a light base."""

import asyncio
import contextlib
import math
import os
from collections.abc import Sequence

from jazzd.engine import protocol
from jazzd.errors import EngineError
from jazzd.player.connection import Connection, spawn

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
CORES = os.cpu_count() or 1
PAGES = ("SC_PHYS_PAGES", "SC_PAGE_SIZE")
MEMORY_GIB = math.prod(map(os.sysconf, PAGES)) / 2**30 if hasattr(os, "sysconf") else 0.0
"""Of the machine; Windows, where no engine is started, does not tell it so."""


class Reserves:
    """`command` starts an engine."""

    def __init__(self, command: Sequence[str]) -> None:
        self._command = command
        self._waiting: list[Connection] = []
        """The next one first."""

    async def take(self) -> Connection:
        """The next engine. Where none stands by it is a new one, and another is started beside it: to import
        takes one core, and the next engine may be needed soon. Raises EngineError."""
        while self._waiting and not self._waiting[0].fit:
            await self._waiting.pop(0).close()
        if not self._waiting:
            self._waiting.append(await spawn(self._command))
            if CORES > 1 and MEMORY_GIB >= ROOMY_GIB:
                with contextlib.suppress(EngineError):  # then there is one later
                    self._waiting.append(await spawn(self._command))
        return self._waiting.pop(0)

    async def call(self, playing: protocol.Ready) -> None:
        """Has others stand by for the engine that says this of itself, once it has played for a while."""
        light = is_light(playing)
        self._load_next(light)  # at once: it has imported all already
        await asyncio.sleep(AFTER_S)
        # One after another: the music needs its cores.
        with contextlib.suppress(EngineError):  # then it has to be started when it is needed
            while True:
                for reserve in self._waiting:
                    await _rests(reserve)
                if len(self._waiting) >= (2 if light and MEMORY_GIB >= 2 * ROOMY_GIB else 1):
                    return
                self._waiting.append(await spawn(self._command))
                self._load_next(light)

    def _load_next(self, light: bool) -> None:
        if self._waiting and light:
            self._waiting[0].greet()

    async def end(self) -> None:
        """Leaves none behind."""
        for reserve in self._waiting:
            reserve.kill()
            await reserve.close()


def is_light(engine: protocol.Ready) -> bool:
    """Whether two engines may hold what this one holds."""
    return engine.device == "cpu" and engine.parameters <= LIGHT_PARAMETERS and MEMORY_GIB >= ROOMY_GIB


async def _rests(reserve: Connection) -> None:
    """Returns when it works no more."""
    before: float | None = -1.0
    while (now := reserve.worked_s) != before:
        before = now
        await asyncio.sleep(REST_S)
