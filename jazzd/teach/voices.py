"""Which notes of a MIDI file are the solo: a line, the right hand of a pianist, or all of them.

The rule, where nobody says which:

1. Drums are nobody's solo.
2. A *line* is a part of which hardly a note begins while another one sounds. The highest line that has a fair
   share of the file's notes is the solo, and so is a line that is called one (`MELODY`, `Solo`, `Voice`).
3. Without a line, the right hand plays the solo: the higher one of a pianist's two tracks, or what lies above
   the middle between the highest and the lowest note around; where these are within one hand's reach, what
   lies above middle C.
4. Where that leaves one hand with hardly anything to do, the hands are not to be told apart: everything is
   the solo.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import mido
import numpy as np

from jazzd.arrays import Bool, Float, Int
from jazzd.moonbeam import midi
from jazzd.moonbeam.tokens import DRUM_CHANNEL, DURATION, INSTRUMENT, OCTAVE, ONSET, PITCH_CLASS, SOLO, Rows

Voice = Literal["line", "right-hand", "all"]
"""What can be the solo."""

LEGATO_TICKS = 5
"""A singer's note may sound so long into the next one."""
OVERLAPS = 0.05
"""Share of a line's notes that may begin while another one sounds longer than that."""
FAIR_SHARE = 0.1
"""Of the file's notes: a part with fewer is no solo, unless it is called one."""
BASS = 45
"""A line that lies lower in the mean is a bass's."""
TOGETHER_TICKS = 3
"""Notes that begin within this time are struck together."""
AROUND_TICKS, LONGEST_TICKS = 100, 400
"""How far around a note the hands are looked for, and how long they hold one."""
REACH, MIDDLE_C = 12, 60
IDLE_HAND = 0.15
"""A hand with a smaller share of the notes is none."""

_LEAD = re.compile(r"melod|solo|lead|voice|vocal|voc\b|sopran|sax|trumpet|flute|right|\brh\b|upper", re.I)
_CHORDS = re.compile(r"^\W*(chords?|comping|changes)\W*$", re.I)


@dataclass(frozen=True)
class Part:
    """The pitched notes of one track on one channel."""

    name: str
    rows: Rows

    @property
    def height(self) -> float:
        """Mean MIDI pitch."""
        return float(pitches(self.rows).mean())

    @property
    def is_line(self) -> bool:
        """Whether it plays one note at a time."""
        ends = np.maximum.accumulate(self.rows[:, ONSET] + self.rows[:, DURATION])
        return (
            bool((self.rows[1:, ONSET] < ends[:-1] - LEGATO_TICKS).mean() <= OVERLAPS)
            if len(ends) > 1
            else True
        )

    @property
    def is_lead(self) -> bool:
        """Whether it is called a solo."""
        return bool(_LEAD.search(self.name))

    @property
    def is_chords(self) -> bool:
        """Whether it is called the chords."""
        return bool(_CHORDS.match(self.name))


def pitches(rows: Rows) -> Int[np.ndarray, "N"]:
    """MIDI pitches."""
    found: Int[np.ndarray, N] = rows[:, OCTAVE] * 12 + rows[:, PITCH_CLASS]
    return found


def parts(file: mido.MidiFile) -> list[Part]:
    """The pitched parts of the file that have notes, in its order. Raises MidiError for type 2 files."""
    keys = [
        (number, channel)
        for number, track in enumerate(file.tracks)
        for channel in sorted({m.channel for m in track if m.type == "note_on"} - {DRUM_CHANNEL})
    ]
    found = []
    for number, channel in keys:
        tracks = [_only(track, channel if i == number else None) for i, track in enumerate(file.tracks)]
        # Alone, it needs no taking apart, and its times are those of the file to the last digit.
        alone = (
            file
            if len(keys) == 1
            else mido.MidiFile(type=file.type, ticks_per_beat=file.ticks_per_beat, tracks=tracks)
        )
        rows = midi.encode(alone)
        if len(rows):
            found.append(Part(file.tracks[number].name, rows))
    return found


def _only(track: mido.MidiTrack, channel: int | None) -> mido.MidiTrack:
    """The track with all its time, and no messages but those of the channel."""
    return mido.MidiTrack(
        each
        if each.is_meta or getattr(each, "channel", None) == channel
        else mido.MetaMessage("text", time=each.time)
        for each in track
    )


def choose(parts: Sequence[Part], wanted: Voice | None = None) -> tuple[Voice, Rows]:
    """The solo among the parts (at least one), played by the solo's program; as `wanted`, else by the rule.

    A line that is wanted where no part is one is what is highest at any time.
    """
    everything = joined(parts)
    if wanted in (None, "line") and (line := _line(parts, len(everything))):
        return "line", _as_solo(line.rows)
    if wanted == "line":
        return "line", _as_solo(everything[_highest(everything)])
    if wanted in (None, "right-hand"):
        right = _right_hand(parts, everything)
        if wanted or IDLE_HAND <= len(right) / len(everything) <= 1 - IDLE_HAND:
            return "right-hand", _as_solo(right)
    return "all", _as_solo(everything)


def joined(parts: Sequence[Part]) -> Rows:
    """The notes of all the parts in time order."""
    rows = np.concatenate([part.rows for part in parts])
    return rows[np.argsort(rows[:, ONSET], kind="stable")]


def _line(parts: Sequence[Part], notes: int) -> Part | None:
    lines = [part for part in parts if part.is_line and part.height >= BASS]
    called = [part for part in lines if part.is_lead]
    fair = [part for part in lines if len(part.rows) >= FAIR_SHARE * notes]
    return max(called or fair, key=lambda part: part.height, default=None)


def _right_hand(parts: Sequence[Part], everything: Rows) -> Int[np.ndarray, "_ 6"]:
    playing = [part for part in parts if not part.is_chords]
    if len(playing) == 2:
        return max(playing, key=lambda part: part.height).rows
    above = everything[pitches(everything) >= _between_hands(everything)]
    return above if len(above) else everything


def _between_hands(rows: Rows) -> Float[np.ndarray, "N"]:
    """The pitch where the right hand begins, at each note."""
    onsets, heights = rows[:, ONSET], pitches(rows)
    ends = onsets + rows[:, DURATION].clip(max=LONGEST_TICKS)
    first = np.searchsorted(onsets, onsets - AROUND_TICKS - LONGEST_TICKS)
    last = np.searchsorted(onsets, onsets + AROUND_TICKS, side="right")
    begins = np.empty(len(rows))
    for i, (begin, end) in enumerate(zip(first, last, strict=True)):
        around = heights[begin:end][ends[begin:end] >= onsets[i] - AROUND_TICKS]
        low, high = around.min(), around.max()
        begins[i] = (low + high) / 2 if high - low > REACH else MIDDLE_C
    return begins


def _highest(rows: Rows) -> Bool[np.ndarray, "N"]:
    """Which notes are the highest of those struck with them."""
    heights, chosen = pitches(rows), np.zeros(len(rows), bool)
    for begin, end in _struck_together(rows[:, ONSET]):
        chosen[begin + int(heights[begin:end].argmax())] = True
    return chosen


def _struck_together(onsets: Int[np.ndarray, "N"]) -> Iterator[tuple[int, int]]:
    begin = 0
    for end in range(1, len(onsets) + 1):
        if end == len(onsets) or onsets[end] - onsets[begin] > TOGETHER_TICKS:
            yield begin, end
            begin = end


def _as_solo(rows: Rows) -> Rows:
    solo = rows.copy()
    solo[:, INSTRUMENT] = SOLO
    return solo
