"""The beat, from whoever tells it best: MIDI clock, Ableton Link, tapping, the chords, the settings."""

import itertools
import math
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from statistics import median
from typing import Literal

import mido

from jazzd.music.grid import BEATS_PER_BAR, Grid, strong
from jazzd.music.notes import Seconds
from jazzd.player.midi_clock import MidiClock

Source = Literal["auto", "clock", "link", "chords", "bpm"]
OCTAVES_OFF = 0.5
"""How far a tempo commonly is from the one in the settings: a standard deviation, in octaves."""
OFF_BEAT = 0.13
"""How far, in beats, a chord commonly is from its beat."""
KEPT = 0.5
"""Gaps that keep time less well than this on the whole keep none."""
LEAST_USUAL = 0.1
"""Less usual and worse kept than this, a count fits by chance."""
PUSHED = 0.3
"""How well a gap that ends on an off-beat keeps time, where one that ends on a beat has 1."""
LONGEST_PUSHED = 9
"""Beats: two bars and a push."""
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


def estimate(struck: list[Seconds], bpm: float, bar: int = BEATS_PER_BAR) -> Grid | None:
    """The beats that these chords (when each was struck) most likely mark; `bpm` is what to expect.

    Of all the ways to count, the one wins whose tempo and count are the most usual and that the chords keep
    best. The first chord is taken for the first of a bar. None for too few chords, or none that keep time.
    """
    gaps = [later - earlier for earlier, later in itertools.pairwise(struck)]
    if len(struck) < FEWEST or min(gaps) <= 0:
        return None
    best, best_score = None, LEAST_USUAL
    for count, usual in _beats_a_chord(bar).items():
        grid = _fitted(struck, median(gaps) / count, bar)
        if not SLOWEST_BPM <= grid.bpm <= FASTEST_BPM:
            continue
        kept = sum(_kept(gap / grid.beat_s) for gap in gaps) / len(gaps)
        far = math.log2(grid.bpm / bpm) / OCTAVES_OFF
        score = usual * kept * math.exp(-0.5 * far**2)
        if kept > KEPT and score > best_score:
            best, best_score = grid, score
    return best


def _fitted(struck: list[Seconds], beat_s: float, bar: int) -> Grid:
    """Beats about so long, as most of those chords have them: one that is pushed off its beat moves none."""
    gaps = [later - earlier for earlier, later in itertools.pairwise(struck)]
    halves = [0, *itertools.accumulate(max(1, round(2 * gap / beat_s)) for gap in gaps)]
    pushed = 2 * sum(half % 2 for half in halves) > len(halves)  # the first one is, early or late
    shifts = (-1, 1) if pushed else (0,)
    shift = min(shifts, key=lambda shift: sum((half + shift) // 2 % bar != 0 for half in halves))
    on = [(at, (half + shift) // 2) for at, half in zip(struck, halves, strict=True) if half % 2 == pushed]
    if on[-1][1] > on[0][1]:
        beat_s = (on[-1][0] - on[0][0]) / (on[-1][1] - on[0][1])
    return Grid(Seconds(sum(at - beat_s * number for at, number in on) / len(on)), beat_s, bar)


def _kept(beats: float) -> float:
    """How well a gap of so many beats keeps time: one that ends on an off-beat does a little, unless it is so
    long that it ends on some or other by chance."""
    whole, half = (abs(beats - n) / OFF_BEAT for n in (max(1, round(beats)), math.floor(beats) + 0.5))
    pushed = PUSHED * math.exp(-0.5 * half**2) if beats < LONGEST_PUSHED else 0.0
    return max(math.exp(-0.5 * whole**2), pushed)


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
            "chords": lambda: estimate(list(self._struck), self.bpm, self.bar),
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
