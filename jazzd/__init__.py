"""Play chords into one MIDI port; an improvised jazz solo comes out of another."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jazzd.music.notes import Note5D
    from jazzd.solo import SoloGenerator

__all__ = ["Note5D", "SoloGenerator"]


def __getattr__(name: str) -> object:
    # Lazy: the player imports this package too, and must not load jax with it.
    if name == "Note5D":
        from jazzd.music.notes import Note5D

        return Note5D
    if name == "SoloGenerator":
        from jazzd.solo import SoloGenerator

        return SoloGenerator
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
