"""The engine process: a loop that lets players in and moves lines, and the worker's thread beside it."""

import asyncio
import errno
import os
import signal
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from urllib.parse import urlsplit

from jazzd.engine.door import FAREWELL_S, READ_SIZE, Door
from jazzd.engine.worker import Loader, Worker
from jazzd.errors import ConfigError, EngineError

GREETING_TIMEOUT_S = 10.0
LOOPBACK = ("127.0.0.1", "localhost", "::1")


async def serve(listen: str, load: Loader, token: str = "") -> bool:
    """Serve one player at a time until the process is told to end; whether nothing is at work any more.

    A thread that still loads or compiles when Python ends would abort the process.

    `listen` is `unix:PATH`, `tcp://HOST:PORT`, or `fd:N` for a socket inherited from the player, whose end is
    the engine's end too. Raises ConfigError for what is no address to listen on, EngineError for one that
    cannot be had, and what loading raises.
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


async def _listen(listen: str, door: Door, stopped: asyncio.Event) -> Callable[[], object]:
    """Let players in; returns what ends that, without a wait for those who are in. Raises ConfigError or
    EngineError."""
    kind, _, rest = listen.partition(":")
    try:
        if kind == "fd":
            connection = socket.socket(fileno=int(rest))
            talk = asyncio.create_task(
                door.talk(*await asyncio.open_connection(sock=connection, limit=READ_SIZE))
            )
            talk.add_done_callback(lambda _: stopped.set())
            return talk.cancel
        if kind == "unix" and rest:
            return await _listen_at(rest, door)
        if kind == "tcp" and (address := urlsplit(listen)).hostname and address.port is not None:
            if address.hostname not in LOOPBACK and not door.token:
                raise ConfigError(
                    f"{listen}: only this machine may connect without a token; say --token-file, or listen "
                    "on 127.0.0.1"
                )
            server = await asyncio.start_server(door.talk, address.hostname, address.port, limit=READ_SIZE)
            return server.close
        raise ValueError("no such kind of address")
    except OSError as error:
        raise EngineError(f"cannot listen on {listen!r}: {error.strerror or error}") from None
    except ValueError as error:
        raise ConfigError(f"cannot listen on {listen!r}: {error}; use unix:PATH or tcp://HOST:PORT") from None


async def _listen_at(path: str, door: Door) -> Callable[[], object]:
    """The socket goes with its engine. Raises OSError, also where another engine has it."""
    with socket.socket(socket.AF_UNIX) as other:
        other.setblocking(False)
        if other.connect_ex(path) in (0, errno.EAGAIN):  # asyncio would take it away from that one
            raise OSError(errno.EADDRINUSE, "another engine listens there")
    before = os.umask(0o177)
    try:
        server = await asyncio.start_unix_server(door.talk, path, limit=READ_SIZE)
    finally:
        os.umask(before)

    def close() -> None:
        server.close()
        with suppress(OSError):
            os.unlink(path)

    return close
