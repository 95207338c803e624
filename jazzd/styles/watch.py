"""Noticing that something changed in the folder of the styles. What it was is the registry's business."""

import os
import queue
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver
from watchdog.observers.polling import PollingObserver

QUIET_S = 0.3
"""After the last sign of a change, before the look."""
PATIENCE_S = 1.0
"""After the first one, where they do not end."""
AGAIN_S = 0.4
"""Before a second look at what seemed half-written."""
TICK_S = 0.25
"""Between two glances at whether the folder is still the same one."""
READING = ("opened", "closed_no_write")
"""Events that are no change: every look makes them, and would be the sign for the next one."""
REMOTE = (
    "nfs",
    "cifs",
    "smb",
    "9p",
    "fuse.",
    "virtiofs",
    "vboxsf",
    "prl_fs",
    "fakeowner",
    "ceph",
    "glusterfs",
)
"""Beginnings of the names of file systems on which another machine may write without anybody telling us."""
MOUNTS = Path("/proc/mounts")


class Debounce:
    """When to look, from the times of the signs (seconds of any clock)."""

    def __init__(self) -> None:
        self._first: float | None = None
        self._due: float | None = None

    def sign(self, now: float) -> None:
        """Something changed."""
        self._first = now if self._first is None else self._first
        self._due = min(now + QUIET_S, self._first + PATIENCE_S)

    def again(self, now: float) -> None:
        """The look was not the last one."""
        self._due = now + AGAIN_S

    def wait(self, now: float) -> float:
        """Seconds until the look, infinite where nothing changed."""
        return float("inf") if self._due is None else max(0.0, self._due - now)

    def looked(self) -> None:
        self._first = self._due = None


class Watch:
    """Calls `look` in a thread of its own: at the start, and whenever something in the folder changed.

    `look` returns whether it wants to be called again soon. The folder may be missing, and come and go.
    """

    def __init__(self, folder: Path, look: Callable[[], bool]) -> None:
        self._folder, self._look = folder, look
        self._signs: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="styles", daemon=True)
        self._observer: BaseObserver | None = None
        self._identity: tuple[int, int] | None = None

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._signs.put(False)
        self._thread.join()

    def touch(self) -> None:
        """Something changed, or might have."""
        self._signs.put(True)

    def _run(self) -> None:
        debounce = Debounce()
        self._follow()
        debounce.again(time.monotonic() - AGAIN_S)  # the first look is due at once
        while True:
            if debounce.wait(time.monotonic()) == 0:
                debounce.looked()
                if self._look():
                    debounce.again(time.monotonic())
            try:
                if not self._signs.get(timeout=min(TICK_S, debounce.wait(time.monotonic()))):
                    break
                debounce.sign(time.monotonic())
            except queue.Empty:
                if self._follow():
                    debounce.sign(time.monotonic())
        self._unobserve()

    def _follow(self) -> bool:
        """Observe the folder that has the name now; whether it is another one than before."""
        try:
            status = os.stat(self._folder)
            identity = (status.st_dev, status.st_ino)
        except OSError:
            identity = None
        # An observer whose folder was deleted ends, and the next folder may get the same inode.
        alive = self._observer is None or all(emitter.is_alive() for emitter in self._observer.emitters)
        if identity == self._identity and alive:
            return False
        self._unobserve()
        if identity:
            self._observer = _observing(self._folder.resolve(), _Handler(self.touch))
        self._identity = identity if self._observer else None
        return True

    def _unobserve(self) -> None:
        if self._observer:
            self._observer.stop()
            self._observer.join()
            self._observer = None


class _Handler(FileSystemEventHandler):
    def __init__(self, touch: Callable[[], None]) -> None:
        self._touch = touch

    def on_any_event(self, event: FileSystemEvent) -> None:
        if event.event_type not in READING:
            self._touch()


def _observing(folder: Path, handler: FileSystemEventHandler) -> BaseObserver | None:
    """The system's own observer of the folder, else one that keeps looking; None when it is gone again."""
    kinds: list[Callable[[], BaseObserver]] = [partial(PollingObserver, timeout=TICK_S)]
    if not is_remote(folder):
        kinds.insert(0, Observer)
    for kind in kinds:
        observer = kind()
        try:
            observer.schedule(handler, str(folder), recursive=True)
            observer.start()
        except OSError:  # inotify has run out of watches
            continue
        return observer
    return None


def is_remote(folder: Path, mounts: Path = MOUNTS) -> bool:
    """Whether another machine may write there. Known on Linux only."""
    try:
        lines = mounts.read_text(errors="replace").splitlines()
    except OSError:
        return False
    nearest, kind = "", ""
    for line in lines:
        _, point, its_kind, *_ = line.split(" ")
        point = point.replace("\\040", " ")
        if folder.is_relative_to(point) and len(point) >= len(nearest):
            nearest, kind = point, its_kind
    return kind.startswith(REMOTE)
