"""When an answer is to begin: at once, or by the beat."""

from jazzd.music.notes import Seconds
from jazzd.player.manner import Manner
from jazzd.player.tempo import Tempo


def entry(manner: Manner, tempo: Tempo, now: Seconds, lead_s: float, entering: bool) -> Seconds | None:
    """When an answer that is asked for now begins; None for at once.

    Its first note takes `lead_s` to be made. `entering`: nothing is being played.
    """
    grid = tempo.grid(now)
    if grid is None:
        return None
    earliest, counted_in = Seconds(now + lead_s), grid.time(grid.bar * manner.count_in)
    if entering and manner.count_in and tempo.clock.started_at is not None and now < counted_in:
        earliest = max(earliest, counted_in)
    elif manner.start == "now":
        return None
    bar = manner.start == "bar" and entering
    return grid.next(earliest, grid.bar if bar else 1)


def waits_for_beat(manner: Manner, tempo: Tempo, now: Seconds) -> bool:
    """Whether what enters now is to do so by a clock that was just started and has not told its beat yet."""
    by_beat = bool(manner.count_in) or manner.start != "now"
    return by_beat and tempo.now(now) == ("clock", None)
