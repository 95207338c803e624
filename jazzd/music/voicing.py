"""How a pianist lays a chord under the hands.

A shape names members of the chord from the bottom up, each the next of its kind above the one before: so the
order alone makes a voicing close or spread.
"""

import random
from collections.abc import Iterable, Iterator

from jazzd.music.chords import Chord
from jazzd.music.harmony import avoid, scale

_SHAPES = (
    # Root position and inversions, close.
    *("R 3 5", "3 5 R", "5 R 3", "R 3 5 7", "3 5 7 R", "5 7 R 3", "7 R 3 5"),
    # Shells.
    *("R 3 7", "R 7 3", "3 7 9", "7 3 5"),
    # Rootless, A and B.
    *("3 5 7 9", "7 9 3 5"),
    # Spread.
    *("R 5 R", "R 5 7", "R 5 3", "3 R 5", "R 5 R 3", "R 5 7 3", "R 7 3 5", "R 7 3 9", "3 7 R 5", "5 R 3 7"),
    # In fourths.
    *("R 4 7 3 5", "3 13 9 5"),
)

_PLAIN_SHAPES = (
    ("3 5 7 9", "7 9 3 5"),
    ("3 5 7 R", "7 R 3 5"),
    ("R 3 5", "3 5 R", "5 R 3"),
    ("R 5 R", "5 R"),
)
"""The shapes of `plain`: from the first group that the chord has all members for."""

_MEMBERS = {  # the intervals a member may be, the likeliest first
    "R": (0,),
    "3": (4, 3, 5, 2),
    "5": (7, 6, 8),
    "7": (11, 10, 9),
    "9": (2, 1, 3),
    "4": (5,),
    "13": (9, 8),
}
_TENSIONS = ("9", "4", "13")
"""Members that may be played though the symbol does not name them, where the scale has them."""

_HAND = 5
"""Most notes of a voicing, the bass not counted."""
_CLEAR = 52
"""Only the lowest note lies under this pitch: close intervals down there are mud."""
_PLAIN_BASS, _PLAIN_CENTRE = 40, 60


def voice(chord: Chord, rng: random.Random, low: int = 43, high: int = 76) -> list[int]:
    """A voicing as a live player might choose it: 3 to 6 MIDI pitches, rising, from `low` to `high`.

    Raises ValueError where the range is too narrow for any.
    """
    with_bass = chord.bass != chord.root or rng.random() < 0.3
    bass = [low + (chord.bass - low) % 12] if with_bass else []
    shapes = _fitting(chord, _SHAPES)
    rng.shuffle(shapes)
    for shape in shapes:
        if places := [*_places(shape, bass, low, high)] or [*_places(shape, [], low, high)]:
            return rng.choice(places)
    raise ValueError(f"no voicing of {chord.symbol} fits between {low} and {high}")


def plain(chord: Chord) -> list[int]:
    """The same good voicing every time: a bass note, and a hand near middle C that moves little in ii-V-I."""
    shapes = next(found for group in _PLAIN_SHAPES if (found := _fitting(chord, group)))
    bass = [_PLAIN_BASS + (chord.bass - _PLAIN_BASS) % 12]
    places = (place for shape in shapes for place in _places(shape, bass, _CLEAR, 127))
    return min(places, key=lambda place: abs(sum(place[1:]) / len(place[1:]) - _PLAIN_CENTRE))


def _fitting(chord: Chord, shapes: Iterable[str]) -> list[list[int]]:
    """The pitch classes, from the bottom up, of every shape that the chord has all members for."""
    known = _known(chord)
    return [
        [
            (chord.root + interval) % 12
            for interval in _coloured([known[each] for each in shape.split()], chord)
        ]
        for shape in shapes
        if known.keys() >= set(shape.split())
    ]


def _known(chord: Chord) -> dict[str, int]:
    """The members of the chord and the tensions that go with it, as intervals above its root."""
    allowed = {(tone - chord.root) % 12 for tone in scale(chord) - avoid(chord)}
    if {3, 6} <= set(chord.intervals):
        allowed = set()  # a diminished chord with a tension sounds like another chord
    known: dict[str, int] = {}
    for member, choices in _MEMBERS.items():
        own = [each for each in choices if each in chord.intervals]
        tension = [choices[0]] if member in _TENSIONS and choices[0] in allowed else []
        free = [each for each in own + tension if each not in known.values()]
        known |= {member: free[0]} if free else {}
    return known


def _coloured(hand: list[int], chord: Chord) -> list[int]:
    """The hand with all that makes the chord what it is: every interval but root and perfect fifth."""
    for colour in chord.intervals:
        if colour in hand or colour in (0, 7):
            continue
        if 7 in hand and colour in (5, 6, 8, 9) and 10 in chord.intervals:
            hand[hand.index(7)] = colour  # as pianists play a thirteenth: 3 13 7 9
        elif len(hand) < _HAND:
            hand.append(colour)
    return hand


def _places(shape: list[int], bass: list[int], low: int, high: int) -> Iterator[list[int]]:
    """The shape stacked up from every key in the range where it can start, above the bass if there is one."""
    floor = max(bass[0] + 1, _CLEAR) if bass else low
    for lowest in range(floor + (shape[0] - floor) % 12, high, 12):
        pitches = [lowest]
        for pitch_class in shape[1:]:
            pitches.append(pitches[-1] + 1 + (pitch_class - pitches[-1] - 1) % 12)
        if pitches[1] >= _CLEAR and pitches[-1] <= high:
            yield bass + pitches
