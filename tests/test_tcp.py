import asyncio
import random
import socket
import threading
from collections.abc import AsyncIterator, Callable

import mido
import mido.sockets
import pytest
from mido import Message

from jazzd.errors import ConfigError, MidiError
from jazzd.player.clock import MonotonicClock
from jazzd.player.tcp import CLIENT_LIMIT, TcpServer

NOTE = Message("note_on", channel=1, note=60, velocity=61)


class Room:
    """A server, what it heard, and its clients."""

    def __init__(self) -> None:
        self.heard: list[Message] = []
        self.writers: list[asyncio.StreamWriter] = []
        self.server = TcpServer(lambda message, stamp: self.heard.append(message), MonotonicClock())

    @property
    def port(self) -> int:
        return int(self.server.address.rpartition(":")[2])

    async def enter(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        self.writers.append(writer)
        await until(lambda: len(self.server._clients) == len(self.writers))
        return reader, writer

    async def enter_lazily(self) -> socket.socket:
        """A client that never reads."""
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", self.port))
        await until(lambda: len(self.server._clients) == len(self.writers) + 1)
        return client


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.002)


@pytest.fixture
async def room() -> AsyncIterator[Room]:
    room = Room()
    await room.server.listen("127.0.0.1:0")
    yield room
    for writer in room.writers:
        writer.transport.abort()
    await room.server.close()


async def test_every_client_is_heard_and_hears(room: Room) -> None:
    clients = [await room.enter() for _ in range(3)]
    for number, (_, writer) in enumerate(clients):
        writer.write(NOTE.copy(note=number).bin())
    await until(lambda: len(room.heard) == 3)
    assert sorted(message.note for message in room.heard) == [0, 1, 2]
    thread = threading.Thread(target=room.server.send, args=(NOTE,))
    thread.start()
    for reader, _ in clients:
        assert await reader.readexactly(3) == NOTE.bin()
    thread.join()


async def test_mido_is_a_client(room: Room) -> None:
    def play() -> Message:
        with mido.sockets.connect("127.0.0.1", room.port) as port:
            port.send(NOTE)
            return port.receive()

    client = asyncio.create_task(asyncio.to_thread(play))
    await until(lambda: room.heard)
    room.server.send(NOTE.copy(note=72))
    assert await client == NOTE.copy(note=72)
    assert room.heard[0] == NOTE


async def test_what_a_client_held_is_released_when_it_is_gone(room: Room) -> None:
    _, writer = await room.enter()
    pedals = [Message("control_change", control=control, value=127) for control in (64, 66, 67, 69, 1)]
    wheels = [Message("pitchwheel", pitch=4000), Message("aftertouch", value=9)]
    held = [NOTE, NOTE.copy(note=62), NOTE.copy(note=64), *pedals, *wheels]
    up = [NOTE.copy(note=62, velocity=0), Message("note_off", channel=1, note=64), pedals[2].copy(value=0)]
    for message in [*held, *up, Message("control_change", control=7, value=9)]:
        writer.write(message.bin())
    await until(lambda: len(room.heard) == 14)
    writer.transport.abort()
    await until(lambda: len(room.heard) == 21)
    assert room.heard[14:] == [
        Message("note_off", channel=1, note=60),
        *(Message("control_change", control=control, value=0) for control in (1, 64, 66, 69)),
        Message("aftertouch", value=0),
        Message("pitchwheel", pitch=0),
    ]


async def test_random_bytes_change_nothing_for_the_others(room: Room) -> None:
    rng = random.Random(0)
    _, writer = await room.enter()
    writer.write(rng.randbytes(50_000) + b"\xf0" + bytes(200_000))
    await writer.drain()
    _, other = await room.enter()
    other.write(NOTE.copy(channel=15, note=127, velocity=127).bin())
    other.write(b"\x80")  # and a message that is never finished
    await until(lambda: NOTE.copy(channel=15, note=127, velocity=127) in room.heard)


async def test_a_flood_of_one_client_leaves_room_for_the_others(room: Room) -> None:
    _, writer = await room.enter()
    _, other = await room.enter()
    writer.write(b"\x90\x40\x40" * 20_000)
    other.write(NOTE.bin())
    await until(lambda: NOTE in room.heard)
    assert room.heard.index(NOTE) < 5000
    await until(lambda: len(room.heard) == 20_001)


async def test_a_client_that_does_not_read_is_dropped_and_the_others_hear_on(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jazzd.player.tcp.BUFFER_LIMIT", 10_000)
    reader, _ = await room.enter()
    with await room.enter_lazily():
        async with asyncio.timeout(30):
            while len(room.server._clients) == 2:
                for _ in range(1000):
                    room.server.send(NOTE)
                assert await reader.readexactly(3000) == NOTE.bin() * 1000


async def test_too_many_clients_are_turned_away(room: Room) -> None:
    for _ in range(CLIENT_LIMIT):
        await room.enter()
    reader, writer = await asyncio.open_connection("127.0.0.1", room.port)
    with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
        await reader.readexactly(1)
    writer.close()


async def test_delays_are_switched_off(room: Room) -> None:
    await room.enter()
    (connection,) = (writer.get_extra_info("socket") for writer in room.server._clients)
    assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


async def test_what_was_sent_before_closing_arrives(room: Room) -> None:
    reader, _ = await room.enter()
    for _ in range(1000):
        room.server.send(NOTE)
    await room.server.close()
    assert await reader.read() == NOTE.bin() * 1000
    room.server.send(NOTE)  # of no effect


async def test_closing_does_not_wait_for_a_client_that_does_not_read(room: Room) -> None:
    with await room.enter_lazily():
        (theirs,) = room.server._clients
        while not theirs.transport.get_write_buffer_size():
            for _ in range(1000):
                room.server.send(NOTE)
            await asyncio.sleep(0)
        async with asyncio.timeout(3):
            await room.server.close()
        assert not room.server._clients


@pytest.mark.parametrize("address", ["", "9080", ":9080", "localhost:", "localhost:midi", "localhost:70000"])
async def test_an_address_that_is_none_is_one_sentence(address: str) -> None:
    with pytest.raises(ConfigError, match=r"midi.tcp_listen is .*: write HOST:PORT"):
        await Room().server.listen(address)


async def test_an_address_that_is_taken_is_one_sentence(room: Room) -> None:
    with pytest.raises(MidiError, match=r"cannot listen for MIDI at 127.0.0.1:\d+: .*; set midi.tcp_listen"):
        await Room().server.listen(room.server.address)


async def test_who_comes_later_is_told_what_an_earlier_run_left_sounding(room: Room) -> None:
    room.server.greeting = (Message("note_off", channel=2, note=62), Message("note_off", channel=2, note=65))
    greeted = []
    room.server.on_greeted = lambda: greeted.append(True)
    for _ in range(2):
        reader, _ = await room.enter()
        async with asyncio.timeout(5):
            told = await reader.readexactly(6)
        assert told == b"".join(message.bin() for message in room.server.greeting)
    assert len(greeted) == 2
