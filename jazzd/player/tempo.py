"""The beat, from whoever tells it best: MIDI clock, Ableton Link, tapping, the chords, the settings."""

import itertools
import math
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import lru_cache
from statistics import median_low
from typing import Literal

import mido

from jazzd.music.grid import BEATS_PER_BAR, Grid, strong
from jazzd.music.notes import Seconds
from jazzd.player.midi_clock import MidiClock

Source = Literal["auto", "clock", "link", "chords", "bpm"]
OCTAVES_OFF = 0.5
"""How far a tempo commonly is from the one in the settings: a standard deviation, in octaves."""
OFF_BEAT = 0.12
"""How far, in beats, a chord commonly is from its beat."""
ONE_PUSHED = 0.9
"""How usual it is that one of them is off the beat on purpose, where that none is has 1."""
LEAST_USUAL = 0.2
"""A count that is less usual and worse kept fits by chance."""
REMEMBERED, FEWEST = 9, 3
"""Chords or taps that an estimate is made from."""
NEW_TAPS_S, NEW_CHORDS_S = 2.5, 6.0
"""A tap or a chord after so long begins a new tempo."""
OFF_TAPS, BOUNCE_S = 1.5, 0.1
"""A tap by so much sooner or later than the beat does so, too; sooner than BOUNCE_S it is the pedal's."""
SLOWEST_BPM, FASTEST_BPM = 30.0, 300.0


def _beats_a_chord(bar: int) -> dict[int, float]:
    """How many beats lie between two chords, and how usual that is, in bars of so many."""
    return {2: 0.3, 3: 0.3, 6: 0.2, 1: 0.8, 2 * bar: 0.7, strong(bar): 1.0, bar: 1.0}


@lru_cache(maxsize=4)  # it is asked for again and again between two chords
def estimate(struck: tuple[Seconds, ...], bpm: float, bar: int = BEATS_PER_BAR) -> Grid | None:
    """The beats that these chords (when each was struck) most likely mark; `bpm` is what to expect.

    Of all the ways to count, the one wins whose tempo and count are the most usual and that the chords keep
    best; one of them may be pushed off its beat. The first chord is taken for the first of a bar. None for
    too few chords, or none that keep time.
    """
    best, best_score = None, LEAST_USUAL
    for left_out in (None, *range(len(struck))):
        kept = [at for number, at in enumerate(struck) if number != left_out]
        for grid, score in _counts(kept, bpm, bar):
            score *= 1.0 if left_out is None else ONE_PUSHED
            if score > best_score:
                best, best_score = _from_first(grid, struck[0]), score
    return best


def _from_first(grid: Grid, first: Seconds) -> Grid:
    """The same beats, counted from that chord, or from the beat that it was pushed off."""
    beat = grid.beat(first)
    near = (math.floor(beat + OFF_BEAT), math.ceil(beat - OFF_BEAT))
    return replace(grid, origin=grid.time(min(near, key=lambda number: number % grid.bar)))


def _counts(struck: list[Seconds], bpm: float, bar: int) -> Iterator[tuple[Grid, float]]:
    """The ways to count them, and how usual each is and how well kept."""
    gaps = [later - earlier for earlier, later in itertools.pairwise(struck)]
    if len(struck) < FEWEST or min(gaps) <= 0:
        return
    for count, usual in _beats_a_chord(bar).items():
        beat_s = median_low(gaps) / count
        counts = [max(1, round(gap / beat_s)) for gap in gaps]
        beat_s = sum(gaps) / sum(counts)
        if not SLOWEST_BPM <= 60 / beat_s <= FASTEST_BPM:
            continue
        off = [(gap / beat_s - n) / OFF_BEAT for gap, n in zip(gaps, counts, strict=True)]
        kept = sum(math.exp(-0.5 * each**2) for each in off) / len(off)
        even = sum(n == 1 or n % strong(bar) == 0 for n in counts) / len(counts)
        far = math.log2(60 / beat_s / bpm) / OCTAVES_OFF
        if kept > 0.5 and (even == 1 or len(gaps) > 2):  # of three chords none can be left out
            places = [0, *itertools.accumulate(counts)]
            origin = sum(at - n * beat_s for at, n in zip(struck, places, strict=True)) / len(struck)
            score = usual * kept * (1 + even) / 2 * math.exp(-0.5 * far**2)
            yield Grid(Seconds(origin), beat_s, bar), score


