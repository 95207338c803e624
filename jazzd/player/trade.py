"""Trading: listen to some chords, or some bars of them, then answer over the same progression."""

import itertools
from statistics import median
from typing import NamedTuple, Self

from jazzd.music import chords
from jazzd.music.grid import Grid
from jazzd.music.notes import Seconds
from jazzd.player.capture import ChordCaptured
from jazzd.player.form import Foreseen, Form
from jazzd.player.manner import Manner
from jazzd.player.midi_clock import BACK_S
from jazzd.player.soloist import Soloist
from jazzd.player.tempo import Tempo

ONE_GESTURE_S = 0.15
"""What is struck this soon after a chord still belongs to it."""
FEWEST_KEYS = 2
"""A single key is no new chord."""
PICK_UP_BEATS = 0.5
"""A chord this early belongs to the bar to come."""
EARLY_S = 0.2
"""How long before its first note an answer is asked for: what is struck until then counts."""


class _Moment(NamedTuple):
    at: Seconds
    grid: Grid | None = None
    """The beats as they were then: by those of a later tempo it would be another beat."""

    def counted(self, grid: Grid) -> Self:
        """By these beats, if it was not by any of the same song."""
        known = self.grid is not None and self.grid.song is not None and self.grid.song == grid.song
        return self if known else self._replace(grid=grid)

    def place(self, grid: Grid | None) -> float:
        """In beats, or in seconds where there are none."""
        return self.at if grid is None else (self.grid or grid).beat(self.at)


class _Heard(NamedTuple):
    chord: ChordCaptured
    struck: _Moment


