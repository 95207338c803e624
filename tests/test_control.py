import asyncio
import contextlib
import json
import os
import socket
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from jazzd.errors import JazzdError
from jazzd.player import control


def answer(request: dict[str, Any]) -> dict[str, Any]:
    if request.get("do") == "err":
        raise LookupError("a mistake")
    if request.get("do") != "status":
        raise JazzdError("no such thing")
    return {"state": "ready"}


@pytest.fixture
def path(private_user: Path) -> Path:
    return private_user / "control.sock"


@pytest.fixture
async def listening(path: Path) -> AsyncIterator[Path]:
    with control.only_daemon(path):
        async with control.listening(path, answer):
            yield path


async def said_to(path: Path, data: bytes) -> bytes:
    """What comes back until the daemon is silent or hangs up."""
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(data)
    try:
        return await reader.readline()
    except ConnectionError:
        return b""
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def test_a_question_is_answered(listening: Path) -> None:
    assert await asyncio.to_thread(control.ask, {"do": "status"}, listening) == {"state": "ready"}


async def test_a_refusal_is_an_error_with_its_sentence(listening: Path) -> None:
    with pytest.raises(JazzdError, match="no such thing"):
        await asyncio.to_thread(control.ask, {"do": "dance"}, listening)


async def test_who_meets_a_mistake_of_ours_hears_of_it_and_the_log_says_where(listening: Path) -> None:
    with capture_logs() as logged, pytest.raises(JazzdError, match="its log says more"):
        await asyncio.to_thread(control.ask, {"do": "err"}, listening)
    assert logged[0]["exc_info"]
    assert await asyncio.to_thread(control.ask, {"do": "status"}, listening)


async def test_the_socket_is_the_users_own(listening: Path) -> None:
    assert stat.S_IMODE(os.stat(listening).st_mode) == 0o600


@pytest.mark.parametrize("line", [b"{", b"[]", b"\xff", b"", b"3", b'"' * 3000, b"[" * 3000])
async def test_what_is_no_request_is_told_so(listening: Path, line: bytes) -> None:
    assert "JSON object" in json.loads(await said_to(listening, line + b"\n"))["error"]


async def test_an_endless_line_is_hung_up_on(listening: Path) -> None:
    assert await said_to(listening, bytes(100_000)) == b""
    assert await asyncio.to_thread(control.ask, {"do": "status"}, listening)


async def test_who_does_not_read_is_hung_up_on(listening: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "PATIENCE_S", 0.3)
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.setblocking(False)
        deaf.connect(str(listening))
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for _ in range(100_000):
                try:
                    deaf.send(b'{"do": "status"}\n')
                except BlockingIOError:
                    await asyncio.sleep(0.02)
            pytest.fail("it may ask for ever")
    assert await asyncio.to_thread(control.ask, {"do": "status"}, listening)


async def test_a_client_that_says_nothing_does_not_hold_up_the_end(path: Path) -> None:
    with control.only_daemon(path):
        async with control.listening(path, answer):
            reader, writer = await asyncio.open_unix_connection(path)
            await asyncio.to_thread(control.ask, {"do": "status"}, path)
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()


def test_no_daemon_is_one_sentence(path: Path) -> None:
    with pytest.raises(JazzdError, match="jazzd run"):
        control.ask({"do": "status"}, path)


def test_a_daemon_that_does_not_answer_is_one_sentence(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "TIMEOUT_S", 0.05)
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.bind(str(path))
        with pytest.raises(JazzdError, match="jazzd run"):
            control.ask({"do": "status"}, path)
        deaf.listen()
        with pytest.raises(JazzdError, match="did not answer"):
            control.ask({"do": "status"}, path)


async def test_what_a_killed_daemon_left_is_in_nobodys_way(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(path))
    with control.only_daemon(path):
        async with control.listening(path, answer):
            assert await asyncio.to_thread(control.ask, {"do": "status"}, path)
    assert not await asyncio.to_thread(path.exists)


def test_there_is_one_daemon(path: Path) -> None:
    with (
        control.only_daemon(path),
        pytest.raises(JazzdError, match=r"already running \(pid \d+\)"),
        control.only_daemon(path),
    ):
        pass
    with control.only_daemon(path):
        pass


def test_daemons_on_sockets_of_any_two_names_leave_each_other_alone(private_user: Path) -> None:
    with control.only_daemon(private_user / "jazzd.1"), control.only_daemon(private_user / "jazzd.2"):
        pids = sorted(path.name for path in private_user.glob("jazzd*.pid"))
    assert pids == ["jazzd.1.pid", "jazzd.2.pid"]


def test_a_folder_that_is_not_there_is_one_sentence(private_user: Path) -> None:
    with pytest.raises(JazzdError, match="JAZZD_SOCKET"), control.only_daemon(private_user / "no" / "socket"):
        pass


async def test_a_path_too_long_for_a_socket_is_one_sentence(private_user: Path) -> None:
    with pytest.raises(JazzdError, match="JAZZD_SOCKET"):
        await control.listening(private_user / ("x" * 120), answer).__aenter__()


async def test_where_there_are_no_unix_sockets_a_word_keeps_strangers_out(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "UNIX", False)
    with control.only_daemon(path):
        async with control.listening(path, answer):
            assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
            assert await asyncio.to_thread(control.ask, {"do": "status"}, path) == {"state": "ready"}
            port = json.loads(await asyncio.to_thread(path.read_text))["port"]
            for stranger in (b'{"do": "status"}\n', b"00\n" + b'{"do": "status"}\n'):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(stranger)
                with contextlib.suppress(ConnectionError):
                    assert await reader.readline() == b""
                writer.close()
    with pytest.raises(JazzdError, match="no jazzd daemon"):
        await asyncio.to_thread(control.ask, {"do": "status"}, path)
