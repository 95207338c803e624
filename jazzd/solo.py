"""Solos offline: the same timeline as live, over chords that are all known."""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pydantic import ValidationError

from jazzd.engine.protocol import Beats, Change, Key, Sampling
from jazzd.engine.timeline import Timeline
from jazzd.errors import ConfigError, StyleError
from jazzd.moonbeam import resident
from jazzd.moonbeam.config import Numerics
from jazzd.moonbeam.decode import Decoder
from jazzd.music import chart, chords, harmony, voicing
from jazzd.music.chords import Chord
from jazzd.music.grid import BEATS_PER_BAR, LONGEST_BAR, strong
from jazzd.music.notes import Note5D
from jazzd.music.tempo import TICKS_PER_SECOND, to_seconds, to_ticks
from jazzd.styles.wardrobe import Wardrobe

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
    """A base and its styles, ready to improvise over given chords."""

    def __init__(self, decoder: Decoder, wardrobe: Wardrobe | None = None) -> None:
        self._decoder, self._wardrobe = decoder, wardrobe

    @classmethod
    def load(
        cls,
        base: str | Path = "builtin",
        styles: str | Path = "styles",
        dtype: resident.Dtype | None = None,
        numerics: Numerics | None = None,
    ) -> Self:
        """Load and compile a base (`builtin`, or a folder), to play in the styles of that folder.

        Raises ModelError.
        """
        loaded, decoder = resident.load(str(base), dtype, numerics)
        return cls(decoder, Wardrobe.open(Path(styles), loaded))

    def wear(self, shares: Mapping[str, float]) -> dict[str, float]:
        """Play in these styles from now on, as much of each as its share; in none for the plain base.

        Returns what the foremost of them would like: fields of Sampling. Raises StyleError for a style that
        is not there or does not fit the base.
        """
        self._decoder.mix = None
        if not shares:
            return {}
        if not self._wardrobe:
            raise StyleError(f"there is no style {next(iter(shares))!r}: no folder of styles was loaded")
        self._wardrobe.registry.rescan()
        self._decoder.mix = self._wardrobe.mix(shares)
        return self._wardrobe.settings(max(shares, key=lambda name: shares[name]))

    def generate_solo(
        self,
        chord_progression: str | Sequence[str],
        style: str | Mapping[str, float] = "",
        temperature: float | None = None,
        top_p: float | None = None,
        max_notes: int | None = None,
        seed: int = 0,
        tempo: float = 120.0,
        bars_per_chord: float = 1.0,
        low: int | None = None,
        high: int | None = None,
        beats_per_bar: int | None = None,
    ) -> list[Note5D]:
        """A solo over the chord symbols, each `bars_per_chord` bars long.

        A bar has `beats_per_bar` quarter notes: if not given, those of the chart's file, else four.

        How it is drawn and the range are the style's where they are not given, else 0.9, 0.95 and 48 to 96.

        One text is read as `jazzd solo` reads it: "Dm7 G7 | C6", or the name of a chart's `.json` file.
        `style` is a name, or names with their shares. Raises ConfigError for a symbol that is none or a value
        out of range, StyleError for a style that cannot be played.
        """
        bar = None
        if isinstance(chord_progression, str):
            parsed, bar = chart.read(chord_progression)
        else:
            parsed = [(chords.parse(s, f"chord {i}"), 1.0) for i, s in enumerate(chord_progression, 1)]
        if not parsed:
            raise ConfigError("chord_progression has no chord in it")
        if not (0 < tempo < math.inf and 0 < bars_per_chord < math.inf and 0 <= seed < 2**32):
            raise ConfigError("tempo and bars_per_chord are above 0, seed is 0..4294967295")
        bar = beats_per_bar or bar or BEATS_PER_BAR
        if not 1 <= bar <= LONGEST_BAR:
            raise ConfigError(f"beats_per_bar is none or 1..{LONGEST_BAR}")
        if max_notes is not None and max_notes < 1:
            raise ConfigError("max_notes is none or at least 1")
        wanted = self.wear({style: 1.0} if isinstance(style, str) and style else dict(style or {}))
        given = {"temperature": temperature, "top_p": top_p, "low": low, "high": high}
        wanted |= {name: value for name, value in given.items() if value is not None}
        try:
            sampling = Sampling.model_validate(wanted)
        except ValidationError:
            sampling = None
        if not sampling or sampling.low > sampling.high:
            raise ConfigError("temperature is 0..2, top_p above 0 and at most 1, low and high are 0..127")
        beat_s = 60 / tempo
        parts = laid_out(parsed, bars_per_chord * bar * beat_s)
        solo = self.improvise(parts, sampling, seed, beat_s=beat_s, bar=bar)
        return list(itertools.islice(solo, max_notes))

    def improvise(
        self,
        progression: Sequence[Sounding],
        sampling: Sampling,
        seed: int = 0,
        knob: float = DEFAULT_HARMONY,
        beat_s: float | None = None,
        bar: int = BEATS_PER_BAR,
    ) -> Iterator[Note5D]:
        """Notes over the chords, as they are drawn; `knob` is the harmony knob, 0 free to 1 chord tones only.

        `beat_s` is the length of a beat where that is known, the first of a bar of `bar` at second 0: then
        harmony is stricter on the strong ones.

        The chords are known beforehand, as those of a chart are live: each is there when the notes reach it.
        """
        timeline = Timeline(self._decoder, seed)
        changes = [
            Change(
                at=to_ticks(part.onset),
                keys=tuple(part.keys()),
                weights=harmony.weights(part.chord, knob),
                strong=harmony.weights(part.chord, harmony.on_strong_beats(knob)),
            )
            for part in progression
        ]
        end = to_ticks(progression[-1].onset + progression[-1].duration) if progression else 0
        length = strong(bar) * (beat_s or 0.0) * TICKS_PER_SECOND
        beats = Beats(origin=0.0, length=length, bar=bar) if length else None
        timeline.revise(-1, (), changes, end=end)
        while note := timeline.next_note(sampling, 0, at_floor=False, epoch=0, beats=beats):
            lasts = to_seconds(min(note.duration, end - note.onset))
            yield Note5D.from_pitch(to_seconds(note.onset), lasts, note.pitch, note.velocity)
