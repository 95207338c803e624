"""A review: how well players foretell people's music, and how what they play compares with it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from jazzd.errors import MidiError
from jazzd.moonbeam.model import Moonbeam
from jazzd.teach.audition import Player, charts, decoder_of, takes
from jazzd.teach.copying import among, copying
from jazzd.teach.corpus import Piece, Refused
from jazzd.teach.evaluate import Likelihood, foretold, read
from jazzd.teach.line import Line, of_piece
from jazzd.teach.portrait import Portrait, overlaps, portrait

REFERENCE = "the reference"
"""No style is called so: names have no spaces."""
Step = Callable[[str, int, int], None]
"""Told of what is being done, how much of it, and of how much."""


@dataclass(frozen=True)
class Scope:
    """What a review goes into."""

    music: Path
    """Pieces that the players have not heard."""
    reference: Path | None = None
    """Pieces to compare with; if None, the same."""
    training: Path | None = None
    """Pieces that may have been copied; without them that is not asked."""
    solos: int = 8
    """That each player plays."""
    with_chords: bool = True
    """Whether the pieces' chords are shown to who foretells them."""


@dataclass(frozen=True)
class Opinion:
    """Of one player: the `nats` as `evaluate.foretold` has them, and what the solos are like."""

    name: str
    nats: dict[str, Any]
    portrait: Portrait | None
    overlap: dict[str, float]
    copying: dict[str, Any] | None

    def to_json(self) -> dict[str, Any]:
        """The public keys; there is no `music` where none was played."""
        return self.nats | _music(self.portrait, self.overlap, self.copying)


@dataclass(frozen=True)
class Review:
    """The opinions of the players, the plain base last, and what people's music is like."""

    opinions: tuple[Opinion, ...]
    human: Portrait
    overlap: dict[str, float]
    """Of one half of the pieces with the other."""
    copying: dict[str, Any] | None
    """Between the training pieces of different tunes."""
    refused: int

    def to_json(self) -> dict[str, Any]:
        """The first player's figures, beside them those of the `base` and of the `reference`."""
        first, *others = self.opinions
        beside = {"base": others[-1].to_json()} if others else {}
        human = _music(self.human, self.overlap, self.copying)["music"]
        return first.to_json() | {"refused": self.refused} | beside | {"reference": human}

    @property
    def portraits(self) -> dict[str, Portrait]:
        """By the names of who is portrayed, the reference first."""
        played = {opinion.name: opinion.portrait for opinion in self.opinions if opinion.portrait}
        return {REFERENCE: self.human} | played


def _music(
    drawn: Portrait | None, overlap: dict[str, float], copied: dict[str, Any] | None
) -> dict[str, Any]:
    return {"music": drawn.figures | {"overlap": overlap, "copying": copied}} if drawn else {}


def review(
    model: Moonbeam,
    players: Sequence[Player],
    scope: Scope,
    step: Step = lambda what, done, of: None,
    left_out: Callable[[Refused], None] = lambda refused: None,
) -> Review:
    """Let every player foretell the pieces and play.

    The solos are over the chords of those pieces, the same charts and seeds for all players.
    Raises MidiError for a folder without a usable file, or without a note but those of drums.
    """
    pieces, refused = read(scope.music, left_out)
    training = read(scope.training, sides=("train",))[0] if scope.training else []
    unheard = list(map(of_piece, pieces))
    human = list(map(of_piece, read(scope.reference)[0])) if scope.reference else unheard
    if not any(len(line.rows) for line in human):
        raise MidiError(f"{scope.reference or scope.music}: only drums in it; name a folder with other music")
    copied = list(map(of_piece, training))
    nll, drawn = Likelihood(model), portrait(human)
    decoder, over = decoder_of(model) if scope.solos else None, charts(unheard, scope.solos)
    opinions = []
    for player in players:
        listening, playing = (partial(step, f"{what} as {player.name}") for what in ("listening", "playing"))
        nats = foretold(nll, pieces, scope.with_chords, listening, player.mix)
        solos = takes(decoder, player, over, scope.solos, playing) if decoder else None
        opinions.append(_opinion(player.name, nats, solos, drawn, copied))
    return Review(
        tuple(opinions),
        drawn,
        overlaps(portrait(human[::2]), portrait(human[1::2])),
        among(copied, _tunes(training)) if copied else None,
        refused,
    )


def _opinion(
    name: str, nats: dict[str, Any], solos: Sequence[Line] | None, human: Portrait, copied: Sequence[Line]
) -> Opinion:
    if solos is None:
        return Opinion(name, nats, None, {}, None)
    drawn = portrait(solos)
    return Opinion(name, nats, drawn, overlaps(drawn, human), copying(solos, copied) if copied else None)


def _tunes(pieces: Sequence[Piece]) -> list[int]:
    """Numbers of the pieces' tunes: takes of one tune have the same."""
    lots = [piece.lot() for piece in pieces]
    return [lots.index(lot) for lot in lots]
