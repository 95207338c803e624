import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from fake_engine import FakeEngine
from stage import FAKE_ENGINE, alive
from structlog.testing import capture_logs

from jazzd.engine import protocol
from jazzd.errors import EngineError, ModelError
from jazzd.player import reserves, supervisor
from jazzd.player.connection import reach
from jazzd.player.supervisor import Callbacks, Supervisor

REVISE = protocol.Revise(epoch=1, now=0, floor=5, keys=(protocol.Key(0, 100, 60, 80),))


class Player:
    """Keeps a supervisor running, and what it called."""

    def __init__(self, keeper: Supervisor) -> None:
        self.keeper = keeper
        self.calls: list[str] = []
        self.notes: list[protocol.Note] = []
        callbacks = Callbacks(
            lambda: self.calls.append("ready"),
            lambda: self.calls.append("lost"),
            self.notes.append,
            lambda styles: self.calls.append("styles"),
        )
        self.task = asyncio.create_task(keeper.run(callbacks))

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(15):
            while not condition():
                assert not self.task.done(), self.task.exception()
                await asyncio.sleep(0.005)

    async def ready(self) -> None:
        await self.until(lambda: self.keeper.state == "ready")

    async def end(self) -> None:
        self.task.cancel()
        await asyncio.wait({self.task})


@contextlib.asynccontextmanager
async def playing(command: list[str], address: str = "") -> AsyncIterator[Player]:
    player = Player(Supervisor(command, address))
    try:
        yield player
    finally:
        await player.end()


def fake(mode: str = "good") -> list[str]:
    return [sys.executable, FAKE_ENGINE, "--mode", mode]


@contextlib.asynccontextmanager
async def kept_by_somebody_else(
    address: str, stunned_by: protocol.ToEngine | None = None
) -> AsyncIterator[str]:
    """An engine that listens at `address`, and says nothing any more after one message; yields the address to
    reach it."""
    hung_up = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        engine = FakeEngine()
        with contextlib.suppress(OSError):  # the player left in the middle of its warm-up
            stunned = False
            while line := await reader.readline():
                asked = protocol.read_by_engine(line)
                stunned = stunned or asked == stunned_by
                for message in () if stunned else engine.hear(asked):
                    writer.write(protocol.line(message))
            writer.close()
            await writer.wait_closed()
        writer.close()
        hung_up.set()

    if address.startswith("unix:"):
        server = await asyncio.start_unix_server(serve, address.removeprefix("unix:"))
    else:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        address = f"tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        yield address
        await hung_up.wait()


async def test_a_child_is_started_used_and_ended() -> None:
    async with playing(fake()) as player:
        assert player.keeper.state == "starting"
        await player.ready()
        assert player.keeper.ready is not None
        assert player.keeper.ready.base == "fake"
        pid = player.keeper.pid
        assert pid is not None
        assert alive(pid)
        player.keeper.send(REVISE)
        player.keeper.send(protocol.Advance(now=0, until=50))
        await player.until(lambda: len(player.notes) == 4)
    assert not alive(pid)
    assert player.calls == ["ready", "lost"]
    assert player.keeper.pid is None


async def test_a_child_hears_no_ctrl_c_and_has_its_share_of_our_session() -> None:
    async with playing(fake()) as player:
        await player.ready()
        pid = player.keeper.pid or 0
        assert os.getpgid(pid) == pid
        assert os.getsid(pid) == os.getsid(0)


async def test_a_killed_child_is_lost_at_once_and_replaced() -> None:
    async with playing(fake()) as player:
        await player.ready()
        pid = player.keeper.pid or 0
        os.kill(pid, signal.SIGKILL)
        await player.until(lambda: player.calls == ["ready", "lost"])
        await player.ready()
        assert player.keeper.restarts == 1
        assert player.keeper.pid != pid
        assert not alive(pid)


