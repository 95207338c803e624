"""The service: what is written for each system, what systemd thinks of it, and what the daemon tells it."""

import contextlib
import os
import plistlib
import shutil
import signal
import socket
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from stage import staged

from jazzd.errors import JazzdError
from jazzd.service import launchd, manager, systemd, windows
from jazzd.service.definition import Definition
from jazzd.service.notify import Notifier

pytestmark = pytest.mark.in_time

ROOT = Path(__file__).parent.parent
SHIPPED = {
    "systemd/jazzd.service": (systemd.define, ["/usr/bin/env", "jazzd", "run"], Path("/home/you")),
    "launchd/org.jazzd.daemon.plist": (
        launchd.define,
        ["/usr/local/bin/jazzd", "run"],
        Path("/Users/you"),
    ),
    "windows/jazzd.xml": (windows.define, [r"C:\jazzd\.venv\Scripts\jazzd.exe", "run"], Path("C:/Users/you")),
}
COMMAND = ["/opt/jazz d/bin/python", "-m", "jazzd", "run", "--config", "/home/a & b/100%.toml"]
TCP_ONLY = {"JAZZD_MIDI__BACKEND": "tcp", "JAZZD_MIDI__TCP_LISTEN": "127.0.0.1:0"}


@pytest.mark.parametrize("name", SHIPPED)
def test_the_shipped_file_is_what_is_written(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    define, command, home = SHIPPED[name]
    for variable in ("XDG_CONFIG_HOME", "USERDOMAIN", "USERNAME"):
        monkeypatch.delenv(variable, raising=False)
    made = define(command, home, home)
    assert (ROOT / name).read_text(encoding=made.encoding) == made.text


@pytest.mark.parametrize("folder", ["plain", "a $HOME 100%n; ü"])
def test_systemd_has_nothing_to_say_against_the_unit(tmp_path: Path, folder: str) -> None:
    file, program = tmp_path / "jazzd.service", tmp_path / folder / "python"
    program.parent.mkdir()
    program.symlink_to(sys.executable)
    file.write_text(systemd.define([str(program), "-m", "jazzd", "run"], tmp_path, tmp_path).text)
    _check_unit(file.read_text())
    if shutil.which("systemd-analyze"):
        said = subprocess.run(
            ["systemd-analyze", "--user", "verify", str(file)], capture_output=True, text=True, timeout=30
        )
        # Older ones do not know the steps between restarts, and go on without.
        unknown = ("RestartSteps", "RestartMaxDelaySec", "$XDG_RUNTIME_DIR", "SO_PASSCRED")
        complaints = [line for line in said.stderr.splitlines() if not any(w in line for w in unknown)]
        assert not [line for line in complaints if "jazzd.service" in line], complaints


def _check_unit(text: str) -> None:
    """Sections, keys and quoting, wherever there is no systemd to ask."""
    section, keys = "", set()
    for line in text.splitlines():
        if not line or line.startswith("#"):
            continue
        if line.startswith("["):
            section = line.strip("[]")
            assert section in ("Unit", "Service", "Install")
            continue
        key, equals, value = line.partition("=")
        assert equals
        assert value
        assert key.isalnum()
        assert (section, key) not in keys or key == "After"
        keys.add((section, key))
    wanted = "Type WatchdogSec Restart NoNewPrivileges ProtectSystem PrivateTmp MemoryMax LimitRTPRIO"
    assert {("Service", key) for key in wanted.split()} <= keys


def test_the_unit_quotes_the_command() -> None:
    line = next(
        line
        for line in systemd.define(COMMAND, Path("/h"), Path("/h")).text.splitlines()
        if "ExecStart" in line
    )
    assert line == 'ExecStart="/opt/jazz d/bin/python" -m jazzd run --config "/home/a & b/100%%.toml"'
    assert systemd._line(["/a$b", 'a"b$c\\', "d\ne"]) == '"/a$b" "a\\"b$$c\\\\" "d\\ne"'
    for folder in ("/ends in a space ", "/or\\", "/two\nlines"):
        with pytest.raises(JazzdError, match="cannot be a service's folder"):
            systemd.define(COMMAND, Path("/h"), Path(folder))
    for program in ('/the "new"/python', "/back\\slash", "/two\nlines"):
        with pytest.raises(JazzdError, match="systemd starts nothing of the name"):
            systemd.define([program, "run"], Path("/h"), Path("/h"))


def test_the_agent_is_a_plist() -> None:
    agent = plistlib.loads(launchd.define(COMMAND, Path("/Users/you"), Path("/Users/you")).text.encode())
    assert agent["ProgramArguments"][:6] == COMMAND
    assert agent["KeepAlive"] == {"SuccessfulExit": False}
    assert agent["ProcessType"] == "Interactive"
    assert agent["StandardErrorPath"].startswith("/Users/you/Library/Logs/")


def test_the_task_is_as_its_schema_has_it() -> None:
    """Elements, order and namespace of the schema that [MS-TSCH] prints, as far as we use it."""
    task = windows.define(COMMAND, Path("C:/Users/you"), Path("C:/jazzd"))
    root = ET.fromstring(task.text.split("?>", 1)[1])
    space = "{http://schemas.microsoft.com/windows/2004/02/mit/task}"

    def names(element: ET.Element) -> list[str]:
        return [child.tag.removeprefix(space) for child in element]

    assert root.tag == f"{space}Task"
    assert root.get("version") == "1.3"
    assert names(root) == ["RegistrationInfo", "Triggers", "Principals", "Settings", "Actions"]
    assert root.findtext(f".//{space}Command") == COMMAND[0]
    arguments = root.findtext(f".//{space}Arguments")
    assert arguments
    assert '"/home/a & b/100%.toml"' in arguments
    duration = root.findtext(f".//{space}RestartOnFailure/{space}Interval")
    assert duration == "PT1M"
    assert root.findtext(f".//{space}LogonType") == "InteractiveToken"
    assert task.text.encode(task.encoding)[:2] in (b"\xff\xfe", b"\xfe\xff")


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """A systemctl that writes down what it is told, and does as its script says."""

    def made(script: str) -> Path:
        told = tmp_path / "told"
        tool = tmp_path / "bin" / "systemctl"
        tool.parent.mkdir(exist_ok=True)
        tool.write_text(f'#!/bin/sh\necho "$@" >> {told}\n{script}\n')
        tool.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tool.parent}:{os.environ['PATH']}")
        return told

    return made


