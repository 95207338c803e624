"""A folder of MIDI files, however it was left -> pieces ready to be learned from (`jazzd prepare`)."""

import json
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import mido

from jazzd.errors import MidiError
from jazzd.files import replacing
from jazzd.moonbeam import midi
from jazzd.teach import changes, corpus, report, voices
from jazzd.teach.beats import beats
from jazzd.teach.corpus import Changes, Gathered, Piece, Refused, Side
from jazzd.teach.metre import beats_of
from jazzd.teach.voices import Part, Voice

SHARES = (0.8, 0.1, 0.1)
"""Of the tunes: to learn from, to stop by, and to judge by."""
MOST_NOTES = 2.0
"""A side that is not learned from takes at most so many times its share of all notes."""


def prepare(
    folder: Path,
    step: corpus.Step = lambda done, of: None,
    voice: Voice | None = None,
    shares: tuple[float, float, float] = SHARES,
    seed: int = 0,
) -> Gathered:
    """The solos in the MIDI files below `folder` with their chords, each tune on one side of the split.

    Raises MidiError when no file can be used.
    """
    found = corpus.read_folder(folder, step, partial(study, voice))
    pieces, copies = _unlike([item for item in found if isinstance(item, Piece)])
    refused = [item for item in found if isinstance(item, Refused)]
    return Gathered(tuple(split(pieces, shares, seed)), (*refused, *copies))


def write(target: Path, found: Gathered) -> dict[str, Any]:
    """Make `target` a dataset: the pieces, `report.json` and `report.png`; returns the report.

    Raises MidiError where that cannot be written, or other files are in the folder; then nothing has changed.
    """
    if target.is_dir() and any(target.iterdir()) and not (target / corpus.STORED).exists():
        raise MidiError(f"{target} holds other files; choose a new folder")
    figures, new = report.report(found), not target.exists()
    picture, told = target / "report.png", target / "report.json"
    try:
        target.mkdir(parents=True, exist_ok=True)
        with replacing(picture) as drawn, replacing(told) as written:
            report.draw(drawn, found.pieces)
            written.write_text(json.dumps(figures, indent=1) + "\n")
            corpus.save(target / corpus.STORED, found.pieces)
    except OSError as error:
        if new:
            with suppress(OSError):
                target.rmdir()
        raise MidiError(f"{target}: cannot be written ({error.strerror}); choose another folder") from None
    return figures


def study(voice: Voice | None, path: Path, name: str) -> Piece | Refused:
    """The solo in the file at `path` and its chords, or the reason why there is none."""
    try:
        file = midi.read_midi(path)
        parts = voices.parts(file)
    except MidiError as error:
        return Refused(name, str(error))
    if not parts:
        drums = len(midi.encode(file)) > 0
        return Refused(name, f"{path}: {'only drums' if drums else 'no notes'} in it")
    chosen, rows = voices.choose(parts, voice)
    harmony, source = _harmony(file, parts)
    return Piece(name, rows, harmony, voice=chosen, chords_from=source, beats=beats_of(file))


def _harmony(file: mido.MidiFile, parts: Sequence[Part]) -> tuple[Changes, str]:
    """The chords of a file, and what they are from. A line alone has none: it implies too many."""
    if marked := corpus.marked(file):
        return marked, "markers"
    if struck := [part for part in parts if part.is_chords]:
        return changes.struck(voices.joined(struck)), "track"
    everything = Part("", voices.joined(parts))
    if everything.is_line:
        return (), ""
    return changes.infer(everything.rows, beats(file, everything.rows)), "notes"


def _unlike(pieces: Sequence[Piece]) -> tuple[list[Piece], list[Refused]]:
    """The pieces without those that another one has the notes of, in whatever key and tempo."""
    first: dict[str, Piece] = {}
    copies = []
    for piece in pieces:
        if (known := first.setdefault(piece.content, piece)) is not piece:
            copies.append(Refused(piece.name, f"{piece.name}: it has the notes of {known.name}"))
    return list(first.values()), copies


def split(pieces: Sequence[Piece], shares: tuple[float, float, float] = SHARES, seed: int = 0) -> list[Piece]:
    """The pieces with their sides: these shares of the tunes, all takes of a tune together.

    Where that leaves hardly a tune, the numbers tell no takes: `evans_1` to `evans_15` are fifteen tunes.
    Of two tunes one is learned from and one stopped by; from three on there is one of each at least. Where
    chance has it that tunes with much of the music would not be learned from, others take their place.
    """
    tunes = {piece.tune for piece in pieces}
    numbered = len(tunes) < 3 and len(pieces) > 2 * len(tunes)
    lots = [corpus.lot(piece.name if numbered else piece.tune, seed) for piece in pieces]
    sizes: Counter[float] = Counter()
    for lot, piece in zip(lots, pieces, strict=True):
        sizes[lot] += len(piece.rows)
    sides: dict[float, Side] = {}
    held_out: tuple[tuple[Side, float, int], ...] = (("validation", shares[1], 2), ("test", shares[2], 3))
    for side, share, least in held_out:
        wanted = max(1, round(share * len(sizes))) if share and len(sizes) >= least else 0
        most = MOST_NOTES * share * sum(sizes.values())
        sides |= dict.fromkeys(_drawn(sizes, sides, wanted, most), side)
    return [replace(p, side=sides.get(lot, "train")) for p, lot in zip(pieces, lots, strict=True)]


def _drawn(sizes: dict[float, int], taken: dict[float, Side], wanted: int, notes: float) -> list[float]:
    """So many of the tunes that are not taken, by their lots, with at most so many notes unless it is one."""
    free, drawn = sorted(sizes.keys() - taken.keys()), list[float]()
    for lot in free:
        if len(drawn) < wanted and sum(map(sizes.__getitem__, [*drawn, lot])) <= notes:
            drawn.append(lot)
    return (drawn or sorted(free, key=sizes.__getitem__)[: min(wanted, 1)])[: len(free) - 1]
