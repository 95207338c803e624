"""The daemon's ear for commands: one JSON request a line, one JSON answer a line.

It is a Unix socket that only its user may open. Windows has none that Python knows: there it is a port of the
loopback, and the file in the socket's place, which only its user may read, says which, and the word to say
first.
"""

import asyncio
import contextlib
import hmac
import json
import os
import secrets
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import filelock
import structlog

from jazzd.config import socket_path
from jazzd.errors import JazzdError

REQUEST_LIMIT, ANSWER_LIMIT = 4096, 1 << 20
"""Longest line in bytes."""
TIMEOUT_S, PATIENCE_S = 2.0, 20.0
"""How long a client may take to ask; how long an answer may take that needs the disk."""
UNIX = hasattr(socket, "AF_UNIX")

Answer = Callable[[dict[str, Any]], dict[str, Any] | Awaitable[dict[str, Any]]]


def ask(request: dict[str, Any], path: Path | None = None, timeout_s: float = TIMEOUT_S) -> dict[str, Any]:
    """The running daemon's answer, e.g. to {"do": "status"}. Raises JazzdError if there is none."""
    try:
        with _connected(path or socket_path()) as connection:
            connection.settimeout(timeout_s)
            connection.sendall(json.dumps(request).encode() + b"\n")
            with connection.makefile("rb") as lines:
                answer = json.loads(lines.readline(ANSWER_LIMIT))
    except (FileNotFoundError, ConnectionRefusedError):
        raise JazzdError("no jazzd daemon is running here; start one with `jazzd run`") from None
    except TimeoutError:
        raise JazzdError(f"the jazzd daemon did not answer within {timeout_s:.0f} s; restart it") from None
    except (OSError, ValueError, KeyError, TypeError) as error:  # the last two of a port that is none
        raise JazzdError(f"the jazzd daemon gave no answer ({error}); is it just stopping?") from None
    if "error" in answer:
        raise JazzdError(answer["error"])
    return dict(answer)


@contextlib.contextmanager
def _connected(path: Path) -> Iterator[socket.socket]:
    """A connection to the daemon at `path`, its word said. Raises OSError or ValueError."""
    with socket.socket(socket.AF_UNIX if UNIX else socket.AF_INET) as connection:
        connection.settimeout(TIMEOUT_S)
        if UNIX:
            connection.connect(str(path))
        else:
            place = json.loads(path.read_text())
            connection.connect(("127.0.0.1", int(place["port"])))
            connection.sendall(f"{place['word']}\n".encode())
        yield connection


@contextlib.contextmanager
def only_daemon(path: Path) -> Iterator[None]:
    """Makes this process the one daemon on the socket `path`. Raises JazzdError if another one is."""
    # A lock, not a look at the socket: it goes with the process, also after kill -9, and two cannot both win.
    lock, holder = filelock.FileLock(f"{path}.lock"), path.with_name(f"{path.name}.pid")
    try:
        path.parent.stat()  # the lock would make the folder
        lock.acquire(timeout=0)
    except filelock.Timeout:
        pid = holder.read_text().strip() if holder.exists() else "unknown"
        raise JazzdError(
            f"jazzd is already running (pid {pid}); stop it, or set JAZZD_SOCKET to run a second one"
        ) from None
    except OSError as error:
        raise JazzdError(
            f"cannot keep the control socket at {path}: {error.strerror}; set JAZZD_SOCKET"
        ) from None
    with lock:
        try:
            holder.write_text(f"{os.getpid()}\n")
            path.unlink(missing_ok=True)  # left by a daemon that was killed
            yield
        finally:
            for file in (path, holder):
                file.unlink(missing_ok=True)
            lock.release(force=True)


@contextlib.asynccontextmanager
async def listening(path: Path, answer: Answer) -> AsyncIterator[None]:
    """Answers requests on the socket `path`, which is ours by `only_daemon`."""
    conversations: set[asyncio.Task[None]] = set()
    listener, word = _bound(path)

    def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(_converse(reader, writer, answer, word))
        conversations.add(task)
        task.add_done_callback(conversations.discard)

    serve = asyncio.start_unix_server if UNIX else asyncio.start_server
    server = await serve(converse, sock=listener, limit=REQUEST_LIMIT)
    try:
        yield
    finally:
        server.close()
        for task in conversations:
            task.cancel()
        await asyncio.gather(*conversations, return_exceptions=True)


def _bound(path: Path) -> tuple[socket.socket, str]:
    """What to listen on, and the word that has to be said first; "" for none. Raises JazzdError."""
    listener = socket.socket(socket.AF_UNIX if UNIX else socket.AF_INET)
    word = "" if UNIX else secrets.token_hex(16)
    before = os.umask(0o177)
    try:
        if UNIX:
            listener.bind(str(path))
        else:
            listener.bind(("127.0.0.1", 0))
            path.write_text(json.dumps({"port": listener.getsockname()[1], "word": word}))
    except OSError as error:
        listener.close()
        raise JazzdError(f"cannot listen for commands at {path}: {error}; set JAZZD_SOCKET") from None
    finally:
        os.umask(before)
    return listener, word


async def _converse(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answer: Answer, word: str
) -> None:
    # A client that breaks off, dawdles, sends endless lines or does not know the word is hung up on.
    try:
        async with asyncio.timeout(TIMEOUT_S):
            if word and not hmac.compare_digest((await reader.readline()).strip(), word.encode()):
                return
        while True:
            async with asyncio.timeout(TIMEOUT_S):
                line = await reader.readline()
            if not line:
                break
            async with asyncio.timeout(PATIENCE_S):
                writer.write(json.dumps(await _answer(line, answer)).encode() + b"\n")
                await writer.drain()
    except TimeoutError:
        writer.transport.abort()  # to close it would wait until all that was said has been read
    except (OSError, ValueError):  # a line too long is a ValueError
        pass
    finally:
        writer.close()


async def _answer(line: bytes, answer: Answer) -> dict[str, Any]:
    try:
        request = json.loads(line)
    except (ValueError, RecursionError):
        request = None
    if not isinstance(request, dict):
        return {"error": 'a request is one JSON object a line, for example {"do": "status"}'}
    try:
        found = answer(request)
        return await found if isinstance(found, Awaitable) else found
    except JazzdError as error:
        return {"error": str(error)}
    except Exception as error:  # a mistake of ours: whoever asked is to hear of it, too
        structlog.get_logger().exception("request_not_answered")
        return {"error": f"the daemon could not answer that ({error!r}); its log says more"}
