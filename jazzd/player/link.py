"""Ableton Link, where the package aalink is installed (`pip install "jazzd[link]"`)."""

import contextlib
from collections.abc import Callable, Iterator

import structlog

from jazzd.music.grid import Grid
from jazzd.music.notes import Seconds
from jazzd.player.clock import Clock


@contextlib.contextmanager
def ableton_link(source: str, bpm: float, clock: Clock) -> Iterator[Callable[[], Grid | None]]:
    """Joins the session on the local network while the block lasts; belongs to the running loop.

    `source` is that of the settings: `link` must have it, `auto` would like it, others do without. What comes
    out says the beats of the session: None while there is no other peer, or no Link at all.
    """
    if source not in ("auto", "link"):
        yield lambda: None
        return
    try:
        from aalink import Link
    except ImportError:
        if source == "link":
            reason = 'aalink is not installed: pip install "jazzd[link]"'
            structlog.get_logger().warning("no_ableton_link", reason=reason)
        yield lambda: None
        return
    link = Link(bpm)
    link.enabled = True

    def grid() -> Grid | None:
        if not link.num_peers:
            return None
        beat_s = 60 / link.tempo
        return Grid(Seconds(clock.now() - link.beat * beat_s), beat_s)

    try:
        yield grid
    finally:
        link.enabled = False
