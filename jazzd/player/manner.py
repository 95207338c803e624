"""How the solo behaves towards the human."""

from dataclasses import dataclass
from typing import Literal

from jazzd.player.controls import Mode

Start = Literal["now", "beat", "bar"]


@dataclass(frozen=True)
class Manner:
    mode: Mode = "follow"
    start: Start = "now"
    """When an answer begins; the last two need a beat."""
    chords: int = 4
    bars: int = 0
    """How long a traded phrase is: in chords, or in bars where that is not 0."""
    choruses: int = 1
    count_in: int = 0
    """Bars of a song before the solo comes in."""
    yield_beats: float = 2.0
    """How long the human's own line must be over before the solo takes over."""
