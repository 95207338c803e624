"""What the way between player and engine costs: the real engine, and pings to the thread that decodes."""

import asyncio
import contextlib
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

from jazzd.bench import machine
from jazzd.engine import protocol
from jazzd.errors import EngineError
from jazzd.player.connection import Connection, reach
from jazzd.player.latency import summary

PINGS, EVERY_S = 2000, 0.005
COMES_UP_S = 240.0


def measure(pings: int = PINGS, options: Sequence[str] = ()) -> dict[str, Any]:
    """Round trips through a Unix socket and through TCP on the loopback, in milliseconds.

    `options` are those of `jazzd engine`. Raises EngineError if none comes up.
    """
    with tempfile.TemporaryDirectory(prefix="jazzd-") as folder, socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        addresses = {"unix": f"unix:{folder}/engine.sock", "tcp": f"tcp://127.0.0.1:{free.getsockname()[1]}"}
        free.close()
        trips = {
            kind: asyncio.run(_round_trips_ms(address, pings, options)) for kind, address in addresses.items()
        }
    return machine.describe() | {f"{kind}_ms": summary(times) for kind, times in trips.items()}


async def _round_trips_ms(address: str, pings: int, options: Sequence[str]) -> list[float]:
    async with _engine(address, options) as engine:
        trips = []
        for number in range(pings):
            began = time.perf_counter()
            engine.send(protocol.Ping(n=number))
            await engine.receive_a(protocol.Pong)
            trips.append(1000 * (time.perf_counter() - began))
            await asyncio.sleep(EVERY_S)
        return trips


@contextlib.asynccontextmanager
async def _engine(address: str, options: Sequence[str]) -> AsyncIterator[Connection]:
    """An engine that is ready. Raises EngineError."""
    command = [sys.executable, "-m", "jazzd", "engine", "--listen", address, *options]
    process = await asyncio.create_subprocess_exec(*command)
    try:
        async with asyncio.timeout(COMES_UP_S):
            engine = await _connected(address, process)
            engine.greet()
            await engine.receive_a(protocol.Ready)
        yield engine
        await engine.close()
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


async def _connected(address: str, process: asyncio.subprocess.Process) -> Connection:
    while process.returncode is None:
        with contextlib.suppress(EngineError):  # not listening yet
            return await reach(address)
        await asyncio.sleep(0.05)
    raise EngineError("the engine did not come up: what it said is above")
