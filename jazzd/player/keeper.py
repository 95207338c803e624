"""Takes, written beside the music: when somebody asks for one, or all of it as it goes on."""

import asyncio
import contextlib
import math
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path

import structlog

from jazzd import takes
from jazzd.errors import ConfigError, MidiError
from jazzd.player.clock import Clock

AGAIN_S = 2.0
"""A pedal keeps one take in this time."""
RECORD_S = 300.0
"""How often a recording is written: well within what the tape holds."""


def check_recordable(folder: Path) -> None:
    """Raises ConfigError where nothing can be written: better now than after the concert."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ConfigError(f"cannot record into {folder}: {error.strerror}; name another") from None


class Keeper:
    """Writes takes into `folder`; `shoot` is the take of what came after a time of the clock.

    That is quick and belongs to the loop; to write it is slow and does not.
    """

    def __init__(self, folder: Path, clock: Clock, shoot: Callable[[float], takes.Take]) -> None:
        self._folder, self._clock, self._shoot = folder, clock, shoot
        self._kept_at = self._pressed_at = float("-inf")
        self._writing = threading.Lock()
        """Two takes of one second must not choose the same name."""
        self._running: set[asyncio.Task[object]] = set()
        """asyncio itself holds its tasks only weakly."""

    async def keep(self) -> dict[str, object]:
        """Writes all that is on the tape; its file and how many notes of the solo are in it.

        Raises MidiError where it cannot be written.
        """
        take = self._shoot(float("-inf"))
        path = await asyncio.to_thread(self.write, take)
        return {"file": str(path), "notes": take.notes}

    def press(self) -> None:
        """The pedal went down: keep, when the loop has time. What goes wrong is logged."""
        now = self._clock.now()
        if now - self._pressed_at >= AGAIN_S:  # a pedal that flutters means one take
            self._pressed_at = now
            self._soon(asyncio.create_task(self.keep()))

    @contextlib.asynccontextmanager
    async def recording(self) -> AsyncIterator[None]:
        """Writes all that is played, in parts shorter than the tape, the last one at the end."""
        task = asyncio.create_task(self._record())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait({task})
            try:
                self.write_part()
            except MidiError as error:
                _not_kept(error)

    async def _record(self) -> None:
        while True:
            await asyncio.sleep(RECORD_S)
            write = self._part()
            self._soon(asyncio.create_task(asyncio.to_thread(write)))

    def write_part(self) -> Path:
        """Writes what came after the part before. Where that is not possible, the next part holds it too.

        Raises MidiError.
        """
        return self._part()()

    def _part(self) -> Callable[[], Path]:
        """What came after the part before, ready to be written."""
        since = self._kept_at
        take = self._shoot(since)
        self._kept_at = math.nextafter(take.ended, math.inf)
        return partial(self._write_or_again, take, since)

    def _write_or_again(self, take: takes.Take, since: float) -> Path:
        try:
            return self.write(take)
        except MidiError:
            self._kept_at = min(self._kept_at, since)
            raise

    def write(self, take: takes.Take) -> Path:
        """Writes it under a name of the time of day. Raises MidiError where that is not possible."""
        with self._writing:
            stem = time.strftime("jazzd-%Y%m%d-%H%M%S")
            path, number = self._folder / f"{stem}.mid", 1
            while path.exists():
                number += 1
                path = self._folder / f"{stem}-{number}.mid"
            takes.write(path, take)
        structlog.get_logger().info("take_kept", file=str(path), notes=take.notes)
        return path

    def _soon(self, task: asyncio.Task[object]) -> None:
        """Lets it run, and logs what goes wrong."""

        def done(task: asyncio.Task[object]) -> None:
            self._running.discard(task)
            if not task.cancelled() and (error := task.exception()):
                _not_kept(error)

        self._running.add(task)
        task.add_done_callback(done)


def _not_kept(error: BaseException) -> None:
    structlog.get_logger().error("take_not_kept", reason=str(error))
