"""How events are written: pretty on a terminal, one JSON object a line otherwise, always to stderr."""

import contextlib
import logging
import logging.handlers
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO, cast

import structlog
from structlog.typing import Processor

from jazzd.errors import ConfigError

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
QUEUE_LIMIT = 1000
"""Lines that wait for a reader of stderr; what comes on top is dropped, and counted."""
FAREWELL_S = 0.3
"""How long the end of the process waits for that reader."""
FILE_LIMIT, FILES = 5 << 20, 4
"""Bytes of a log file, and how many older ones are kept."""
STDERR = 2
_RETRY_S = 0.02
_for_children = STDERR


class Writer:
    """Lines to `stream` by a thread of its own: a reader that stands still, or went away, stops only that."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._descriptor = _descriptor(stream)
        self._lines: deque[str] = deque()
        self._dropped = 0
        self._writing = self._closed = False
        self._changed = threading.Condition()
        threading.Thread(target=self._run, name="log", daemon=True).start()

    def write(self, text: str) -> None:
        """Queues the text. Never waits, never raises."""
        with self._changed:
            if len(self._lines) < QUEUE_LIMIT:
                self._lines.append(text)
                self._changed.notify_all()
            else:
                self._dropped += 1

    def flush(self) -> None:
        """Nothing: what is queued goes out as soon as it can."""

    def close(self, within_s: float = FAREWELL_S) -> None:
        """Gives what is queued a chance to be written; then the thread ends, or is left to the system."""
        with self._changed:
            self._changed.wait_for(lambda: not (self._lines or self._writing), within_s)
            self._lines.clear()
            self._closed = True
            self._changed.notify_all()

    def _run(self) -> None:
        while (text := self._take()) is not None:
            try:
                self._put(text)
            except (OSError, ValueError):  # nobody reads any more, or the disk is full
                self._caught_up(lost=1)
            else:
                if dropped := self._caught_up():
                    structlog.get_logger().warning("log_lines_dropped", n=dropped)

    def _take(self) -> str | None:
        with self._changed:
            self._changed.wait_for(lambda: self._lines or self._closed)
            self._writing = bool(self._lines)
            return self._lines.popleft() if self._lines else None

    def _caught_up(self, lost: int = 0) -> int:
        """How many lines were dropped, once all others are written."""
        with self._changed:
            self._writing = False
            self._changed.notify_all()
            self._dropped += lost
            if self._lines or lost:
                return 0
            dropped, self._dropped = self._dropped, 0
            return dropped

    def _put(self, text: str) -> None:
        if self._descriptor is None:
            self._stream.write(text)
            self._stream.flush()
            return
        # Past Python's buffer: a thread that is stuck in there holds its lock, and the interpreter would wait
        # for that, or abort, when it ends.
        data = text.encode(self._stream.encoding or "utf-8", "backslashreplace")
        while data:
            try:
                data = data[os.write(self._descriptor, data) :]
            except BlockingIOError:  # a terminal that another program set so
                time.sleep(_RETRY_S)


@contextlib.contextmanager
def to_file(path: Path) -> Iterator[None]:
    """Events go to the file, one JSON object a line, and what was in it before to `.1`, `.2` ... when it has
    grown to FILE_LIMIT bytes; level as in `to_stderr`. Raises ConfigError where it cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handler = _Handler(path, maxBytes=FILE_LIMIT, backupCount=FILES, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"the log {path} cannot be written: {error.strerror}") from None
    with to_stderr(cast(TextIO, _Rotating(handler))) as writer, _hearing_children(writer):
        yield
    with contextlib.suppress(OSError):  # the disk is full
        handler.close()


@contextlib.contextmanager
def _hearing_children(writer: Writer) -> Iterator[None]:
    """What children write, if they have `for_children` as stderr, goes to the writer, too."""
    global _for_children
    end, _for_children = os.pipe()

    def read() -> None:
        with open(end, encoding="utf-8", errors="replace") as lines:
            for line in lines:
                writer.write(line)

    threading.Thread(target=read, name="log of children", daemon=True).start()
    try:
        yield
    finally:
        os.close(_for_children)
        _for_children = STDERR


def for_children() -> int:
    """The descriptor for what a child process says: it goes where our events go."""
    return _for_children


class _Handler(logging.handlers.RotatingFileHandler):
    def handleError(self, record: logging.LogRecord) -> None:
        """Raises what `emit` could not do, and has caught when it calls this."""
        raise


class _Rotating:
    """A stream of lines, as `Writer` wants one, into a file that is turned over."""

    encoding = "utf-8"

    def __init__(self, handler: logging.handlers.RotatingFileHandler) -> None:
        self._handler = handler

    def write(self, text: str) -> None:
        record = logging.LogRecord("jazzd", logging.INFO, "", 0, text.rstrip("\n"), None, None)
        self._handler.emit(record)

    def flush(self) -> None:
        """The handler does that itself."""

    def fileno(self) -> int:
        raise OSError("lines go through the handler")

    def isatty(self) -> bool:
        return False


@contextlib.contextmanager
def to_stderr(stream: TextIO | None = None) -> Iterator[Writer]:
    """Events go to stderr (or `stream`) from here on, at the level that JAZZD_LOG names (else info), and what
    is still queued when the block ends is written if somebody reads it. Raises ConfigError for another
    name."""
    stream = stream or sys.stderr
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
    writer = Writer(stream)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            *(pretty if stream.isatty() else machine),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=structlog.WriteLoggerFactory(cast(TextIO, writer)),
    )
    try:
        yield writer
    finally:
        writer.close()


def _descriptor(stream: TextIO) -> int | None:
    try:
        return stream.fileno()
    except (OSError, ValueError, AttributeError):
        return None
