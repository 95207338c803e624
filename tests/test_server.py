"""The engine as its player meets it: over a real socket, with a model that is loaded in no time."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import tiny
from structlog.testing import capture_logs

from jazzd.engine import door, protocol, server
from jazzd.engine.door import GREETING_LIMIT
from jazzd.engine.loading import Loaded
from jazzd.engine.protocol import Advance, Begin, Failed, Hello, Key, Note, Ping, Pong, Ready, Revise, Styles
from jazzd.engine.server import serve
from jazzd.engine.timeline import Timeline
from jazzd.engine.worker import Loader, Worker
from jazzd.errors import ConfigError, EngineError, JazzdError, ModelError
from jazzd.moonbeam.decode import State
from jazzd.moonbeam.sampling import Controls

KEYS = tuple(Key(0, 200, pitch, 70) for pitch in (50, 57, 60, 65))
START = Revise(epoch=1, now=0, floor=5, answer=True, keys=KEYS)


class Player:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    def say(self, *messages: protocol.Message) -> None:
        for message in messages:
            self._writer.write(protocol.line(message))

    def say_raw(self, data: bytes) -> None:
        self._writer.write(data)

    async def hear(self) -> protocol.ToPlayer | None:
        """The engine's next message, None when it hung up."""
        async with asyncio.timeout(90):
            try:
                line = await self._reader.readline()
            except ConnectionError:  # it hung up before it had read everything
                return None
        return protocol.read_by_player(line) if line else None

    async def notes(self, until: int) -> list[Note]:
        """What comes, up to the first note from `until` on."""
        found: list[Note] = []
        while not found or found[-1].onset < until:
            message = await self.hear()
            assert isinstance(message, Note)
            found.append(message)
        return found

    async def drain(self) -> None:
        """Waits until the engine has read what was said. Raises OSError once it hung up."""
        await self._writer.drain()

    async def nothing_more(self) -> None:
        """Passes when the engine has nothing to say but what it is asked."""
        self.say(Ping(n=77))
        assert await self.hear() == Pong(n=77)

    async def leave(self) -> None:
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()


class Engine:
    """An engine that is being served, and the way to it."""

    def __init__(self, listen: str, load: Loader, token: str) -> None:
        self._listen, self._token = listen, token
        self.task = asyncio.create_task(serve(listen, load, token))
        self._players: list[Player] = []

    async def call(self) -> Player:
        """A connection, as soon as there is one to be had."""
        async with asyncio.timeout(90):
            while True:
                with contextlib.suppress(OSError):
                    return self.joined(*await self._connection())
                await asyncio.sleep(0.01)

    def joined(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Player:
        self._players.append(Player(reader, writer))
        return self._players[-1]

    async def _connection(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        kind, _, place = self._listen.partition(":")
        if kind == "unix":
            return await asyncio.open_unix_connection(place)
        return await asyncio.open_connection("127.0.0.1", int(place.rpartition(":")[2]))

    async def welcome(self) -> Player:
        """A greeted player, as soon as the one before is forgotten."""
        async with asyncio.timeout(90):
            while True:
                player = await self.call()
                player.say(Hello(token=self._token))
                if isinstance(await player.hear(), Styles):
                    assert isinstance(await player.hear(), Ready)
                    return player

    async def end(self) -> None:
        for player in self._players:
            await player.leave()
        self.task.cancel()
        await asyncio.wait({self.task})
        if others := asyncio.all_tasks() - {asyncio.current_task()}:  # the server's, one a connection
            await asyncio.wait(others)


@contextlib.asynccontextmanager
async def engine(listen: str, load: Loader = tiny.loaded, token: str = "") -> AsyncIterator[Engine]:
    served = Engine(listen, load, token)
    try:
        yield served
    finally:
        await served.end()


def bare(note: Note) -> Note:
    """The note without what the engine says of its own reading."""
    return note.model_copy(update={"read": 0, "read_before": ()})


@pytest.fixture
def listen(private_user: Path) -> str:
    return f"unix:{private_user / 'engine'}"


async def test_a_greeting_is_answered_with_what_is_ready(listen: str) -> None:
    async with engine(listen) as served:
        player = await served.call()
        player.say(Hello())
        parameters = tiny.base().parameters
        assert await player.hear() == Styles()
        assert await player.hear() == Ready(
            base="tiny", device="cpu", dtype="float32", parameters=parameters, fingerprint="0" * 16
        )
        await player.nothing_more()


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (protocol.line(Hello(version=99, token="secret")), "version"),
        (protocol.line(Hello(token="Secret")), "token"),
        (protocol.line(Hello()), "token"),
        (protocol.line(Ping(n=1)), "greeting"),
        (b"GET / HTTP/1.1\r\n", "not a jazzd message"),
        (b'{"kind": "hello", "version": "1"\n', "not a jazzd message"),
        (b"\xff\x00\n", "not a jazzd message"),
        (b"x" * (GREETING_LIMIT + 2), "longer than 4096 bytes"),
        (b"x" * (GREETING_LIMIT + 2) + b"\n", "longer than 4096 bytes"),
    ],
)
async def test_a_wrong_greeting_is_refused_and_the_right_one_still_welcome(
    listen: str, line: bytes, reason: str
) -> None:
    async with engine(listen, token="secret") as served:
        player = await served.call()
        player.say_raw(line)
        refusal = await player.hear()
        assert isinstance(refusal, Failed)
        assert reason in refusal.reason
        assert await player.hear() is None
        await (await served.welcome()).nothing_more()