class Tempo:
    """`source` as in the settings; `link` says what Ableton Link has, if it is on.

    `lead_s` is what a message commonly takes to reach us and another to be heard: by so much the beats of a
    clock are earlier than its ticks come in, for notes that are sent on the beat to be heard on it.
    """

    def __init__(
        self,
        source: Source = "auto",
        bpm: float = 120.0,
        link: Callable[[], Grid | None] = lambda: None,
        lead_s: float = 0.0,
        bar: int = BEATS_PER_BAR,
    ) -> None:
        self.source: Source = source
        self.bpm = bpm
        """Where nobody tells better; quarter notes a minute."""
        self.clock = MidiClock()
        self.lead_s = lead_s
        self.bar = bar
        """Beats of a bar: nobody who tells the beat tells these."""
        self._link = link
        self._struck: deque[Seconds] = deque(maxlen=REMEMBERED)
        self._taps: deque[Seconds] = deque(maxlen=REMEMBERED)
        self._tapped: Grid | None = None
        self._origin: Seconds | None = None

    def feed(self, message: mido.Message, at: Seconds) -> bool:
        """A message that came at `at`; whether it was one of the clock's."""
        return self.clock.feed(message, at)

    def struck(self, at: Seconds) -> None:
        """The human struck a chord; the first after a pause is taken for the first of a bar."""
        if not self._struck or at - self._struck[-1] > NEW_CHORDS_S:
            self._struck.clear()
            self._origin = at
        self._struck.append(at)

    def tapped(self, at: Seconds) -> None:
        """A tap of the foot. Two taps make a tempo, which holds until the next."""
        taps = self._taps
        gap = at - taps[-1] if taps else 0.0
        if taps and gap < BOUNCE_S:
            return
        beat_s = (taps[-1] - taps[0]) / (len(taps) - 1) if len(taps) > 1 else gap
        if gap > min(NEW_TAPS_S, OFF_TAPS * beat_s):
            taps.clear()
        elif gap < beat_s / OFF_TAPS:
            last = taps[-1]
            taps.clear()
            taps.append(last)
        taps.append(at)
        if len(taps) > 1:
            beat_s = (taps[-1] - taps[0]) / (len(taps) - 1)
            if SLOWEST_BPM <= 60 / beat_s <= FASTEST_BPM:
                self._tapped = Grid(taps[0], beat_s)

    def now(self, now: Seconds) -> tuple[str, Grid | None]:
        """Who tells the beat (clock, link, taps, chords or bpm), and the beats; None before the first.

        A clock that has just been started has the word: what was tapped before is not what it counts in.
        """
        told: dict[str, Callable[[], Grid | None]] = {
            "clock": lambda: self._early(self.clock.grid(now)),
            "link": lambda: self._early(self._link()),
            "taps": lambda: self._tapped,
            "chords": lambda: estimate(tuple(self._struck), self.bpm, self.bar),
        }
        since = {
            "clock": self.clock.started_at,
            "taps": self._tapped.origin if self._tapped else None,
            "chords": self._struck[-1] if self._struck else None,
        }
        wanted = {"auto": tuple(told), "bpm": ("taps",)}.get(self.source, (self.source, "taps"))
        if "clock" in wanted and self.clock.about_to_tell(now):
            return "clock", None
        for source in wanted:
            if grid := told[source]():
                return source, replace(grid, bar=self.bar, song=(source, since.get(source)))
        if self._origin is None:
            return "bpm", None
        return "bpm", Grid(self._origin, 60 / self.bpm, self.bar, ("bpm", self._origin))

    def grid(self, now: Seconds) -> Grid | None:
        return self.now(now)[1]

    def beat_s(self, now: Seconds) -> float:
        """How long a beat lasts; as in the settings before the first."""
        grid = self.grid(now)
        return grid.beat_s if grid else 60 / self.bpm

    def _early(self, grid: Grid | None) -> Grid | None:
        return grid and Grid(Seconds(grid.origin - self.lead_s), grid.beat_s)