@pytest.fixture
def idle(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with nothing else to do, however busy ours is."""

    async def idle_cores() -> float:
        return 1.0

    monkeypatch.setattr(reserves, "_idle_cores", idle_cores)


def children() -> set[int]:
    """Those of this process that run."""
    told = Path(f"/proc/self/task/{os.getpid()}/children").read_text()
    return {pid for pid in map(int, told.split()) if alive(pid)}


@pytest.mark.usefixtures("idle")
async def test_an_engine_that_has_played_a_while_gets_one_in_reserve(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reserves, "AFTER_S", 0.1)
    monkeypatch.setattr(reserves, "MEMORY_GIB", 1.0)
    before = children()
    async with playing(fake()) as player:
        await player.ready()
        first = player.keeper.pid or 0
        await player.until(lambda: len(children() - before) == 2)
        (reserve,) = children() - before - {first}
        os.kill(first, signal.SIGKILL)
        await player.until(lambda: player.calls == ["ready", "lost", "ready"])
        assert player.keeper.pid == reserve
        await player.until(lambda: len(children() - before) == 2)
        (second,) = children() - before - {reserve}
        os.kill(second, signal.SIGKILL)  # nobody notices before it is needed
        os.kill(reserve, signal.SIGKILL)
        await player.until(lambda: player.calls[3:] == ["lost", "ready"])
        assert player.keeper.pid not in (first, second, reserve)
        await player.until(lambda: len(children() - before) == 2)
    assert children() == before


@pytest.mark.usefixtures("idle")
async def test_where_there_are_two_cores_the_first_reserve_starts_beside_the_first_engine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """So an engine that is lost at once is followed at once."""
    monkeypatch.setattr(reserves, "AFTER_S", 60.0)
    monkeypatch.setattr(reserves, "CORES", 2)
    monkeypatch.setattr(reserves, "MEMORY_GIB", reserves.ROOMY_GIB)
    before = children()
    async with playing(fake()) as player:
        await player.ready()
        first = player.keeper.pid or 0
        await player.until(lambda: len(children() - before) == 2)
        (reserve,) = children() - before - {first}
        os.kill(first, signal.SIGKILL)
        await player.until(lambda: player.calls == ["ready", "lost", "ready"])
        assert player.keeper.pid == reserve


@pytest.mark.usefixtures("idle")
async def test_the_first_engine_starts_before_its_player_is_put_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reserves, "MEMORY_GIB", 0.0)  # or a reserve may be greeted, too
    before, greetings = children(), tmp_path / "greetings"
    keeper = Supervisor([*fake(), "--greetings", str(greetings)])
    await keeper.prepare()
    await asyncio.sleep(0.5)
    (pid,) = children() - before
    player = Player(keeper)
    await player.ready()
    assert keeper.pid == pid
    assert greetings.read_text().split() == [str(pid)]
    await player.end()
    assert children() == before


async def test_one_that_failed_before_it_was_heard_is_heard() -> None:
    keeper = Supervisor(fake("failing"))
    await keeper.prepare()
    await asyncio.sleep(0.5)
    with pytest.raises(ModelError, match="no base in /nowhere"):
        await Player(keeper).task


async def test_a_player_that_cannot_be_put_together_leaves_no_engine() -> None:
    before = children()
    keeper = Supervisor(fake())
    await keeper.prepare()
    assert len(children() - before) == 1
    await keeper.end()
    assert children() == before


async def test_no_reserve_takes_from_the_music_what_others_leave_of_the_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in {"AFTER_S": 0.1, "REST_S": 0.1, "CORES": 2, "MEMORY_GIB": 4.0}.items():
        monkeypatch.setattr(reserves, name, value)
    looks = [0.0] * 5

    async def idle_cores() -> float:
        await asyncio.sleep(0.05)
        return looks.pop() if looks else 0.3

    monkeypatch.setattr(reserves, "_idle_cores", idle_cores)
    before = children()
    async with playing(fake()) as player:
        await player.ready()
        while looks:
            assert children() - before == {player.keeper.pid}
            await asyncio.sleep(0.005)
        await player.until(lambda: len(children() - before) == 2)


@pytest.mark.parametrize("line", ["cpu  33232 0 8192 {} 628 0 418 196", "cpu  33232 {} 8192 7 628 0 418 196"])
async def test_how_many_cores_are_idle_is_read_from_the_system(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is nice to others leaves its core to them."""
    stat = tmp_path / "stat"

    def idle(ticks: int) -> None:
        stat.write_text(f"{line.format(ticks)} 0 0\ncpu0 9248 0 3209 61445 68 0\n")

    monkeypatch.setattr(reserves, "STAT", stat)
    assert await reserves._idle_cores() == pytest.approx(1.0, abs=0.1), "where it does not tell one is"
    idle(106036)
    look = asyncio.create_task(reserves._idle_cores())
    await asyncio.sleep(reserves.LOOK_S / 2)
    idle(106036 + round(0.5 * reserves.LOOK_S * reserves.TICKS_A_SECOND))
    assert 0.2 < await look < 0.55


@pytest.mark.usefixtures("idle")
@pytest.mark.parametrize(
    ("excess", "memory_gib", "light"), [(0, 4.0, True), (1, 4.0, False), (0, 3.9, False)]
)
async def test_the_reserve_loads_what_is_light(
    excess: int, memory_gib: float, light: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it has said of that by then is heard when its turn comes."""
    monkeypatch.setattr(reserves, "AFTER_S", 0.1)
    monkeypatch.setattr(reserves, "MEMORY_GIB", memory_gib)
    before, greetings = children(), tmp_path / "greetings"
    parameters = reserves.LIGHT_PARAMETERS + excess
    command = [*fake(), "--greetings", str(greetings), "--parameters", str(parameters)]
    async with playing(command) as player:
        await player.ready()
        first = player.keeper.pid or 0
        await player.until(lambda: len(children() - before) == 2)
        (reserve,) = children() - before - {first}
        if light:
            await player.until(lambda: str(reserve) in greetings.read_text().split())
        else:
            await asyncio.sleep(0.5)
        assert greetings.read_text().split() == [str(first), str(reserve)][: 1 + light]
        os.kill(first, signal.SIGKILL)
        await player.until(lambda: player.calls == ["ready", "lost", "ready"])
        assert player.keeper.pid == reserve
        assert greetings.read_text().split().count(str(reserve)) == 1


@pytest.mark.usefixtures("idle")
async def test_where_there_is_room_another_reserve_stands_behind_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It loads as soon as it is the next one."""
    for name, value in {"AFTER_S": 0.1, "REST_S": 0.1, "MEMORY_GIB": 8.0}.items():
        monkeypatch.setattr(reserves, name, value)
    before, greetings = children(), tmp_path / "greetings"

    def greeted() -> list[int]:
        return [int(pid) for pid in greetings.read_text().split()]

    async with playing([*fake(), "--greetings", str(greetings)]) as player:
        await player.ready()
        first = player.keeper.pid or 0
        await player.until(lambda: len(children() - before) == 3)
        await player.until(lambda: len(greeted()) == 2)
        second = greeted()[1]
        (third,) = children() - before - {first, second}
        os.kill(first, signal.SIGKILL)
        await player.until(lambda: player.calls == ["ready", "lost", "ready"])
        assert player.keeper.pid == second
        await player.until(lambda: greeted() == [first, second, third])
        os.kill(second, signal.SIGKILL)
        await player.until(lambda: player.calls[3:] == ["lost", "ready"])
        assert player.keeper.pid == third
        await player.until(lambda: len(children() - before) == 3)
        await player.until(lambda: len(greeted()) == 4)
    assert children() == before


async def test_without_file_handles_there_is_no_engine_for_now_and_the_player_lives(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(supervisor, "BACK_OFF_S", (0.02,))
    pair, refusals = socket.socketpair, [OSError(24, "Too many open files")] * 2

    def socketpair() -> tuple[socket.socket, socket.socket]:
        if refusals:
            raise refusals.pop()
        return pair()

    monkeypatch.setattr(socket, "socketpair", socketpair)
    async with playing(fake()) as player:
        await player.ready()
        assert (refusals, player.keeper.restarts) == ([], 0), "none was there to be lost"


async def test_a_child_that_stands_still_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "PING_S", 0.02)
    monkeypatch.setattr(supervisor, "SILENCE_S", 0.4)
    async with playing(fake("silent")) as player:
        await player.ready()
        await asyncio.sleep(0.6)
        assert player.calls == ["ready"]
        pid = player.keeper.pid or 0
        player.keeper.send(REVISE)
        await player.until(lambda: "lost" in player.calls)
        await player.until(lambda: not alive(pid))


async def test_one_elsewhere_is_waited_for_longer_for_there_is_no_other(
    monkeypatch: pytest.MonkeyPatch, private_user: Path
) -> None:
    monkeypatch.setattr(supervisor, "PING_S", 0.02)
    monkeypatch.setattr(supervisor, "SILENCE_S", 0.1)
    monkeypatch.setattr(supervisor, "STARVED_S", 1.0)
    with capture_logs() as said:
        async with (
            kept_by_somebody_else(f"unix:{private_user / 'engine.sock'}", REVISE) as address,
            playing([], address) as player,
        ):
            await player.ready()
            player.keeper.send(REVISE)
            await asyncio.sleep(0.5)
            assert player.calls == ["ready"]
            await player.until(lambda: player.calls[:3] == ["ready", "lost", "ready"])
    reasons = [event["reason"] for event in said if event["event"] == "engine_lost"]
    assert reasons[0] == "it left pings unanswered for 1 s"


async def test_one_that_was_stopped_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "PING_S", 0.02)
    monkeypatch.setattr(supervisor, "SILENCE_S", 60.0)
    async with playing(fake()) as player:
        await player.ready()
        pid = player.keeper.pid or 0
        os.kill(pid, signal.SIGSTOP)
        await player.until(lambda: player.calls == ["ready", "lost", "ready"])
        assert not alive(pid)


async def test_one_that_is_stopped_while_it_starts_is_not_waited_for_either(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(supervisor, "PING_S", 0.02)
    async with playing(fake()) as player:
        await player.until(lambda: player.keeper.pid)
        os.kill(player.keeper.pid or 0, signal.SIGSTOP)
        await player.ready()
        assert player.keeper.restarts == 1


@pytest.mark.parametrize(("mode", "said"), [("failing", "no base in /nowhere"), ("crashing", "exit code 3")])
async def test_a_first_engine_that_refuses_is_an_error(mode: str, said: str) -> None:
    async with playing(fake(mode)) as player:
        with pytest.raises(ModelError, match=said):
            await player.task
        player.calls.append("raised")
    assert player.calls == ["raised"]


@pytest.mark.parametrize("kind", ["unix", "tcp"])
async def test_an_engine_elsewhere_is_used_and_looked_for_again(
    kind: str, private_user: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "BACK_OFF_S", (0.01,))
    place = f"unix:{private_user}/engine.sock" if kind == "unix" else "tcp://127.0.0.1:0"
    async with kept_by_somebody_else(place) as address, playing([], address) as player:
        await player.ready()
        assert player.keeper.pid is None
        player.keeper.send(REVISE)
        player.keeper.send(protocol.Advance(now=0, until=50))
        await player.until(lambda: len(player.notes) == 4)
    with capture_logs() as logged:
        async with playing([], address) as player:
            await player.until(lambda: len(logged) > 2)
            assert player.keeper.state == "failed"
            assert (player.calls, player.keeper.restarts) == ([], 0), "none was there to be lost"
            assert player.keeper.trouble.startswith(f"no engine at {address} (")
    assert {event["event"] for event in logged} == {"engine_lost"}
    assert [event["log_level"] for event in logged[:3]] == ["error", "info", "info"], "said once"


async def test_an_engine_elsewhere_that_says_nothing_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may load, for a minute; or stand still. The system finds out if its machine is gone."""
    monkeypatch.setattr(supervisor, "PING_S", 0.02)
    monkeypatch.setattr(supervisor, "SLOW_START_S", 0.1)
    hello = protocol.Hello()
    with capture_logs() as logged:
        async with kept_by_somebody_else("tcp", hello) as address, playing([], address) as player:
            await player.until(lambda: player.keeper.trouble)
            assert player.keeper.state == "starting"
            engine = player.keeper._engine
            assert engine
            connection = engine.writer.get_extra_info("socket")
            assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    (said,) = logged
    assert said["event"] == "engine_still_starting"
    assert address in said["reason"]
    assert "stands still" in said["reason"]


@pytest.mark.parametrize("host", ["gpu..local", 64 * "x"])
async def test_a_name_that_can_be_none_is_no_engine(host: str) -> None:
    with pytest.raises(EngineError, match="no engine at"):
        await reach(f"tcp://{host}:9090")


async def test_an_engine_elsewhere_that_will_not_have_us_is_asked_again(
    private_user: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its token or its player may change at any time, and ours plays on then without a new start."""
    monkeypatch.setattr(supervisor, "BACK_OFF_S", (0.01,))
    path = private_user / "engine.sock"

    async def refuse(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(protocol.line(protocol.Failed(reason=protocol.IN_USE)))
        writer.close()

    with capture_logs() as logged:
        async with playing([], f"unix:{path}") as player:
            async with await asyncio.start_unix_server(refuse, path):
                await player.until(lambda: len(logged) > 2)
                assert player.keeper.state == "failed"
            async with kept_by_somebody_else(f"unix:{path}"):
                await player.ready()
                assert player.keeper.trouble == ""
                await player.end()
    refused = [event["reason"] for event in logged if event["event"] == "engine_lost"]
    assert f"the engine at unix:{path} says: {protocol.IN_USE}" in refused


async def test_messages_without_an_engine_are_lost_without_a_word() -> None:
    Supervisor([]).send(REVISE)


@pytest.mark.usefixtures("idle")
@pytest.mark.parametrize("after_s", [0.0, 0.005, 0.02, 0.05, 0.2, 0.25, 0.4, 0.6])
async def test_nobody_is_left_behind_whenever_it_ends(
    after_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "PING_S", 0.02)
    monkeypatch.setattr(reserves, "AFTER_S", 0.0)
    before = children()
    async with playing(fake()) as player:
        await asyncio.sleep(after_s)
        pid = player.keeper.pid
    assert pid is None or not alive(pid)
    for _ in range(500):  # one whose start was cut off ends by itself
        if children() == before:
            break
        await asyncio.sleep(0.01)
    assert children() == before