@pytest.mark.parametrize(
    "line",
    [
        protocol.line(Hello()),
        protocol.line(START),
        b"what?\n",
        b'{"kind": "advance", "now": -1, "until": 10}\n',
        b"y" * (protocol.LINE_LIMIT + 2),
    ],
)
async def test_whoever_speaks_out_of_turn_is_sent_away_and_the_next_one_welcome(
    listen: str, line: bytes
) -> None:
    async with engine(listen) as served:
        player = await served.welcome()
        player.say_raw(line)
        assert isinstance(await player.hear(), Failed)
        assert await player.hear() is None
        await (await served.welcome()).nothing_more()


async def test_who_does_not_read_is_sent_away_and_the_next_one_welcome(
    listen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door, "BEHIND_LIMIT", 10_000)
    async with engine(listen) as served:
        deaf = await served.welcome()
        with contextlib.suppress(OSError):
            async with asyncio.timeout(30):
                while True:
                    deaf.say(*(Ping(n=n) for n in range(1000)))
                    await deaf.drain()
        await (await served.welcome()).nothing_more()


async def test_a_flood_waits_on_the_wire_and_is_gone_with_its_player(
    listen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door, "MOST_WAITING", 10)
    most, waiting = 0, Worker.waiting.fget
    assert waiting is not None

    def watched(worker: Worker) -> int:
        nonlocal most
        most = max(most, found := waiting(worker))
        return int(found)

    monkeypatch.setattr(Worker, "waiting", property(watched))
    async with engine(listen) as served:
        flood = await served.welcome()
        flood.say(*(Ping(n=n) for n in range(2000)))
        for n in range(2000):
            assert (await flood.hear()) == Pong(n=n)
        assert most == 11
        flood.say(*(Ping(n=n) for n in range(20_000)))
        await flood.leave()
        await (await served.welcome()).nothing_more()


async def test_strangers_have_little_time_and_there_cannot_be_many(
    listen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "GREETING_TIMEOUT_S", 0.5)
    monkeypatch.setattr(door, "STRANGERS", 2)
    async with engine(listen) as served:
        strangers = [await served.call() for _ in range(3)]
        refusals = [await stranger.hear() for stranger in reversed(strangers)]
        assert [isinstance(refusal, Failed) and refusal.reason for refusal in refusals] == [
            "too many are at the door; try again",
            "no greeting came within 0.5 s",
            "no greeting came within 0.5 s",
        ]
        await (await served.welcome()).nothing_more()


