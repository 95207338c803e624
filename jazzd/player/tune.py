"""A chart that is played: by song position where a clock runs, else from the first chord on."""

import math
from dataclasses import replace
from typing import Any

from jazzd.music.grid import Grid
from jazzd.music.notes import Seconds
from jazzd.player.capture import ChordCaptured
from jazzd.player.form import Chart, Form
from jazzd.player.manner import Manner
from jazzd.player.midi_clock import BACK_S
from jazzd.player.soloist import Soloist
from jazzd.player.tempo import Tempo

BARS_TO_TRADE = 4
"""The turn of each where the settings count chords: those of a chart are nobody's to count."""
EARLY_S = 0.2
"""How long before its first note the solo is asked for."""
SOON_BEATS = 1 / 8
"""Where the song goes on is told just before its tick, in sixteenths: half of one."""
AHEAD_BEATS = 64
"""How far the engine is told of the chords to come, and every bar anew: the tempo may change."""


class Tune:
    """The solo's turns over a chart. It belongs to the session, which says when to poll."""

    def __init__(self, chart: Chart, soloist: Soloist, tempo: Tempo) -> None:
        self._chart, self._soloist, self._tempo = chart, soloist, tempo
        self._running = tempo.clock.started_at is not None
        self._beats: Grid | None = None
        """The tune's own beats, where nobody tells the song position; beat 0 is its first."""
        self._taken: tuple[float, float] | None = None
        """The beats of a turn of the solo that the human took: it is not taken back."""
        self._struck_at = self._lost_at = Seconds(-math.inf)
        self._told_at = Seconds(0.0)

    def start(self, manner: Manner, now: Seconds) -> None:
        """The clock was started, or is elsewhere in the song."""
        self._taken = None
        self.go_on(manner, now)

    def go_on(self, manner: Manner, now: Seconds) -> None:
        """The clock goes on, perhaps elsewhere: so does what is played, where it is the solo's turn."""
        self._running, self._beats = True, None
        grid = self._grid(now)
        if grid is None or self._soloist.phrase is None:
            return
        beat = grid.beat(now) + SOON_BEATS
        begin, end = self._turn(manner, grid, beat)
        if begin <= beat and self._soloist.playing:
            self._soloist.leap(self._ahead(grid, beat, end, now))
        else:
            self._soloist.break_off()

    def stop(self) -> None:
        """Nothing is played until the next start, or the next chord."""
        self._running, self._taken, self._lost_at = False, None, Seconds(-math.inf)

    def lose_clock(self, now: Seconds) -> None:
        """Nothing is played until the clock is back, if it is so soon."""
        if self._running:
            self._running, self._lost_at = False, now

    def find_clock(self, manner: Manner, now: Seconds) -> None:
        """The clock ticks again."""
        if now - self._lost_at < BACK_S:
            self.go_on(manner, now)

    def struck(self, event: ChordCaptured) -> None:
        """The human struck a chord: without a clock the first one begins the tune."""
        if self._running:
            self._soloist.hear(event.struck)
        self.begin(event.struck[0].at)
        self.played(event.struck[0].at)

    def played(self, at: Seconds) -> None:
        """The human struck a key, of a chord or of a line."""
        self._struck_at = at

    def begin(self, at: Seconds) -> None:
        """It begins with what was struck then, unless it is being played already."""
        if not self._running:
            self._count_from(at)
        self._running = True

    def leave(self, manner: Manner, now: Seconds) -> None:
        """The human plays into the music: in a trade this turn is theirs now, if it was not anyway."""
        if manner.mode == "trade" and (grid := self._grid(now)):
            begin, end = self._turn(manner, grid, grid.beat(now))
            self._taken = (begin, end) if begin <= grid.beat(now) else None

    def deadline(self, manner: Manner, now: Seconds) -> Seconds | None:
        """When to poll next."""
        grid = self._grid(now)
        if not self._running or grid is None:
            return None
        times = [grid.next(now + grid.beat_s / 2)] if self._beats else []  # lest the count is lost
        if self._soloist.playing:
            times.append(self._told_at)
        elif not self._soloist.phrase:
            begin, _ = self._turn_to_enter(manner, grid, grid.beat(now))
            times.append(Seconds(max(grid.time(begin) - EARLY_S, now)))
        return min(times, default=None)

    def poll(self, manner: Manner, now: Seconds) -> None:
        grid = self._grid(now)
        if not self._running or grid is None:
            return
        if self._soloist.phrase is None:
            begin, end = self._turn_to_enter(manner, grid, grid.beat(now))
            if grid.beat(now) + SOON_BEATS >= self._last_beat(manner):
                self._running = False
            elif now < grid.time(begin) - EARLY_S:
                pass
            elif self._alone(manner, grid, begin):
                self._running = False
            else:
                self._enter(manner, grid, begin, end, now)
        elif self._soloist.playing and now >= self._told_at:
            _, end = self._turn(manner, grid, self._open(grid.beat(now)))
            self._soloist.foresee(self._ahead(grid, grid.beat(now), end, now))

    def place(self, now: Seconds) -> dict[str, Any]:
        """The chorus, the bar of how many (both from 1) and the chord; nothing while it is not played."""
        grid = self._grid(now)
        if not self._running or grid is None:
            return {}
        beat = max(0.0, grid.beat(now))
        chorus, beat_of_it = divmod(beat, self._chart.beats)
        chord = self._chart.form(grid, beat, beat + 1).chord(grid.time(beat))
        return {
            "chorus": int(chorus) + 1,
            "bar": int(beat_of_it // self._chart.bar) + 1,
            "bars": math.ceil(self._chart.beats / self._chart.bar),
            "chord": chord.symbol if chord else "",
        }

    def _count_from(self, at: Seconds) -> None:
        """Bar 1 begins where the human struck the first chord: on the nearest beat, or bar where those are
        shared with others."""
        self._beats, self._taken = None, None
        source, grid = self._tempo.now(at)
        if grid and self._tempo.clock.started_at is None:
            unit = grid.bar if source == "link" else 1
            first = grid.time(unit * round(grid.beat(at) / unit))
            self._beats = replace(grid, origin=first, song=None)

    def _grid(self, now: Seconds) -> Grid | None:
        """The tune's beats. Whoever tells the tempo may count anew; the tune counts on, on the same beats."""
        grid = self._tempo.grid(now)
        if grid is None or self._beats is None:
            return grid
        beat = self._beats.beat(now)
        beat += (grid.beat(now) - beat + 0.5) % 1 - 0.5
        self._beats = replace(grid, origin=Seconds(now - beat * grid.beat_s), song=None)
        return self._beats

    def _enter(self, manner: Manner, grid: Grid, begin: float, end: float, now: Seconds) -> None:
        """On the first beat of the turn; where that is gone, at once or on the next one."""
        soonest = Seconds(now + self._soloist.pace.lead_s)
        late = grid.time(begin) < soonest
        at = grid.next(soonest) if late else grid.time(begin)
        at_once = late and manner.start == "now"
        form = self._ahead(grid, grid.beat(soonest if at_once else at), end, now)
        self._soloist.ask((), at=None if at_once else at, form=form)

    def _ahead(self, grid: Grid, beat: float, end: float, now: Seconds) -> Form:
        """The chords from that beat on, as far as the engine is to know; when it is to be told anew."""
        self._told_at = grid.next(now + grid.beat_s, grid.bar)
        upto = min(end, beat + AHEAD_BEATS)
        return self._chart.form(grid, beat, upto, over=upto == end)

    def _open(self, beat: float) -> float:
        """This beat, or the first one after the turn that the human took, while the song is there."""
        if self._taken and not self._taken[0] - 1 <= beat < self._taken[1]:  # a beat: the grid may move
            self._taken = None
        return self._taken[1] if self._taken else beat

    def _turn(self, manner: Manner, grid: Grid, beat: float) -> tuple[float, float]:
        """The solo's turn at this beat, or the next one: its first beat and the one after its last."""
        first = self._chart.bar * manner.count_in
        if manner.mode == "follow":
            return max(first, beat), self._last_beat(manner)
        length = self._chart.bar * (manner.bars or BARS_TO_TRADE)
        number = max(0, math.floor((beat - first) / length))
        ours = number if number % 2 else number + 1  # the human's turn is the first
        return first + ours * length, first + (ours + 1) * length

    def _turn_to_enter(self, manner: Manner, grid: Grid, beat: float) -> tuple[float, float]:
        """The same, but the next one in the last beat of a traded turn, which has no room for a phrase."""
        begin, end = self._turn(manner, grid, self._open(beat))
        return self._turn(manner, grid, end) if manner.mode == "trade" and end - beat < 1 else (begin, end)

    def _alone(self, manner: Manner, grid: Grid, begin: float) -> bool:
        """Whether all choruses are over, nobody has played in the human's turn before beat `begin`, and no
        clock says to go on."""
        if (
            manner.mode == "follow"
            or self._tempo.clock.started_at is not None
            or begin < self._played_out(manner)
        ):
            return False
        length = self._chart.bar * (manner.bars or BARS_TO_TRADE)
        return self._struck_at < grid.time(begin - length) - grid.beat_s

    def _last_beat(self, manner: Manner) -> float:
        """Where the tune is over: with a clock, when that stops; traded, when the human has had enough."""
        if self._tempo.clock.started_at is not None or manner.mode == "trade":
            return math.inf
        return self._played_out(manner)

    def _played_out(self, manner: Manner) -> float:
        """The beat after all the choruses."""
        return self._chart.bar * manner.count_in + manner.choruses * self._chart.beats
