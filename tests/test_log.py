import fcntl
import json
import os
import time
from collections.abc import Iterator

import pytest
import structlog

from jazzd import log
from jazzd.errors import ConfigError


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