async def test_notes_come_up_to_where_they_are_wanted(listen: str) -> None:
    async with engine(listen) as served:
        player = await served.welcome()
        player.say(Begin(seed=1), START, Advance(now=0, until=400))
        notes = await player.notes(400)
        assert [note.number for note in notes] == list(range(len(notes)))
        assert {note.epoch for note in notes} == {1}
        onsets = [note.onset for note in notes]
        assert onsets == sorted(onsets)
        assert onsets[0] == START.floor
        await player.nothing_more()
        player.say(Advance(now=100, until=1500))
        more = await player.notes(1500)
        assert more[0].number == len(notes)
        await player.nothing_more()


async def test_a_revision_takes_back_what_comes_after_the_last_kept_note(listen: str) -> None:
    async with engine(listen) as served:
        player = await served.welcome()
        player.say(Begin(seed=1), START, Advance(now=0, until=900))
        first = await player.notes(900)
        floor = first[2].onset + 10
        chord = tuple(Key(floor - 3, 100, pitch, 70) for pitch in (43, 59, 65))
        player.say(Revise(epoch=2, now=floor - 1, keep=2, floor=floor, answer=True, keys=chord))
        player.say(Advance(now=floor, until=floor + 300))
        second = await player.notes(floor + 300)
        assert [note.number for note in second] == list(range(3, 3 + len(second)))
        assert {note.epoch for note in second} == {2}
        assert second[0].onset == floor


async def test_no_note_is_made_that_would_be_late(listen: str) -> None:
    async with engine(listen) as served:
        player = await served.welcome()
        player.say(Begin(seed=1), START, Advance(now=0, until=50))
        await player.notes(50)
        player.say(Advance(now=5000, until=5100))
        assert all(note.onset > 5000 for note in await player.notes(5100))


async def test_it_rests_until_it_is_to_play_again(listen: str) -> None:
    async with engine(listen) as served:
        player = await served.welcome()
        player.say(Begin(seed=1), START, Advance(now=0, until=100))
        notes = await player.notes(100)
        player.say(Revise(epoch=2, now=50, keep=0, floor=50, playing=False), Advance(now=60, until=9000))
        await player.nothing_more()
        player.say(Revise(epoch=3, now=70, keep=0, floor=75, answer=True), Advance(now=75, until=175))
        again = await player.notes(175)
        assert (again[0].number, again[0].epoch, again[0].onset) == (1, 3, 75)
        assert notes[0].number == 0


async def test_without_an_advance_only_the_answer_comes(listen: str) -> None:
    async with engine(listen) as served:
        player = await served.welcome()
        player.say(Begin(seed=1), START)
        assert isinstance(await player.hear(), Note)
        await player.nothing_more()


async def test_a_second_player_is_refused_while_the_first_is_in(listen: str) -> None:
    async with engine(listen) as served:
        first = await served.welcome()
        second = await served.call()
        second.say(Hello())
        assert await second.hear() == Failed(reason="another player is connected")
        assert await second.hear() is None
        await first.nothing_more()
        await first.leave()
        await (await served.welcome()).nothing_more()


