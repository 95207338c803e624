"""MIDI over TCP: the bytes of a MIDI cable both ways, as mido's sockets speak it, for several clients."""

import asyncio
import contextlib
import socket
from collections.abc import Callable

from mido import Message

from jazzd.errors import ConfigError, MidiError
from jazzd.player.clock import Clock
from jazzd.player.messages import Decoder, Held

BUFFER_LIMIT = 1 << 14
"""Bytes that a client may be behind in reading; then it is dropped."""
CLIENT_LIMIT = 16

_READ_SIZE = 4096
_TURN = 16  # messages of one client in one turn of the loop: the others, and the music, come in between
_SEND_BUFFER, _RECEIVE_BUFFER = 65536, 16384  # bytes; they would grow to megabytes
_CLOSE_TIMEOUT_S = 0.5


class TcpServer:
    """Hears every client and sends to all. It belongs to the running event loop; `send` is for any thread.

    `on_message(message, stamp)` is called in the loop with each message and when it came (clock seconds).
    """

    def __init__(self, on_message: Callable[[Message, float], None], clock: Clock) -> None:
        self.address = ""
        """HOST:PORT once it listens; the real port where 0 was asked for."""
        self._on_message = on_message
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._server: asyncio.Server | None = None
        self._clients: dict[asyncio.StreamWriter, asyncio.Task[None]] = {}
        self.greeting: tuple[Message, ...] = ()
        """What every client is told first: it was not there when the ports were."""
        self.on_greeted: Callable[[], None] = lambda: None

    async def listen(self, address: str) -> None:
        """Listens at HOST:PORT (port 0: any that is free). Raises ConfigError or MidiError."""
        host, port = _parse(address)
        try:
            self._server = await asyncio.start_server(self._serve, host, port, limit=_READ_SIZE)
        except OSError as error:
            reason = error.strerror or str(error)
            raise MidiError(
                f"cannot listen for MIDI at {address}: {reason}; set midi.tcp_listen to a free address"
            ) from None
        self.address = f"{host}:{self._server.sockets[0].getsockname()[1]}"

    def send(self, message: Message) -> None:
        """Sends to every client, in the order of the calls. Never raises, never waits."""
        if self._clients:
            with contextlib.suppress(RuntimeError):  # the loop is closed, and with it every client
                self._loop.call_soon_threadsafe(self._write, message.bin())

    async def close(self) -> None:
        """Sends what was handed in, then hangs up; a client that does not read is not waited for."""
        if self._server is None:
            return
        self._server.close()
        await asyncio.sleep(0)  # whatever `send` left with the loop is written now
        for writer in self._clients:
            writer.close()
        tasks = list(self._clients.values())
        if tasks:
            await asyncio.wait(tasks, timeout=_CLOSE_TIMEOUT_S)
        for writer in list(self._clients):
            writer.transport.abort()
        await asyncio.gather(*tasks)

    def _write(self, data: bytes) -> None:
        for writer in self._clients:
            if writer.transport.get_write_buffer_size() > BUFFER_LIMIT:
                writer.transport.abort()
            elif not writer.is_closing():
                writer.write(data)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None or len(self._clients) >= CLIENT_LIMIT:
            writer.transport.abort()
            return
        connection = writer.get_extra_info("socket")
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
        writer.write(b"".join(message.bin() for message in self.greeting))
        self._clients[writer] = task
        self.on_greeted()
        held = Held()
        try:
            await self._read(reader, held)
        finally:
            del self._clients[writer]
            writer.close()
            for message in held.released():
                self._on_message(message, self._clock.now())

    async def _read(self, reader: asyncio.StreamReader, held: Held) -> None:
        decoder = Decoder()
        with contextlib.suppress(OSError):  # a broken connection is an end like any other
            while data := await reader.read(_READ_SIZE):
                stamp = self._clock.now()
                for count, message in enumerate(decoder.feed(data), 1):
                    held.heard(message)
                    self._on_message(message, stamp)
                    if count % _TURN == 0:
                        await asyncio.sleep(0)
                        stamp = self._clock.now()  # never older than what another client was heard with
                await asyncio.sleep(0)  # read() does not give way while there is more


def _parse(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise ConfigError(f"midi.tcp_listen is {address!r}: write HOST:PORT, such as 127.0.0.1:9080")
    return host.strip("[]"), int(port)
