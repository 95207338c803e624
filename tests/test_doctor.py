"""The doctor: what it finds, what it says about it, and what it is worth to a script."""

import json
import os
import platform
from collections.abc import Callable
from pathlib import Path

import pytest

from jazzd import doctor
from jazzd.doctor import Check, examine, to_json
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
        "system", "priority", "timer", "device", "base", "styles", "ports", "synth", "loop-back",
        "runtime folder", "service", "daemon",
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


def test_a_script_learns_it_from_the_exit_code(
    jazzd: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    for state, code in (("ok", 0), ("warn", 0), ("fail", 1)):
        monkeypatch.setattr(
            doctor, "examine", lambda settings, s=state: [Check("x", s, "found [it]", "mend")]
        )
        ended, out, _ = jazzd("doctor", "--json")
        assert ended == code
        assert json.loads(out)["state"] == state
        ended, out, _ = jazzd("doctor")
        assert ended == code
        assert "found [it]" in out


def test_what_another_python_says_comes_back() -> None:
    assert doctor._python("-c", "print(3)") == ("3", "")
    assert doctor._python("-c", "raise SystemExit('jazzd: no base')") == ("", "no base")