async def test_nothing_is_made_for_a_player_who_has_left(
    listen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    step, made = tiny.decoder().step, 0

    def counted(state: State, controls: Controls) -> tuple[State, np.ndarray]:
        nonlocal made
        made += 1
        return step(state, controls)

    monkeypatch.setattr(tiny.decoder(), "step", counted)
    async with engine(listen) as served:
        player = await served.welcome()
        player.say(Begin(seed=1), START, Advance(now=0, until=2**31 - 1))
        await player.notes(1000)
        await player.leave()
        async with asyncio.timeout(15):
            before = 0
            while before != made:
                before = made
                await asyncio.sleep(0.3)


@pytest.mark.parametrize("early", [True, False])
@pytest.mark.parametrize("error", [ModelError("there is no base in /nowhere"), OSError("no such device")])
async def test_a_base_that_cannot_be_loaded_is_told_and_raised(
    listen: str, error: Exception, early: bool
) -> None:
    """Also to a player whose greeting is still on its way."""
    greeted = asyncio.Event()
    loop = asyncio.get_running_loop()

    def load() -> Loaded:
        if early:
            asyncio.run_coroutine_threadsafe(greeted.wait(), loop).result()
        raise error

    async with engine(listen, load) as served:
        player = await served.call()
        player.say(Hello())
        greeted.set()
        assert await player.hear() == Failed(reason=str(error))
        with pytest.raises(type(error), match=str(error)):
            await served.task


async def test_the_end_of_an_inherited_socket_is_the_engines_end() -> None:
    ours, theirs = socket.socketpair()
    async with engine(f"fd:{theirs.detach()}") as served:
        player = served.joined(*await asyncio.open_connection(sock=ours))
        player.say(Hello())
        assert isinstance(await player.hear(), Styles)
        assert isinstance(await player.hear(), Ready)
        assert not served.task.done()
        await player.leave()
        async with asyncio.timeout(90):
            await served.task


async def test_an_inherited_engine_loads_when_it_is_greeted_and_never_without() -> None:
    loads: list[bool] = []

    def load() -> Loaded:
        loads.append(True)
        return tiny.loaded()

    ours, theirs = socket.socketpair()
    async with engine(f"fd:{theirs.detach()}", load) as served:
        player = served.joined(*await asyncio.open_connection(sock=ours))
        await asyncio.sleep(0.3)
        assert not loads
        player.say(Hello())
        assert isinstance(await player.hear(), Styles)
        assert loads
        await player.leave()
        await served.task
    ours, theirs = socket.socketpair()
    async with engine(f"fd:{theirs.detach()}", load) as served:
        ours.close()
        async with asyncio.timeout(5):
            await served.task
    assert len(loads) == 1


async def test_an_inherited_engine_says_nothing_of_the_styles_before_its_music(tmp_path: Path) -> None:
    """It may be a reserve, and the engine that plays says the same."""
    ours, theirs = socket.socketpair()
    with capture_logs() as logged:
        async with engine(f"fd:{theirs.detach()}", lambda: tiny.loaded(tmp_path)) as served:
            player = served.joined(*await asyncio.open_connection(sock=ours))
            player.say(Hello())
            assert await player.hear() == Styles(styles=())
            assert isinstance(await player.hear(), Ready)
            for name, music in (("early", ()), ("late", (Begin(seed=1),))):
                player.say(*music)
                await player.nothing_more()
                tiny.write_style(tmp_path / f"{name}.safetensors")
                while not isinstance(told := await player.hear(), Styles) or name not in [
                    style.name for style in told.styles
                ]:
                    pass
    assert {event["style"] for event in logged if event["event"] == "style_changed"} == {"late"}


async def test_an_inherited_engine_that_cannot_load_says_what_was_wrong_and_no_more() -> None:
    """Its player tells the user: a traceback beside that would only confuse."""

    def load() -> Loaded:
        raise ValueError("seven is not a size")

    ours, theirs = socket.socketpair()
    player = Player(*await asyncio.open_connection(sock=ours))
    player.say(Hello())
    with pytest.raises(SystemExit):
        await serve(f"fd:{theirs.detach()}", load)
    assert await player.hear() == Failed(reason="seven is not a size")
    await player.leave()


async def test_sigterm_ends_it_in_the_middle_of_the_music(listen: str) -> None:
    async with engine(listen) as served:
        player = await served.welcome()
        player.say(Begin(seed=1), START, Advance(now=0, until=2**31 - 1))
        await player.notes(1000)
        signal.raise_signal(signal.SIGTERM)
        async with asyncio.timeout(90):
            await served.task
        assert "decode" not in [thread.name for thread in threading.enumerate()]


async def test_over_tcp_with_a_token() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    async with engine(f"tcp://127.0.0.1:{port}", token="secret") as served:
        await (await served.welcome()).nothing_more()


@pytest.mark.parametrize(
    "address",
    ["", "engine.sock", "udp://127.0.0.1:1", "tcp://127.0.0.1", "tcp://127.0.0.1:x", "fd:x"],
)
async def test_what_is_no_address_is_one_sentence(address: str) -> None:
    with pytest.raises(ConfigError, match="cannot listen"):
        await serve(address, tiny.loaded)


async def test_an_address_that_cannot_be_had_is_one_sentence() -> None:
    with pytest.raises(EngineError, match="cannot listen"):
        await serve("unix:/no/x", tiny.loaded)


def run_engine(listen: str) -> subprocess.Popen[str]:
    """The command as a user runs it, with the real base."""
    command = [sys.executable, "-m", "jazzd", "engine", "--listen", listen]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def test_the_command_says_in_one_sentence_that_it_cannot_listen() -> None:
    with run_engine("tcp://127.0.0.1:99999") as process:
        _, said = process.communicate(timeout=90)
    assert process.returncode == 2, "no supervisor is to try that again"
    assert said.startswith("jazzd: cannot listen on")
    assert said.count("\n") == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_command_can_be_ended_while_it_loads(number: signal.Signals, private_user: Path) -> None:
    door = private_user / "engine.sock"
    with run_engine(f"unix:{door}") as process:
        deadline = time.monotonic() + 90
        while not door.exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(number)
        _, said = process.communicate(timeout=90)
    assert process.returncode == 0, said
    assert "terminate called" not in said
    assert "Traceback" not in said


async def test_two_engines_cannot_have_one_socket(listen: str) -> None:
    async with engine(listen) as served:
        await served.welcome()
        with pytest.raises(EngineError, match="another engine listens there"):
            await serve(listen, tiny.loaded)
    with pytest.raises(FileNotFoundError):  # it goes with its engine
        os.stat(listen.removeprefix("unix:"))
    async with engine(listen) as served:
        await served.welcome()


async def test_an_address_without_a_place_is_none() -> None:
    for address in ("unix:", "tcp:", "tcp://", "fd:", "nonsense"):
        with pytest.raises(ConfigError, match="use unix:PATH or tcp://HOST:PORT"):
            await serve(address, tiny.loaded)


async def test_other_machines_need_a_token() -> None:
    with pytest.raises(ConfigError, match="without a token"):
        await serve("tcp://0.0.0.0:7777", tiny.loaded)


async def test_a_file_in_the_way_is_left_alone(private_user: Path) -> None:
    letter = private_user / "letter"
    letter.write_text("Dear Bill")
    with pytest.raises(JazzdError, match="cannot listen"):
        await serve(f"unix:{letter}", tiny.loaded)
    assert letter.read_text() == "Dear Bill"


async def test_a_socket_left_behind_is_not_in_the_way(listen: str) -> None:
    path = listen.removeprefix("unix:")
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)
    async with engine(listen) as served:
        await served.welcome()
        assert os.stat(path).st_mode & 0o777 == 0o600


