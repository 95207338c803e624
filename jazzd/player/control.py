"""The daemon's ear for commands: a Unix socket, one JSON request a line, one JSON answer a line."""

import asyncio
import contextlib
import fcntl
import json
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

from jazzd.config import socket_path
from jazzd.errors import JazzdError

REQUEST_LIMIT, ANSWER_LIMIT = 4096, 1 << 20
"""Longest line in bytes."""
TIMEOUT_S = 2.0

Answer = Callable[[dict[str, Any]], dict[str, Any]]


def ask(request: dict[str, Any], path: Path | None = None) -> dict[str, Any]:
    """The running daemon's answer, e.g. to {"do": "status"}. Raises JazzdError if there is none."""
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(TIMEOUT_S)
            connection.connect(str(path or socket_path()))
            connection.sendall(json.dumps(request).encode() + b"\n")
            with connection.makefile("rb") as lines:
                answer = json.loads(lines.readline(ANSWER_LIMIT))
    except (FileNotFoundError, ConnectionRefusedError):
        raise JazzdError("no jazzd daemon is running here; start one with `jazzd run`") from None
    except TimeoutError:
        raise JazzdError(f"the jazzd daemon did not answer within {TIMEOUT_S:.0f} s; restart it") from None
    except (OSError, ValueError) as error:
        raise JazzdError(f"the jazzd daemon gave no answer ({error}); is it just stopping?") from None
    if "error" in answer:
        raise JazzdError(answer["error"])
    return dict(answer)


@contextlib.contextmanager
def only_daemon(path: Path) -> Iterator[None]:
    """Makes this process the one daemon on the socket `path`. Raises JazzdError if another one is."""
    # A lock, not a look at the socket: it goes with the process, also after kill -9, and two cannot both win.
    try:
        lock = path.with_suffix(".lock").open("a+")
    except OSError as error:
        raise JazzdError(
            f"cannot keep the control socket at {path}: {error.strerror}; set JAZZD_SOCKET"
        ) from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            pid = lock.read().strip()
            raise JazzdError(
                f"jazzd is already running (pid {pid}); stop it, or set JAZZD_SOCKET to run a second one"
            ) from None
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        path.unlink(missing_ok=True)  # left by a daemon that was killed
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


@contextlib.asynccontextmanager
async def listening(path: Path, answer: Answer) -> AsyncIterator[None]:
    """Answers requests on the socket `path`, which is ours by `only_daemon`."""
    conversations: set[asyncio.Task[None]] = set()

    def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(_converse(reader, writer, answer))
        conversations.add(task)
        task.add_done_callback(conversations.discard)

    server = await asyncio.start_unix_server(converse, sock=_bound(path), limit=REQUEST_LIMIT)
    try:
        yield
    finally:
        server.close()
        for task in conversations:
            task.cancel()
        await asyncio.gather(*conversations, return_exceptions=True)


def _bound(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    before = os.umask(0o177)
    try:
        listener.bind(str(path))
    except OSError as error:
        listener.close()
        raise JazzdError(f"cannot listen for commands at {path}: {error}; set JAZZD_SOCKET") from None
    finally:
        os.umask(before)
    return listener


async def _converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answer: Answer) -> None:
    # A client that breaks off, dawdles or sends endless lines is hung up on.
    try:
        while True:
            async with asyncio.timeout(TIMEOUT_S):
                line = await reader.readline()
                if not line:
                    break
                writer.write(json.dumps(_answer(line, answer)).encode() + b"\n")
                await writer.drain()
    except (OSError, ValueError):  # a time-out is an OSError, a line too long a ValueError
        pass
    finally:
        writer.close()


def _answer(line: bytes, answer: Answer) -> dict[str, Any]:
    try:
        request = json.loads(line)
    except (ValueError, RecursionError):
        request = None
    if not isinstance(request, dict):
        return {"error": 'a request is one JSON object a line, for example {"do": "status"}'}
    try:
        return answer(request)
    except JazzdError as error:
        return {"error": str(error)}