class Listening:
    """What the human has played since the last answer, as a progression.

    With `bars` the phrase is so many bars of the beat, from the bar of the first chord on; else it is
    `count` chords, and the last is taken to last as long as the others commonly did.
    """

    def __init__(self, count: int = 4, bars: int = 0) -> None:
        self.count, self.bars = count, bars
        self._heard: list[_Heard] = []
        self._released: _Moment | None = None

    def reset(self) -> None:
        """Nothing has been heard."""
        self._heard.clear()
        self._released = None

    def heard(self, captured: ChordCaptured) -> None:
        """A chord, or what was struck to one."""
        last = self._heard[-1].chord if self._heard else None
        began = captured.struck[0].at
        if last and (began - last.struck[0].at < ONE_GESTURE_S or len(captured.struck) < FEWEST_KEYS):
            joined = {key.pitch: key for key in (*last.struck, *captured.struck)}
            chord = ChordCaptured(tuple(joined.values()), last.pitches | captured.pitches, captured.at)
            self._heard[-1] = self._heard[-1]._replace(chord=chord)
        elif len(captured.struck) >= FEWEST_KEYS:
            if len(self._heard) == self.count and not self.bars:  # they go on: it begins anew
                self._heard.clear()
            self._heard.append(_Heard(captured, _Moment(began)))
        self._released = None

    def released(self, at: Seconds) -> None:
        """The hands are up."""
        self._released = _Moment(at)

    def recount(self, grid: Grid | None) -> None:
        """The beats lie so now: what was heard just now is counted by them."""
        if grid:
            self._heard = [heard._replace(struck=heard.struck.counted(grid)) for heard in self._heard]
            self._released = self._released and self._released.counted(grid)

    def begin(self, grid: Grid | None) -> Seconds | None:
        """When the answer begins; None while that cannot be known."""
        if self.bars:
            if grid is None or not self._heard:
                return None
            return grid.time(self._first_beat(grid) + self.bars * grid.bar)
        if len(self._heard) < self.count:
            return None
        first, length = self._heard[0].struck.place(grid), self._length(grid)
        if length is None:
            return None
        if grid is None:
            return Seconds(first + length)
        return grid.time(round(first) + max(1, round(length)))

    def ask_at(self, grid: Grid | None) -> Seconds | None:
        """When to ask for the answer."""
        begin = self.begin(grid)
        return None if begin is None else Seconds(begin - EARLY_S)

    def form(self, begin: Seconds, grid: Grid | None, choruses: int = 1) -> Form:
        """The progression from `begin` on, for every chorus of the answer."""
        places = [heard.struck.place(grid) for heard in self._heard]
        if grid is None:
            start, length_s, unit_s = places[0], begin - places[0], 1.0
        else:
            start = self._first_beat(grid) if self.bars else round(places[0])
            length_s, unit_s = (grid.beat(begin) - start) * grid.beat_s, grid.beat_s
        offsets = [0.0, *(max(0.0, (place - start) * unit_s) for place in places[1:]), length_s]
        once = [
            Foreseen(
                Seconds(offset),
                after - offset,
                chords.name(heard.chord.pitches),
                tuple((key.pitch, key.velocity) for key in heard.chord.struck),
            )
            for heard, (offset, after) in zip(self._heard, itertools.pairwise(offsets), strict=True)
        ]
        return Form(tuple(once), grid=grid).repeated(begin, length_s, choruses)

    def _first_beat(self, grid: Grid) -> int:
        """The beat at which the phrase's first bar begins."""
        beat = self._heard[0].struck.place(grid) + PICK_UP_BEATS
        return int(beat // grid.bar) * grid.bar

    def _length(self, grid: Grid | None) -> float | None:
        """Of the progression, in beats or seconds; None while a lone chord is held."""
        struck = [heard.struck.place(grid) for heard in self._heard]
        gaps = [later - earlier for earlier, later in itertools.pairwise(struck)]
        if gaps:
            return struck[-1] - struck[0] + median(gaps)
        return None if self._released is None else self._released.place(grid) - struck[0]


class Trade:
    """Listens, and asks for the answer once what was heard is complete. The session says when to poll."""

    def __init__(self, soloist: Soloist, tempo: Tempo, manner: Manner) -> None:
        self._soloist, self._tempo, self._manner = soloist, tempo, manner
        self._listening = Listening(manner.chords, manner.bars)
        self._broken_off: Form | None = None
        """What an answer was played over when its engine was lost."""

    def behave(self, manner: Manner) -> None:
        """So from now on. What was heard counts, unless another mode or length of phrase is listened for."""
        before, self._manner = self._manner, manner
        if (manner.mode, manner.bars, manner.chords) != (before.mode, before.bars, before.chords):
            self._broken_off = None
            self._listening = Listening(manner.chords, manner.bars)

    def lose_engine(self) -> None:
        """What is being played will be gone on with, unless the human plays first."""
        phrase = self._soloist.phrase
        self._broken_off = phrase.form if phrase and not phrase.resting else None

    def find_engine(self, now: Seconds) -> None:
        """There is another: the rest of the answer, if there is enough of it, comes from that."""
        form, self._broken_off = self._broken_off, None
        if form and (grid := self._tempo.grid(now)):
            form = form.carried(grid, now)
        if form and form.end is not None and form.end - now > self._tempo.beat_s(now):
            self._soloist.ask((), form=form)

    def heard(self, captured: ChordCaptured) -> None:
        """The human struck a chord."""
        self._broken_off = None
        self._listening.heard(captured)

    def released(self, at: Seconds) -> None:
        """The hands are up."""
        self._listening.released(at)

    def reset(self) -> None:
        """Nothing has been heard, and nothing is owed."""
        self._broken_off = None
        self._listening.reset()

    def deadline(self, now: Seconds) -> Seconds | None:
        """When to poll next."""
        if self._manner.bars and self._tempo.clock.hiccups(now):
            return Seconds(self._tempo.clock.lost_at + BACK_S)
        grid = self._trusted(now)
        self._listening.recount(grid)
        return self._listening.ask_at(grid)

    def poll(self, now: Seconds) -> None:
        grid, manner = self._trusted(now), self._manner
        self._listening.recount(grid)
        ask_at = self._listening.ask_at(grid)
        if ask_at is None or now < ask_at:
            return
        begin = self._listening.begin(grid)
        assert begin is not None  # or there would be no time to ask
        if manner.start != "now" and grid:
            quarter = 0.25 * grid.beat_s
            begin = grid.next(begin - quarter, grid.bar if manner.start == "bar" else 1)
        form = self._listening.form(begin, grid, manner.choruses)
        self._listening.reset()
        self._soloist.ask((), at=None if begin < now else begin, form=form)

    def _trusted(self, now: Seconds) -> Grid | None:
        """The beat, unless it is a guess from the chords themselves, which tell their own rhythm better.

        Where bars are counted, it is nobody else's while a clock may be back.
        """
        source, grid = self._tempo.now(now)
        if self._manner.bars:
            return None if self._tempo.clock.hiccups(now) else grid
        return grid if source in ("clock", "link", "taps") else None