async def told(player: Player) -> dict[str, str]:
    """The styles as the engine next tells them, after the notes that were on their way."""
    while True:
        message = await player.hear()
        if isinstance(message, Styles):
            return {style.name: style.status for style in message.styles}


async def test_a_style_that_comes_is_played_and_one_that_goes_is_not(listen: str, tmp_path: Path) -> None:
    """The same seed and the same chord: what differs is the style's doing."""
    takes = []
    async with engine(listen, lambda: tiny.loaded(tmp_path)) as served:
        player = await served.welcome()
        for epoch, (change, mix) in enumerate(
            [
                (None, ()),
                (lambda: tiny.write_style(tmp_path / "wild.safetensors"), (("wild", 1.0),)),
                (None, (("wild", 0.0),)),
                (lambda: (tmp_path / "wild.safetensors").unlink(), (("wild", 1.0),)),
            ]
        ):
            if change:
                change()
                statuses = await told(player)
                while "loading" in statuses.values():
                    statuses = await told(player)
                assert statuses == ({"wild": "ready"} if epoch == 1 else {})
            begin = START.model_copy(update={"epoch": epoch, "mix": mix})
            player.say(Begin(seed=1), begin, Advance(now=0, until=150))
            takes.append([(n.onset, n.pitch) for n in await player.notes(150)])
            player.say(begin.model_copy(update={"playing": False, "keys": ()}))
            await player.nothing_more()
    plain, wild, silent, gone = takes
    assert wild != plain
    assert silent == plain
    assert gone == plain