RUN = ("/usr/bin/env", "jazzd", "run")


@pytest.fixture
def service(tmp_path: Path) -> Definition:
    return systemd.define([*RUN, "--config", f"{tmp_path}/my settings.toml"], tmp_path / "home", tmp_path)


def test_it_is_installed_twice_and_taken_away_once(tools: Callable[[str], Path], service: Definition) -> None:
    told = tools("echo active")
    assert manager.status(RUN)["installed"] is False
    for _ in range(2):
        manager.install(service)
    assert service.path.read_text() == service.text
    found = manager.status(RUN)
    assert (found["installed"], found["current"], found["state"]) == (True, True, "active")
    first = ["daemon-reload", "enable --now --no-block jazzd.service"]
    again = ["disable --now jazzd.service", "daemon-reload", *first]
    asked = "show --property=ActiveState --value jazzd.service"
    assert told.read_text().splitlines() == [f"--user {line}" for line in (*first, *again, asked)]
    assert manager.uninstall(service)
    assert not service.path.exists()
    assert not manager.uninstall(service)
    assert not list(service.path.parent.iterdir())


def test_what_fails_leaves_what_was_there(tools: Callable[[str], Path], service: Definition) -> None:
    told = tools("echo no bus >&2; exit 1")
    with pytest.raises(JazzdError, match="no bus"):
        manager.install(service)
    assert not service.path.exists()
    service.path.write_text("older")
    tools('case "$*" in *enable*) echo no bus >&2; exit 1;; esac')
    told.unlink()
    with pytest.raises(JazzdError):
        manager.install(service)
    assert service.path.read_text() == "older"
    assert manager.status(RUN)["current"] is False
    assert told.read_text().count("enable --now --no-block") == 2, "the older one is in force again"


