"""What the system asks of the daemon by signals: to end, to read its settings anew."""

import asyncio
import contextlib
import faulthandler
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import structlog

from jazzd.errors import JazzdError

STOP_S = 4.0
"""A part that has not closed this long after SIGTERM is left to the system; the notes are off long before."""
HELD_S = 0.5
"""A driver that holds the interpreter lock holds up even that; then the process is ended without it."""


@contextlib.contextmanager
def stop_signals(loop: asyncio.AbstractEventLoop) -> Iterator[asyncio.Event]:
    """The event that SIGTERM and Ctrl-C set, and until somebody else heeds it, SIGHUP.

    Signals after the first change nothing: the notes are off by then, and the rest is over in STOP_S.
    """
    stop = asyncio.Event()
    # A driver that never returns (a JACK server that stands still) must not keep us.
    last_resort = threading.Timer(STOP_S, os._exit, (0,))
    last_resort.daemon = True
    stopping = False

    def signalled() -> None:
        nonlocal stopping
        if not stopping:
            stopping = True
            stop.set()
            last_resort.start()
            faulthandler.dump_traceback_later(STOP_S + HELD_S, exit=True)

    signals = [signal.SIGTERM, signal.SIGINT, *([] if sys.platform == "win32" else [signal.SIGHUP])]
    before = {each: _handle(loop, each, signalled) for each in signals}
    try:
        yield stop
    finally:
        last_resort.cancel()
        faulthandler.cancel_dump_traceback_later()
        for each in signals:
            # The process is about to end, and must not end in the noise of a second Ctrl-C.
            signal.signal(each, signal.SIG_IGN if stopping else before[each])


def heed_hang_up(loop: asyncio.AbstractEventLoop, reload: Callable[[], object]) -> None:
    """From now on SIGHUP has the settings read anew, or ends the daemon if its terminal is gone."""
    if sys.platform != "win32":
        had_terminal = _has_terminal()
        _handle(loop, signal.SIGHUP, lambda: _hang_up(reload, had_terminal))


def _handle(loop: asyncio.AbstractEventLoop, number: signal.Signals, handle: Callable[[], None]) -> Any:
    """Has the loop call it for that signal; what was there before.

    Not by the loop's own means: Windows has none, and taking that away gives the signal back to the system
    for a moment, which then ends the process.
    """
    return signal.signal(number, lambda *_: loop.call_soon_threadsafe(handle))


def _hang_up(reload: Callable[[], object], had_terminal: bool) -> None:
    if had_terminal and not _has_terminal():
        os.kill(os.getpid(), signal.SIGTERM)
        return
    try:
        reload()
    except JazzdError as error:
        structlog.get_logger().error("settings_refused", reason=str(error))


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True
