"""The doctor: what it finds, what it says about it, and what it is worth to a script."""

import contextlib
import json
import os
import platform
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fake_engine import FakeEngine

from jazzd import doctor
from jazzd.doctor import Check, examine, to_json
from jazzd.engine import protocol
from jazzd.player import drivers
from jazzd.player.drivers import PortList
from jazzd.settings import Settings

pytestmark = pytest.mark.in_time

TCP = {"midi": {"backend": "tcp", "tcp_listen": "127.0.0.1:0"}}


@pytest.fixture
def no_python(monkeypatch: pytest.MonkeyPatch) -> None:
    """What asks another Python is answered without one."""
    answers = {
        "-c": "cpu cpu 0.10.2",
        "base": '{"intact": true, "parameters": 8300000}',
        "styles": '[{"name": "a", "status": "ready"}, {"name": "b", "status": "rejected"}]',
    }
    monkeypatch.setattr(
        doctor, "_python", lambda *words: (next(answers[word] for word in words if word in answers), "")
    )


def states(checks: list[Check]) -> dict[str, str]:
    return {check.name: check.state for check in checks}


@pytest.mark.usefixtures("no_python")
def test_every_check_has_its_say_and_every_trouble_its_mend(tmp_path: Path) -> None:
    settings = Settings.model_validate(TCP | {"styles": {"folder": tmp_path}})
    checks = examine(settings)
    assert [check.name for check in checks] == [
        "system", "settings", "priority", "timer", "engine", "device", "base", "styles", "ports", "synth",
        "loop-back", "runtime folder", "service", "daemon",
    ]  # fmt: skip
    assert all(check.mend for check in checks if check.state != "ok")
    assert states(checks)["styles"] == "warn"
    told = to_json(checks)
    assert told["state"] == "warn"
    assert json.loads(json.dumps(told)) == told


@pytest.mark.usefixtures("no_python", "jack_server")
def test_the_way_there_and_back_is_measured_through_real_ports() -> None:
    checks = {check.name: check for check in examine(Settings.model_validate({"midi": {"backend": "jack"}}))}
    assert checks["ports"].state == "ok"
    assert "jazzd makes loopMIDI Port 1 and loopMIDI Port 2" in checks["ports"].found
    assert "midi.lead_ms" in checks["loop-back"].found
    assert drivers.list_ports("jack").inputs == (), "it leaves nothing behind"


@pytest.mark.parametrize(
    ("listed", "name", "state", "words"),
    [
        (PortList("none", (), (), "no ALSA"), "ports", "fail", "no ALSA"),
        (PortList("alsa", ("Keystation 49",), ()), "ports", "warn", "nothing has GS Wavetable in its name"),
        (PortList("winmm", ("x",), ("Microsoft GS Wavetable Synth",)), "synth", "warn", "GS Wavetable"),
    ],
)
@pytest.mark.usefixtures("no_python")
def test_bad_ports_are_told(
    monkeypatch: pytest.MonkeyPatch, listed: PortList, name: str, state: str, words: str
) -> None:
    monkeypatch.setattr(drivers, "list_ports", lambda backend: listed)
    settings = Settings.model_validate({"midi": {"output": "GS Wavetable"}})
    found = next(check for check in examine(settings) if check.name == name)
    assert (found.state, words in found.found) == (state, True)


@pytest.mark.usefixtures("no_python")
def test_wsl_and_a_missing_priority_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    import resource

    monkeypatch.setattr(platform, "release", lambda: "5.15-microsoft-standard-WSL2")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(resource, "getrlimit", lambda which: (0, 0))
    found = states(examine(Settings.model_validate(TCP)))
    assert (found["system"], found["priority"]) == ("warn", "warn")


@pytest.mark.usefixtures("no_python")
def test_a_card_that_is_not_there_is_a_failure() -> None:
    settings = Settings.model_validate(TCP | {"engine": {"device": "cuda"}})
    assert states(examine(settings))["device"] == "fail"


Answer = Callable[[protocol.ToEngine], list[protocol.Message]]


@contextlib.contextmanager
def an_engine(answer: Answer) -> Iterator[str]:
    """Somebody at an address who answers one caller, line by line, and hangs up where nothing is said."""
    with socket.create_server(("127.0.0.1", 0)) as door:

        def serve() -> None:
            connection, _ = door.accept()
            with connection, connection.makefile("rwb") as stream:
                for line in stream:
                    for message in (answers := answer(protocol.read_by_engine(line))):
                        stream.write(protocol.line(message))
                    stream.flush()
                    if not answers:
                        return

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"tcp://127.0.0.1:{door.getsockname()[1]}"
        thread.join(5)


