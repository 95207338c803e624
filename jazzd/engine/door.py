"""The engine's door: one player at a time, greeted, checked and kept an eye on."""

import asyncio
import hmac
from collections.abc import Callable
from contextlib import suppress

import structlog

from jazzd.engine import protocol
from jazzd.engine.worker import Send, Worker
from jazzd.errors import EngineError

log = structlog.get_logger()
FAREWELL_S = 1.0
GREETING_LIMIT, STRANGERS = 4096, 64
"""Bytes of a greeting, and how many may be about to greet at a time: nobody knows them yet."""
READ_SIZE = 1 << 14
BEHIND_LIMIT = 4 << 20
"""Bytes that a player may be behind in reading; then it has gone."""
MOST_WAITING, WAIT_S = 1024, 0.01
"""Messages that a player may be ahead of the worker; what it sends then is left on the wire for so long."""


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
        self._strangers = 0
        self._greeted = asyncio.Event()

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, from `Hello` to its end."""
        loop = asyncio.get_running_loop()

        def send(message: protocol.Message) -> None:
            with suppress(RuntimeError):  # the loop is gone, and the player with it
                loop.call_soon_threadsafe(_write, writer, protocol.line(message))

        protocol.keep_alive(writer)
        lines = _Lines(reader)
        try:
            hello = await self._greeting(lines)
            if hello is None:
                return  # nobody's: a look whether we are here, or a reserve that was not needed
            self._check(hello)
            self._player = writer
            self._worker.tell(hello, send)
            self._greeted.set()
            self._on_greeted()
            await self._pass_on(lines, send)
        except (EngineError, OSError) as error:
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

    async def _greeting(self, lines: "_Lines") -> protocol.ToEngine | None:
        """What a stranger says first, if anything. Raises EngineError."""
        if self._strangers >= STRANGERS:
            raise EngineError("too many are at the door; try again")
        self._strangers += 1
        try:
            said = await asyncio.wait_for(lines.next(GREETING_LIMIT), self._patience_s)
        except TimeoutError:
            raise EngineError(f"no greeting came within {self._patience_s:g} s") from None
        finally:
            self._strangers -= 1
        return protocol.read_by_engine(said) if said else None

    async def _pass_on(self, lines: "_Lines", send: Send) -> None:
        """The player's messages to the worker, until it hangs up. Raises EngineError for one out of turn."""
        begun = False
        while data := await lines.next(protocol.LINE_LIMIT):
            message = protocol.read_by_engine(data)
            begun = begun or isinstance(message, protocol.Begin)
            if isinstance(message, protocol.Hello) or (isinstance(message, protocol.Revise) and not begun):
                raise EngineError(f"`{message.kind}` came out of turn")
            self._worker.tell(message, send)
            while self._worker.waiting > MOST_WAITING:  # noqa: ASYNC110  the worker is a thread
                await asyncio.sleep(WAIT_S)

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
            raise EngineError("the token is wrong; give both the same, by engine.token_file and --token-file")
        if self._player:
            raise EngineError(protocol.IN_USE)


class _Lines:
    """What comes over a connection, line by line."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader, self._came = reader, bytearray()

    async def next(self, limit: int) -> bytes:
        """The next line, or what the end left of it. Raises EngineError for more than `limit` bytes."""
        searched = 0
        while (end := self._came.find(b"\n", searched)) < 0 and len(self._came) <= limit:
            searched = len(self._came)
            if not (data := await self._reader.read(READ_SIZE)):
                break
            self._came += data
        end = len(self._came) if end < 0 else end
        if end > limit:
            raise EngineError(f"a line is longer than {limit} bytes")
        line = bytes(self._came[: end + 1])
        del self._came[: end + 1]
        return line


def _write(writer: asyncio.StreamWriter, data: bytes) -> None:
    """Sends to a player that reads; one that does not is let go of."""
    if writer.transport.get_write_buffer_size() > BEHIND_LIMIT:
        log.warning("player_refused", reason="it does not read what it is sent")
        writer.transport.abort()
    elif not writer.is_closing():
        writer.write(data)
