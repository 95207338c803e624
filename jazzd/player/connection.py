"""The connection to an engine, and the process behind it where that is a child of ours."""

import asyncio
import contextlib
import os
import socket
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from jazzd import log
from jazzd.engine import protocol
from jazzd.errors import EngineError

CONNECT_S = 5.0
FAREWELL_S = 1.0
"""What an engine gets to leave by itself, once its connection is closed."""
TICKS_A_SECOND = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
"""Of /proc."""

Told = TypeVar("Told", bound=protocol.Message)


@dataclass
class Connection:
    """`token` is what whoever keeps the engine wants to hear."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    token: str = ""
    child: asyncio.subprocess.Process | None = None
    greeted: bool = False
    cut_for: str = ""
    """Why we ended it, if we did."""

    @property
    def lives(self) -> bool:
        """Whether our child still runs."""
        return self.child is not None and self.child.returncode is None

    @property
    def stopped(self) -> bool:
        """Whether our child was stopped by a signal, and will not go on by itself."""
        return self._told[:1] == ["T"]

    @property
    def fit(self) -> bool:
        """Whether our child can be used."""
        return self.lives and not self.stopped

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

    def send(self, message: protocol.Message) -> None:
        """Without waiting; what cannot arrive any more is dropped."""
        if not self.writer.is_closing():
            self.writer.write(protocol.line(message))

    def greet(self) -> None:
        """Says hello, once: the engine loads then, and what it says of that waits to be received."""
        if not self.greeted:
            self.greeted = True
            self.send(protocol.Hello(token=self.token))

    async def receive(self) -> protocol.ToPlayer:
        """The engine's next message. Raises EngineError when there will be none."""
        try:
            line = await self.reader.readline()
        except OSError as error:
            raise EngineError(self.cut_for or f"the connection broke ({error})") from None
        except ValueError:
            raise EngineError(f"it sent a line longer than {protocol.LINE_LIMIT} bytes") from None
        if not line.endswith(b"\n"):
            raise EngineError(self.cut_for or "it hung up")
        return protocol.read_by_player(line)

    async def receive_a(self, kind: type[Told]) -> Told:
        """The engine's next message of that kind. Raises EngineError when it fails before."""
        while not isinstance(message := await self.receive(), kind):
            if isinstance(message, protocol.Failed):
                raise EngineError(message.reason)
        return message

    def kill(self) -> None:
        """Ends our child at once, whatever it is doing: it has nothing to put in order."""
        if self.child and self.lives:
            self.child.kill()

    def cut(self, reason: str) -> None:
        """Ends the connection, too, and with it all waiting for the engine: `receive` raises the reason."""
        self.cut_for = reason
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


async def reach(address: str, token: str = "") -> Connection:
    """The engine that somebody else keeps at `unix:PATH` or `tcp://HOST:PORT`. Raises EngineError."""
    kind, _, place = address.partition(":")
    try:
        async with asyncio.timeout(CONNECT_S):
            if kind == "unix":
                streams = await asyncio.open_unix_connection(place, limit=protocol.LINE_LIMIT)
            else:
                host, _, port = place.removeprefix("//").rpartition(":")
                host = host.strip("[]")
                streams = await asyncio.open_connection(host, int(port), limit=protocol.LINE_LIMIT)
    except (OSError, UnicodeError) as error:  # TimeoutError is one; the other: what can be no name
        raise EngineError(f"no engine at {address} ({error or 'timeout'})") from None
    reader, writer = streams
    protocol.keep_alive(writer)
    return Connection(reader, writer, token)


async def spawn(command: Sequence[str]) -> Connection:
    """A new engine, started by `command` with `--listen fd:N` added. Raises EngineError."""
    # An inherited socket, not an address: nobody else can connect, and when either process dies, however it
    # dies, the other one reads the end of the stream.
    try:
        ours, theirs = socket.socketpair()
    except OSError as error:  # no file handles are left, which may pass
        raise EngineError(f"cannot talk to an engine: {error.strerror}") from None
    with theirs:
        reader, writer = await asyncio.open_unix_connection(sock=ours, limit=protocol.LINE_LIMIT)
        try:
            child = await asyncio.create_subprocess_exec(
                *command,
                "--listen",
                f"fd:{theirs.fileno()}",
                stdin=subprocess.DEVNULL,
                stdout=log.for_children(),  # our stdout belongs to our user
                stderr=log.for_children(),
                pass_fds=[theirs.fileno()],
                **_apart(),
            )
        except OSError as error:
            writer.close()
            raise EngineError(f"cannot start {command[0]}: {error.strerror}") from None
        except asyncio.CancelledError:
            writer.close()
            raise
    return Connection(reader, writer, child=child)


def _apart() -> dict[str, Any]:
    """What starts a child that hears no Ctrl-C: that is for us, who end the engine when the notes are off.

    It stays in our session: Linux shares the time out among sessions, and may starve one for seconds that
    seldom works. uvloop does not know asyncio's own word for it.
    """
    uvloop = type(asyncio.get_running_loop()).__module__.startswith("uvloop")
    return {"preexec_fn": os.setpgrp} if uvloop else {"process_group": 0}