def test_settings_that_would_not_start_are_refused(
    tools: Callable[[str], Path], jazzd: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    told = tools("")
    (tmp_path / "wrong.toml").write_text("[midi]\nbackend = 'none of these'\n")
    code, out, err = jazzd("service", "install", "--config", str(tmp_path / "wrong.toml"))
    assert (code, out) == (2, "")
    assert "wrong.toml: midi.backend" in err
    assert not told.exists()
    assert manager.status(RUN)["installed"] is False


def test_without_a_service_manager_there_is_a_sentence(
    service: Definition, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(JazzdError, match="no systemctl"):
        manager.install(service)
    monkeypatch.setattr(sys, "platform", "plan9")
    with pytest.raises(JazzdError, match="plan9"):
        manager.definition(["jazzd"])


class Systemd:
    """Listens as systemd would."""

    def __init__(self, folder: Path) -> None:
        self.address = str(folder / "notify")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.address)
        self._socket.settimeout(0.1)
        self.heard: list[str] = []

    def listen(self, seconds: float, until: str = "") -> list[str]:
        """What was said in that time, or until that was."""
        end, said = time.monotonic() + seconds, []
        while time.monotonic() < end and until not in said:
            with contextlib.suppress(TimeoutError):
                said.append(self._socket.recv(4096).decode())
        self.heard += said
        return said

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def listener(private_user: Path) -> Iterator[Systemd]:
    listener = Systemd(private_user)
    yield listener
    listener.close()


def test_the_daemon_is_ready_when_music_can_come_and_tells_how_it_is(
    listener: Systemd, private_user: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", listener.address)
    monkeypatch.setenv("WATCHDOG_USEC", "1000000")
    with staged(private_user, TCP_ONLY) as stage:
        assert "READY=1" in listener.listen(10, until="READY=1")
        assert stage.status()["engine"]["state"] == "ready"
        said = listener.listen(2)
        assert said.count("WATCHDOG=1") >= 2
        assert any(line.startswith("STATUS=ready: fake, style plain") for line in listener.heard)
        stage.process.send_signal(signal.SIGSTOP)
        listener.listen(0.3)
        assert listener.listen(1.5) == [], "who stands still does not feed the watchdog"
        stage.process.send_signal(signal.SIGCONT)
        assert "WATCHDOG=1" in listener.listen(3, until="WATCHDOG=1")
        stage.process.send_signal(signal.SIGTERM)
        assert "STOPPING=1" in listener.listen(5, until="STOPPING=1")
        assert stage.process.wait(5) == 0


def test_an_engine_that_makes_no_note_is_not_ready(
    listener: Systemd, private_user: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", listener.address)
    with staged(private_user, TCP_ONLY, "mute") as stage:
        assert "READY=1" not in listener.listen(3)
        assert stage.status()["engine"]["state"] == "starting"


def test_a_supervisor_gets_a_killed_daemon_back(
    listener: Systemd, private_user: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What systemd does with Type=notify and Restart=on-failure, done by hand."""
    monkeypatch.setenv("NOTIFY_SOCKET", listener.address)
    for _ in range(2):
        with staged(private_user, TCP_ONLY) as stage:
            assert "READY=1" in listener.listen(10, until="READY=1")
            stage.process.kill()
            assert stage.process.wait(5) == -signal.SIGKILL
    with staged(private_user, TCP_ONLY) as stage:
        assert "READY=1" in listener.listen(10, until="READY=1")
        stage.stop()


def test_nobody_listens_and_nobody_minds(tmp_path: Path) -> None:
    Notifier.of({}).ready()
    Notifier.of({"NOTIFY_SOCKET": str(tmp_path / "none")}).alive()
    assert Notifier.of({"WATCHDOG_USEC": "5000000"}).watchdog_s == 5
    assert Notifier.of({"WATCHDOG_USEC": "5000000", "WATCHDOG_PID": "1"}).watchdog_s is None
    assert Notifier.of({"WATCHDOG_USEC": "soon"}).watchdog_s is None
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as abstract:
        abstract.bind(f"\0jazzd-test-{os.getpid()}")
        Notifier(f"@jazzd-test-{os.getpid()}").status("two\nlines")
        assert abstract.recv(100) == b"STATUS=two lines"


def test_print_writes_nothing(jazzd: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    config = tmp_path / "mine.toml"
    config.touch()
    code, out, _ = jazzd("service", "print", "--config", "mine.toml")
    assert code == 0
    assert str(config) in out
    code, _, err = jazzd("service", "print", "--config", "none.toml")
    assert (code, err.count("\n")) == (2, 1)
