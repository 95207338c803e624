"""The real player with the fake engine, as a process of its own."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import mido
import pytest

from jazzd.errors import JazzdError
from jazzd.player import control

FAKE_ENGINE = str(Path(__file__).parent / "fake_engine.py")
SCRIPT = """
import sys
from jazzd import log
from jazzd.config import load
from jazzd.player.daemon import run
from jazzd.config import find
with log.to_stderr():
    run(load(), engine_command=sys.argv[1:], file=find(), again=load)
"""


class Stage:
    """A running daemon; `variables` are its settings, and `within` stands before its command."""

    def __init__(
        self,
        folder: Path,
        variables: Mapping[str, str],
        mode: str = "good",
        stderr: int | None = None,
        within: Sequence[str] = (),
    ) -> None:
        self.socket = folder / "control.sock"
        self._log = folder / f"log-{time.monotonic_ns()}"
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [*within, sys.executable, "-c", SCRIPT, sys.executable, FAKE_ENGINE, "--mode", mode],
                env=os.environ | dict(variables) | {"JAZZD_SOCKET": str(self.socket)},
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log if stderr is None else stderr,
            )

    def status(self) -> dict[str, Any]:
        return control.ask({"do": "status"}, self.socket)

    def wait_for(
        self, condition: Callable[[dict[str, Any]], object], timeout_s: float = 15
    ) -> dict[str, Any]:
        """The first status that the condition holds for; else fails the test."""
        deadline = time.monotonic() + timeout_s
        while True:
            with contextlib.suppress(JazzdError):  # not listening yet
                status = self.status()
                if condition(status):
                    return status
            if time.monotonic() > deadline or self.process.poll() is not None:
                pytest.fail(f"not within {timeout_s} s; the daemon said:\n{self.said}")
            time.sleep(0.02)

    def ready(self) -> dict[str, Any]:
        return self.wait_for(lambda status: status["engine"]["state"] == "ready")

    def stop(self) -> None:
        """SIGTERM, and the promise about it."""
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(5) == 0, self.said

    @property
    def said(self) -> str:
        return self._log.read_text(errors="replace")

    @property
    def events(self) -> list[dict[str, Any]]:
        # The JACK library may say something between our own lines.
        ours = (line for line in self.said.splitlines() if not line.startswith("Jack::"))
        return [json.loads(line) for line in ours]


@contextlib.contextmanager
def staged(
    folder: Path,
    variables: Mapping[str, str],
    mode: str = "good",
    stderr: int | None = None,
    within: Sequence[str] = (),
) -> Iterator[Stage]:
    """A daemon for as long as the block lasts; its log, unless it goes to `stderr`, must be free of
    tracebacks."""
    stage = Stage(folder, variables, mode, stderr, within)
    try:
        yield stage
    finally:
        stage.process.kill()
        stage.process.wait()
    assert "Traceback" not in stage.said, stage.said


def strike(*pitches: int, velocity: int = 80) -> list[mido.Message]:
    return [mido.Message("note_on", note=pitch, velocity=velocity) for pitch in pitches]


def lift(*pitches: int) -> list[mido.Message]:
    return [mido.Message("note_off", note=pitch) for pitch in pitches]


def alive(pid: int) -> bool:
    """Whether a process still runs (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
