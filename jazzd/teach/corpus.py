"""A folder of MIDI files as note rows with their chord symbols, read once and kept as one file."""

import hashlib
import os
import re
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from jaxtyping import Int

from jazzd.errors import ConfigError, MidiError
from jazzd.moonbeam import midi
from jazzd.music import chords

VALIDATION_SHARE = 0.05


@dataclass(frozen=True)
class Piece:
    """One song: its notes, and the chord symbols that its `marker` events carry (tick, symbol)."""

    name: str
    rows: Int[np.ndarray, "N 6"]
    chords: tuple[tuple[int, str], ...] = ()

    @property
    def lot(self) -> float:
        """A number from 0 to 1, drawn by the name without its take: takes of one tune have the same."""
        tune = re.sub(r"_\d{1,2}$", "", Path(self.name).stem)
        return int(hashlib.sha256(tune.encode()).hexdigest()[:8], 16) / 2**32


def split(pieces: Sequence[Piece]) -> tuple[list[Piece], list[Piece]]:
    """The pieces to teach and those to validate with: about a twentieth of the tunes, but at least one.

    The tune's name decides alone, so that its takes stay on one side, and more files change no tune's side.
    """
    limit = max(VALIDATION_SHARE, min((piece.lot for piece in pieces), default=0.0))
    return [p for p in pieces if p.lot > limit], [p for p in pieces if p.lot <= limit]


@dataclass(frozen=True)
class Refused:
    """A file that is not in the corpus, and why."""

    name: str
    reason: str


def files(folder: Path) -> list[Path]:
    """Every MIDI file below `folder`, sorted. Raises MidiError when there is none."""
    if not folder.is_dir():
        reason = "it is a file; name its folder" if folder.exists() else "there is no such folder"
        raise MidiError(f"{folder}: {reason}")
    found = sorted(
        path for path in folder.rglob("*") if path.suffix.lower() in (".mid", ".midi") and path.is_file()
    )
    if not found:
        raise MidiError(f"{folder}: no .mid or .midi file in it")
    return found


def read(path: Path, name: str) -> Piece | Refused:
    """The piece in the file at `path`, or the reason why there is none."""
    try:
        file = midi.read_midi(path)
        rows = midi.encode(file)
        markers = [(round(100 * at), m.text.strip()) for at, m in midi.timed(file) if m.type == "marker"]
    except MidiError as error:
        return Refused(name, str(error))
    if not len(rows):
        return Refused(name, f"{path}: no notes in it")
    return Piece(name, rows, tuple((tick, text) for tick, text in markers if _is_chord(text)))


def _is_chord(text: str) -> bool:
    """Markers also name parts and takes."""
    try:
        chords.parse(text)
    except ConfigError:
        return False
    return True


def _read_under(arguments: tuple[Path, Path]) -> Piece | Refused:
    folder, path = arguments
    return read(path, path.relative_to(folder).as_posix())


def read_folder(
    folder: Path, step: Callable[[int, int], None] = lambda done, of: None
) -> list[Piece | Refused]:
    """Every file below `folder`, in name order; `step(done, of)` is told of the progress.

    Raises MidiError when there is none, or none that is a piece.
    """
    paths = files(folder)
    found: list[Piece | Refused] = []
    # Spawned, not forked: the caller may have JAX's threads.
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        for item in pool.map(_read_under, [(folder, path) for path in paths], chunksize=8):
            found.append(item)
            step(len(found), len(paths))
    refused = [item for item in found if isinstance(item, Refused)]
    if len(refused) == len(found):
        raise MidiError(f"{folder}: no file in it can be used, out of {len(found)}; {refused[0].reason}")
    return found


def save(path: Path, pieces: Sequence[Piece]) -> None:
    """Write the pieces as one npz file, under its final name only when it is whole."""
    contents = {
        "names": np.array([piece.name for piece in pieces], dtype=np.str_),
        "lengths": np.array([len(piece.rows) for piece in pieces], dtype=np.int64),
        "rows": _joined([piece.rows for piece in pieces], 6).astype(np.int32),
        "chord_counts": np.array([len(piece.chords) for piece in pieces], dtype=np.int64),
        "chord_ticks": np.array([tick for piece in pieces for tick, _ in piece.chords], dtype=np.int64),
        "chord_symbols": np.array([symbol for piece in pieces for _, symbol in piece.chords], dtype=np.str_),
    }
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with partial.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **contents)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def load(path: Path) -> list[Piece]:
    """The pieces that `save` wrote."""
    with np.load(path) as stored:
        rows = np.split(stored["rows"].astype(np.int64), np.cumsum(stored["lengths"])[:-1])
        ticks = np.split(stored["chord_ticks"], np.cumsum(stored["chord_counts"])[:-1])
        symbols = np.split(stored["chord_symbols"], np.cumsum(stored["chord_counts"])[:-1])
        return [
            Piece(str(name), part, tuple((int(t), str(s)) for t, s in zip(at, text, strict=True)))
            for name, part, at, text in zip(stored["names"], rows, ticks, symbols, strict=True)
        ]


def _joined(arrays: Iterable[Int[np.ndarray, "_ C"]], columns: int) -> Int[np.ndarray, "N C"]:
    return np.concatenate([np.zeros((0, columns), np.int64), *arrays])