async def test_a_file_that_is_no_style_is_told_with_the_reason(listen: str, tmp_path: Path) -> None:
    (tmp_path / "noise.safetensors").write_bytes(b"no style at all" * 10)
    tiny.write_style(tmp_path / "alien.safetensors", base="f" * 16)
    async with engine(listen, lambda: tiny.loaded(tmp_path)) as served:
        player = await served.call()
        player.say(Hello())
        message = await player.hear()
        assert isinstance(message, Styles)
        # What was written this very moment may still be growing; a second look decides.
        while "loading" in {style.status for style in message.styles}:
            message = await player.hear()
            if not isinstance(message, Styles):
                message = await player.hear()
            assert isinstance(message, Styles)
    assert {s.name: (s.status, bool(s.reason)) for s in message.styles} == {
        "alien": ("incompatible", True),
        "noise": ("rejected", True),
    }


async def test_the_first_note_after_a_switch_is_drawn_under_the_new_weights(
    listen: str, tmp_path: Path
) -> None:
    """It is the note that a timeline of our own makes, whose decoder was given the new mix there."""
    for seed in (1, 2):
        tiny.write_style(tmp_path / f"style{seed}.safetensors", seed)
    mixes = [(("style1", 1.0),), (("style2", 1.0),), (("style1", 0.5), ("style2", 0.5)), ()] * 3
    async with engine(listen, lambda: tiny.loaded(tmp_path)) as served:
        player = await served.welcome()
        player.say(Begin(seed=1), START)
        first = await player.hear()
        assert isinstance(first, Note)
        switched = [first]
        for number, mix in enumerate(mixes, 1):
            floor = switched[-1].onset + 40
            player.say(Revise(epoch=1 + number, now=0, keep=number - 1, floor=floor, answer=True, mix=mix))
            while (note := await player.hear()) and not (isinstance(note, Note) and note.epoch == 1 + number):
                pass
            switched.append(note)

    with played_by_hand(tmp_path) as (timeline, wear):
        timeline.revise(-1, KEYS)
        expected = [timeline.next_note(START.sampling, START.floor, True, 1)]
        for number, mix in enumerate(mixes, 1):
            wear(mix)
            timeline.revise(number - 1, ())
            expected.append(timeline.next_note(START.sampling, expected[-1].onset + 40, True, 1 + number))
    assert [bare(note) for note in switched] == expected


@contextlib.contextmanager
def played_by_hand(folder: Path) -> Iterator[tuple[Timeline, Callable[[protocol.Mix], None]]]:
    """A timeline with seed 1, and what changes its style."""
    _, decoder, wardrobe = tiny.loaded(folder)
    wardrobe.registry.rescan()
    timeline = Timeline(decoder, 1)

    def wear(mix: protocol.Mix) -> None:
        decoder.mix = wardrobe.mix(dict(mix))

    try:
        yield timeline, wear
    finally:
        decoder.mix = None
