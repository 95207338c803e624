"""Solos offline: the same timeline as live, over chords that are all known."""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from jazzd.engine.protocol import Key, Sampling
from jazzd.engine.timeline import Timeline
from jazzd.errors import ConfigError
from jazzd.moonbeam import resident
from jazzd.moonbeam.config import Numerics
from jazzd.moonbeam.decode import Decoder
from jazzd.music import chords, harmony, voicing
from jazzd.music.chords import Chord
from jazzd.music.notes import Note5D
from jazzd.music.tempo import to_seconds, to_ticks

COMPING_VELOCITY = 64
DEFAULT_HARMONY = 64 / 127


@dataclass(frozen=True)
class Sounding:
    """A chord of the progression with its voicing (MIDI pitches), in seconds. No chord: nothing is voiced."""

    onset: float
    duration: float
    chord: Chord | None
    pitches: tuple[int, ...]

    def keys(self) -> list[Key]:
        """The chord as the human's keys."""
        duration = max(1, min(to_ticks(self.duration), 1000))
        return [Key(to_ticks(self.onset), duration, pitch, COMPING_VELOCITY) for pitch in self.pitches]

    def notes(self) -> list[Note5D]:
        """The chord as notes."""
        return [
            Note5D.from_pitch(self.onset, self.duration, pitch, COMPING_VELOCITY) for pitch in self.pitches
        ]


def laid_out(
    progression: Sequence[tuple[Chord | None, float]], bar_s: float, choruses: int = 1
) -> list[Sounding]:
    """The chords (each with its length in bars of `bar_s` seconds) one after another, plainly voiced."""
    onset, sounding = 0.0, []
    for chord, bars in list(progression) * choruses:
        pitches = tuple(voicing.plain(chord)) if chord else ()
        sounding.append(Sounding(onset, bars * bar_s, chord, pitches))
        onset += bars * bar_s
    return sounding


class SoloGenerator:
    """A base, ready to improvise over given chords."""

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder

    @classmethod
    def load(
        cls,
        base: str | Path = "builtin",
        styles: str | Path = "styles",
        dtype: resident.Dtype | None = None,
        numerics: Numerics | None = None,
    ) -> Self:
        """Load and compile a base: `builtin`, or a folder. Raises ModelError."""
        return cls(resident.load(str(base), dtype, numerics)[1])

    def generate_solo(
        self,
        chord_progression: str | Sequence[str],
        style: str = "",
        temperature: float = 0.9,
        top_p: float = 0.95,
        max_notes: int | None = None,
        seed: int = 0,
        tempo: float = 120.0,
        bars_per_chord: float = 1.0,
        low: int = 48,
        high: int = 96,
    ) -> list[Note5D]:
        """A solo over the chord symbols, each `bars_per_chord` bars of four beats long.

        One text is read as `jazzd solo` reads it: "Dm7 G7 | C6". Raises ConfigError for a symbol that is none
        or a value out of range.
        """
        if style:
            raise ConfigError(f"there is no style {style!r}: this version plays the plain base only")
        if isinstance(chord_progression, str):
            parsed = chords.progression(chord_progression)
        else:
            parsed = [(chords.parse(s, f"chord {i}"), 1.0) for i, s in enumerate(chord_progression, 1)]
        if not parsed:
            raise ConfigError("chord_progression has no chord in it")
        if not (0 <= temperature <= 2 and 0 < top_p <= 1 and 0 <= low <= high <= 127):
            raise ConfigError("temperature is 0..2, top_p above 0 and at most 1, low and high are 0..127")
        if not (0 < tempo < math.inf and 0 < bars_per_chord < math.inf and 0 <= seed < 2**32):
            raise ConfigError("tempo and bars_per_chord are above 0, seed is 0..4294967295")
        if max_notes is not None and max_notes < 1:
            raise ConfigError("max_notes is none or at least 1")
        sampling = Sampling(temperature=temperature, top_p=top_p, low=low, high=high)
        solo = self.improvise(laid_out(parsed, bars_per_chord * 4 * 60 / tempo), sampling, seed=seed)
        return list(itertools.islice(solo, max_notes))

    def improvise(
        self,
        progression: Sequence[Sounding],
        sampling: Sampling,
        seed: int = 0,
        knob: float = DEFAULT_HARMONY,
    ) -> Iterator[Note5D]:
        """Notes over the chords, as they are drawn; `knob` is the harmony knob, 0 free to 1 chord tones only.

        Where a chord begins, what was drawn beyond it is taken back: the same thing that happens live.
        """
        timeline, keep = Timeline(self._decoder, seed), -1
        form_end = to_ticks(progression[-1].onset + progression[-1].duration) if progression else 0
        for part in progression:
            weighed = sampling.model_copy(update={"weights": harmony.weights(part.chord, knob)})
            timeline.revise(keep, part.keys())
            begin, end = to_ticks(part.onset), to_ticks(part.onset + part.duration)
            while (note := timeline.next_note(weighed, begin, at_floor=False, epoch=0)).onset < end:
                keep = note.number
                lasts = to_seconds(min(note.duration, form_end - note.onset))
                yield Note5D.from_pitch(to_seconds(note.onset), lasts, note.pitch, note.velocity)
