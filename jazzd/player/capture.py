"""Keys and pedal -> chords: pure, on the stamps of the messages alone."""

from collections import deque
from dataclasses import dataclass

import mido

from jazzd.music.notes import MidiPitch, Seconds
from jazzd.player.messages import SUSTAIN

SHORTEST_SETTLE, LONGEST_SETTLE = 0.008, 0.025
"""Seconds of quiet after a note-on that make what was struck a chord."""
SPREAD = 0.060
"""Seconds: what is struck this soon after a note-on belongs to the same gesture of the hand."""
LONGEST_GESTURE = 0.100
"""Seconds after which a chord that goes on growing (a glissando, a flood) is captured as it stands."""
FRESH_CHORD = 3
"""So many keys struck together over a held pedal are a new harmony, not colour on the old one."""
REMEMBERED_GAPS = 16
RESET_ALL_CONTROLLERS = 121


@dataclass(frozen=True)
class Struck:
    pitch: MidiPitch
    velocity: int
    at: Seconds


@dataclass(frozen=True)
class ChordCaptured:
    struck: tuple[Struck, ...]
    """Struck since the chord before, in order, at least one key."""
    pitches: frozenset[MidiPitch]
    """All that sounds as one harmony: held keys, and those the pedal holds."""
    at: Seconds

    @property
    def last_note_on(self) -> Seconds:
        return self.struck[-1].at


@dataclass(frozen=True)
class Released:
    """Neither key nor pedal holds a note any more."""

    at: Seconds


class Capture:
    """Groups note-ons into chords.

    The settle window follows the player: half as long again as the widest gap inside recent chords. A key
    that comes too late for its chord makes a second capture, and the window wider.
    """

    def __init__(self) -> None:
        self._held: dict[tuple[int, int], Struck] = {}
        self._ringing: dict[int, Struck] = {}
        self._pedal = False
        self._group: dict[int, Struck] = {}
        self._group_began = Seconds(0.0)
        self._last_note_on = Seconds(float("-inf"))
        self._silent_since: Seconds | None = None
        self._gaps = deque([LONGEST_SETTLE], maxlen=REMEMBERED_GAPS)

    @property
    def settle(self) -> Seconds:
        return Seconds(min(max(1.5 * max(self._gaps), SHORTEST_SETTLE), LONGEST_SETTLE))

    @property
    def sounding(self) -> tuple[Struck, ...]:
        """What the human lets sound now."""
        by_pitch = self._ringing | {key.pitch: key for key in self._held.values()}
        return tuple(sorted(by_pitch.values(), key=lambda key: (key.at, key.pitch)))

    @property
    def steady(self) -> bool:
        """Whether something is held, and nothing is being struck."""
        return bool(self._held or self._ringing) and not self._group

    def feed(self, message: mido.Message, at: Seconds) -> list[ChordCaptured | Released]:
        """What has become certain with this message, which came at `at`."""
        events = self.poll(at)
        if message.type == "note_on" and message.velocity > 0:
            self._strike(message.channel, Struck(MidiPitch(message.note), message.velocity, at))
        elif message.type in ("note_on", "note_off"):
            self._lift(message.channel, message.note, at)
        elif message.is_cc(SUSTAIN):
            self._press(message.value >= 64, at)
        elif message.is_cc(RESET_ALL_CONTROLLERS):
            self._press(False, at)
        return events + self.poll(at)

    def poll(self, now: Seconds) -> list[ChordCaptured | Released]:
        """What has become certain with time alone."""
        events: list[ChordCaptured | Released] = []
        due = self.deadline()
        if due is not None and now >= due:
            events.append(self._capture(now))
        if self._silent_since is not None and not self._group:
            events.append(Released(self._silent_since))
            self._silent_since = None
        return events

    def deadline(self) -> Seconds | None:
        """When to poll next."""
        if not self._group:
            return None
        return Seconds(min(self._last_note_on + self.settle, self._group_began + LONGEST_GESTURE))

    def drop_struck(self) -> None:
        """What is being struck is held like all that was struck before, and no chord."""
        self._group.clear()

    def reset(self) -> None:
        """Believe that no key and no pedal is down."""
        self._held.clear()
        self._ringing.clear()
        self._group.clear()
        self._pedal = False
        self._silent_since = None

    def forget(self, channel: int) -> None:
        """Believe that no key of the channel is down, nor was being struck as part of a chord."""
        for place in [place for place in self._held if place[0] == channel]:
            key = self._held.pop(place)
            if self._group.get(key.pitch) is key:
                del self._group[key.pitch]
        if not self._held:  # what was struck and lifted just now is no chord, either, nor what a pedal holds
            self.reset()

    def _strike(self, channel: int, key: Struck) -> None:
        gap = key.at - self._last_note_on
        if gap < SPREAD:
            self._gaps.append(gap)
        self._last_note_on = key.at
        self._ringing.pop(key.pitch, None)
        self._held[channel, key.pitch] = key
        if not self._group:
            self._group_began = key.at
        self._group.pop(key.pitch, None)  # the last stroke of a key counts, and counts as the latest
        self._group[key.pitch] = key
        self._silent_since = None

    def _lift(self, channel: int, pitch: int, at: Seconds) -> None:
        key = self._held.pop((channel, pitch), None)
        if key is not None and self._pedal:
            self._ringing[pitch] = key
        elif key is not None:
            self._note_silence(at)

    def _press(self, down: bool, at: Seconds) -> None:
        self._pedal = down
        if not down and self._ringing:
            self._ringing.clear()
            self._note_silence(at)

    def _note_silence(self, at: Seconds) -> None:
        if not self._held and not self._ringing:
            self._silent_since = at

    def _capture(self, now: Seconds) -> ChordCaptured:
        fresh = self._group.keys()
        if len(fresh) >= FRESH_CHORD:
            self._ringing = {pitch: key for pitch, key in self._ringing.items() if pitch in fresh}
        pitches = fresh | self._ringing.keys() | {key.pitch for key in self._held.values()}
        chord = ChordCaptured(tuple(self._group.values()), frozenset(map(MidiPitch, pitches)), now)
        self._group = {}
        return chord
