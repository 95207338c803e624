"""What may be played over a chord: its usual scale, its avoid notes, and how the harmony knob weighs them."""

from functools import lru_cache

from jazzd.music.chords import Chord

Weights = tuple[float, ...]
"""What to multiply the chance of each pitch class by, C first."""

CHORDS = 256
"""How many are remembered: more than a night's tunes have."""

_SCALES = {  # a chord's usual scale is the first one here that holds all its tones
    "Ionian": (0, 2, 4, 5, 7, 9, 11),
    "Lydian": (0, 2, 4, 6, 7, 9, 11),
    "Mixolydian": (0, 2, 4, 5, 7, 9, 10),
    "Dorian": (0, 2, 3, 5, 7, 9, 10),
    "melodic minor": (0, 2, 3, 5, 7, 9, 11),
    "Aeolian": (0, 2, 3, 5, 7, 8, 10),
    "Phrygian": (0, 1, 3, 5, 7, 8, 10),
    "Lydian dominant": (0, 2, 4, 6, 7, 9, 10),
    "whole-half diminished": (0, 2, 3, 5, 6, 8, 9, 11),
    "Locrian": (0, 1, 3, 5, 6, 8, 10),
    "Locrian natural 2": (0, 2, 3, 5, 6, 8, 10),
    "half-whole diminished": (0, 1, 3, 4, 6, 7, 9, 10),
    "whole tone": (0, 2, 4, 6, 8, 10),
    "altered": (0, 1, 3, 4, 6, 8, 10),
    "Lydian augmented": (0, 2, 4, 6, 8, 9, 11),
    "Phrygian dominant": (0, 1, 4, 5, 7, 8, 10),
    "harmonic minor": (0, 2, 3, 5, 7, 8, 11),
}

_FADE = {  # the knob (0..1) leaves such a tone alone up to the first figure, and forbids it from the second
    "outside": (0.0, 0.85),
    "avoid": (0.2, 0.95),
    "colour": (0.55, 1.0),
    "tension": (0.75, 1.0),
}


@lru_cache(CHORDS)
def scale(chord: Chord) -> frozenset[int]:
    """The pitch classes of the chord's usual scale; all its tones are among them."""
    tones = {(tone - chord.root) % 12 for tone in chord.tones}
    # Only a sus chord without its seventh needs telling: it stands for the dominant, not for the tonic.
    meant = tones | {10} if chord.quality == "sus4" else tones
    usual = max(_SCALES.values(), key=lambda each: len(meant.intersection(each)))  # the first of the best
    return frozenset((each + chord.root) % 12 for each in tones.union(usual))


@lru_cache(CHORDS)
def core(chord: Chord) -> frozenset[int]:
    """The tones that anybody would call the chord's: its triad, its sixth or seventh, and its bass."""
    return frozenset((chord.root + interval) % 12 for interval in chord.intervals[:4]) | {chord.bass}


@lru_cache(CHORDS)
def avoid(chord: Chord) -> frozenset[int]:
    """The tones of the scale that grate when held: those a semitone above a chord tone."""
    dominant = {4, 10} <= set(chord.intervals)  # its flat ninth is a colour, not a mistake
    grating = {(tone + 1) % 12 for tone in chord.tones if not (dominant and tone == chord.root)}
    return scale(chord) & grating - chord.tones


def on_strong_beats(harmony: float) -> float:
    """The knob as it holds for notes on a strong beat: stricter, but free when it is free."""
    return 1 - (1 - harmony) ** 2


def weights(chord: Chord | None, harmony: float) -> Weights:
    """What each pitch class weighs over the chord.

    `harmony` goes from 0 (free) to 1 (core tones only); on the way up tones outside the scale fall first,
    then avoid notes, then the scale's other colours, then the chord's own ninths and thirteenths.
    """
    if chord is None:
        return (1.0,) * 12
    return tuple(_weight(chord, pitch_class, harmony) for pitch_class in range(12))


def _weight(chord: Chord, pitch_class: int, harmony: float) -> float:
    if pitch_class in core(chord):
        return 1.0
    if pitch_class in chord.tones:
        kind = "tension"
    elif pitch_class in scale(chord):
        kind = "avoid" if pitch_class in avoid(chord) else "colour"
    else:
        kind = "outside"
    free, forbidden = _FADE[kind]
    return min(1.0, max(0.0, (forbidden - harmony) / (forbidden - free)))
