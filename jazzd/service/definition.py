"""What a system needs to know to start jazzd at login."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Definition:
    """A file, where it goes, and the commands that put it in force, take it out, and ask about it."""

    system: str
    path: Path
    text: str
    encoding: str
    enable: Sequence[Sequence[str]]
    disable: Sequence[Sequence[str]]
    query: Sequence[str]
    """Its exit code is 0 while the service is there."""
    log: str
    """How a person reads what jazzd says."""
