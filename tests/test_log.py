import fcntl
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from disk import full

from jazzd import log
from jazzd.errors import ConfigError


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    yield
    structlog.reset_defaults()


def test_off_a_terminal_an_event_is_one_line_of_json_on_stderr(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("JAZZD_LOG", raising=False)
    with log.to_stderr():
        structlog.get_logger().info("chord_captured", chord="Dm7", keys=4)
        structlog.get_logger().debug("unseen")
    out, err = capsys.readouterr()
    assert out == ""
    event = json.loads(err)
    assert (event["event"], event["chord"], event["keys"]) == ("chord_captured", "Dm7", 4)
    assert event["level"] == "info"


def test_the_level_is_a_variable(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAZZD_LOG", "debug")
    with log.to_stderr():
        structlog.get_logger().debug("seen")
    assert "seen" in capsys.readouterr().err


def test_a_level_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAZZD_LOG", "loud")
    with pytest.raises(ConfigError, match="JAZZD_LOG"), log.to_stderr():
        pass


def test_a_reader_that_went_away_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    class Closed:
        def write(self, _text: str) -> None:
            raise BrokenPipeError

        def flush(self) -> None:
            raise BrokenPipeError

        def isatty(self) -> bool:
            return False

    monkeypatch.setattr("sys.stderr", Closed())
    with log.to_stderr():
        structlog.get_logger().warning("unheard")


def test_a_reader_that_stands_still_stops_nothing_and_hears_how_much_it_missed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    with os.fdopen(reading) as reader, os.fdopen(writing, "w") as stream:
        monkeypatch.setattr("sys.stderr", stream)
        began = time.monotonic()
        with log.to_stderr():
            logger = structlog.get_logger()
            for number in range(2 * log.QUEUE_LIMIT):
                logger.info("chord_captured", n=number)
            assert time.monotonic() - began < 5
            heard = [json.loads(reader.readline())]
            while heard[-1]["event"] != "log_lines_dropped":
                heard.append(json.loads(reader.readline()))
            missed = heard.pop()["n"]
            assert missed > 0
            numbers = [event["n"] for event in heard]
            assert numbers == sorted(set(numbers))
            assert len(numbers) == 2 * log.QUEUE_LIMIT - missed
            logger.info("heard_again")
            assert json.loads(reader.readline())["event"] == "heard_again"


def test_a_full_disk_costs_lines_that_are_counted(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "jazzd.log"

    def events() -> list[dict[str, Any]]:
        return [json.loads(line) for line in file.read_text().splitlines()]

    with log.to_file(file):
        logger = structlog.get_logger()
        logger.info("before")
        wait_until(lambda: file.stat().st_size > 0)
        with full(file.stat().st_size):
            for number in range(500):
                logger.info("chord_captured", n=number)
            logger.info("the_last_of_these")
            time.sleep(0.2)
        logger.info("after")
        wait_until(lambda: "log_lines_dropped" in file.read_text())
    assert events()[0]["event"] == "before"
    assert events()[-1]["event"] == "log_lines_dropped"
    assert 0 < events()[-1]["n"] <= 501
    assert capfd.readouterr() == ("", "")


def test_what_children_say_goes_where_events_go(tmp_path: Path) -> None:
    assert log.for_children() == 2
    with log.to_file(tmp_path / "jazzd.log"):
        child = "import sys; sys.stderr.write('no backend\\n')"
        subprocess.run([sys.executable, "-c", child], stderr=log.for_children(), check=True)
        wait_until(lambda: (tmp_path / "jazzd.log").read_text() == "no backend\n")
    assert log.for_children() == 2


def test_the_end_waits_for_a_reader_that_stands_still_but_briefly(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    with os.fdopen(reading) as reader, os.fdopen(writing, "w") as stream:
        monkeypatch.setattr("sys.stderr", stream)
        with log.to_stderr():
            for number in range(100):
                structlog.get_logger().info("chord_captured", n=number)
            ending = time.monotonic()
        assert log.FAREWELL_S <= time.monotonic() - ending < 5
        reader.read(4096)  # lets the thread go
