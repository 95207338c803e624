"""One thing at a time to the session, and time whenever it asks for it."""

import asyncio
from collections.abc import Callable
from typing import TypeVar, TypeVarTuple

from jazzd.player.clock import Clock
from jazzd.player.session import Session

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class Pulse:
    """Belongs to the running loop; after `stop` nothing reaches the session any more."""

    def __init__(self, session: Session, clock: Clock) -> None:
        self._session = session
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._due: float | None = None
        self._stopped = False

    def do(self, handle: Callable[[*Ts], T], *arguments: *Ts) -> T | None:
        """Calls a method of the session, or of what knows it, then sets the timer to its deadline."""
        if self._stopped:
            return None
        try:
            return handle(*arguments)
        finally:
            self._set_timer()

    def stop(self) -> None:
        """Silence, whatever else is still to come."""
        try:
            self.do(self._session.silence, "stopping")
        finally:
            self._stopped = True

    def _set_timer(self) -> None:
        if (due := self._session.deadline()) == self._due:
            return
        if self._timer:
            self._timer.cancel()
        wait_s = 0.0 if due is None else max(0.0, due - self._clock.now())
        self._timer = None if due is None else self._loop.call_later(wait_s, self._beat)
        self._due = due

    def _beat(self) -> None:
        self._timer = self._due = None
        self.do(self._session.poll)
