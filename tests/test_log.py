import json
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
    log.configure()
    structlog.get_logger().info("chord_captured", chord="Dm7", keys=4)
    structlog.get_logger().debug("unseen")
    out, err = capsys.readouterr()
    assert out == ""
    event = json.loads(err)
    assert (event["event"], event["chord"], event["keys"]) == ("chord_captured", "Dm7", 4)
    assert event["level"] == "info"


def test_the_level_is_a_variable(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAZZD_LOG", "debug")
    log.configure()
    structlog.get_logger().debug("seen")
    assert "seen" in capsys.readouterr().err


def test_a_level_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAZZD_LOG", "loud")
    with pytest.raises(ConfigError, match="JAZZD_LOG"):
        log.configure()


def test_a_reader_that_went_away_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    class Closed:
        def write(self, _text: str) -> None:
            raise BrokenPipeError

        def flush(self) -> None:
            raise BrokenPipeError

        def isatty(self) -> bool:
            return False

    monkeypatch.setattr("sys.stderr", Closed())
    log.configure()
    structlog.get_logger().warning("unheard")