def refusing(reason: str) -> Answer:
    return lambda said: [protocol.Failed(reason=reason)]


@pytest.mark.parametrize(
    ("answer", "state", "words"),
    [
        (lambda said: list(FakeEngine().hear(said)), "ok", "fake on cpu, "),
        (refusing(protocol.IN_USE), "ok", "has a player already"),
        (refusing("the token is wrong"), "fail", "the token is wrong"),
        (lambda said: [], "fail", "hung up"),
    ],
)
def test_an_engine_elsewhere_is_met(
    answer: Answer, state: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "WANTED_LINE_MS", 1000.0)  # how busy this machine is, is not the question
    with an_engine(answer) as address:
        found = doctor._engine(Settings.model_validate({"engine": {"address": address}}))
    assert (found.state, words in found.found) == (state, True), found
    assert address in found.found
    assert bool(found.mend) == (state != "ok")


def test_an_engine_far_away_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "WANTED_LINE_MS", 0.0)
    with an_engine(lambda said: list(FakeEngine().hear(said))) as address:
        found = doctor._engine(Settings.model_validate({"engine": {"address": address}}))
    assert (found.state, "there and back" in found.found) == ("warn", True), found
    assert found.mend


def test_an_engine_that_says_nothing_may_be_loading(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "ENGINE_S", 0.2)
    with an_engine(lambda said: [protocol.Pong(n=0)]) as address:
        found = doctor._engine(Settings.model_validate({"engine": {"address": address}}))
    assert (found.state, "not ready" in found.found) == ("warn", True)


def test_an_engine_that_is_not_there_or_wants_a_token_that_is_not_is_a_failure(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    found = doctor._engine(Settings.model_validate({"engine": {"address": address}}))
    assert (found.state, f"no engine at {address}" in found.found) == ("fail", True)
    assert "jazzd engine --listen" in found.mend
    token = {"engine": {"address": address, "token_file": str(tmp_path / "none")}}
    found = doctor._engine(Settings.model_validate(token))
    assert (found.state, "token file" in found.found) == ("fail", True)


@pytest.mark.parametrize(
    ("state", "connected", "words"),
    [
        ("ready", True, ""),
        ("failed", True, "engine failed"),
        ("ready", False, "a port is away (in: Keys, out: )"),
    ],
)
def test_the_daemon_s_trouble_is_named(
    monkeypatch: pytest.MonkeyPatch, state: str, connected: bool, words: str
) -> None:
    told = {
        "engine": {"state": state},
        "midi": {"connected": connected, "input": "Keys", "output": ""},
        "chord_to_note_ms": {"n": 0},
        "notes": {"late": 0, "sent": 3},
    }
    monkeypatch.setattr(doctor.control, "ask", lambda request: told)
    found = doctor._daemon()
    assert (found.state, bool(found.mend)) == (("warn", True) if words else ("ok", False))
    assert words in found.found


def test_a_script_learns_it_from_the_exit_code(
    jazzd: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    for state, code in (("ok", 0), ("warn", 0), ("fail", 1)):
        monkeypatch.setattr(
            doctor, "examine", lambda settings, file, s=state: [Check("x", s, "found [it]", "mend")]
        )
        ended, out, _ = jazzd("doctor", "--json")
        assert ended == code
        assert json.loads(out)["state"] == state
        ended, out, _ = jazzd("doctor")
        assert ended == code
        assert "found [it]" in out


def test_wrong_settings_are_a_check_among_others(
    jazzd: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    (tmp_path / "wrong.toml").write_text("solo = 3")
    code, out, err = jazzd("doctor", "--json", "--config", str(tmp_path / "wrong.toml"))
    checks = {check["name"]: check for check in json.loads(out)["checks"]}
    assert (code, err) == (1, "")
    assert "solo: 3 is not allowed" in checks["settings"]["found"]
    assert {"system", "runtime folder", "daemon"} <= checks.keys()
    assert [name for name, check in checks.items() if check["state"] == "fail"] == ["settings"]


def test_a_folder_of_styles_that_is_not_there_is_told(tmp_path: Path) -> None:
    found = doctor._styles(Settings.model_validate({"styles": {"folder": tmp_path / "stiles"}}))
    assert (found.state, found.found) == ("warn", f"there is no folder {tmp_path / 'stiles'}")


def test_what_another_python_says_comes_back() -> None:
    assert doctor._python("-c", "print(3)") == ("3", "")
    assert doctor._python("-c", "raise SystemExit('jazzd: no base')") == ("", "no base")
