"""How events are written: pretty on a terminal, one JSON object a line otherwise, always to stderr."""

import contextlib
import logging
import os
import sys
from typing import TextIO, cast

import structlog
from structlog.typing import Processor

from jazzd.errors import ConfigError

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


class _Stderr:
    """Standard error, as long as somebody reads it: a closed terminal must not stop the music."""

    def write(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.write(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.flush()


def configure() -> None:
    """Set up structlog at the level JAZZD_LOG names (else info). Raises ConfigError for another name."""
    level = os.environ.get("JAZZD_LOG", "info").lower()
    if level not in LEVELS:
        raise ConfigError(f"JAZZD_LOG: {level!r} is not a level; allowed are {', '.join(LEVELS)}")
    pretty: list[Processor] = [
        structlog.processors.TimeStamper(fmt="%H:%M:%S.%f", utc=False),
        structlog.dev.ConsoleRenderer(),
    ]
    machine: list[Processor] = [
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        structlog.processors.JSONRenderer(),
    ]
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            *(pretty if sys.stderr.isatty() else machine),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=structlog.WriteLoggerFactory(cast(TextIO, _Stderr())),
    )
