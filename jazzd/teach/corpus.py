"""A folder of MIDI files as note rows with their chord symbols, read once and kept as one file."""

import hashlib
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal

import mido
import numpy as np
from jaxtyping import Int

from jazzd.errors import ConfigError, MidiError
from jazzd.files import replacing
from jazzd.moonbeam import midi
from jazzd.moonbeam.tokens import OCTAVE, ONSET, PITCH_CLASS, TICKS_PER_SECOND
from jazzd.music import chords
from jazzd.teach.metre import UNKNOWN, Beats, beats_of

STORED = "corpus.npz"
"""The file with a folder's pieces."""
VALIDATION_SHARE = 0.05
Changes = tuple[tuple[int, str], ...]
"""Chord symbols and the ticks at which they begin."""
_TAKE = re.compile(
    r"(_\d{1,2}|[ _-]+(19|20)\d\d|[ _(-]+alt(ernate)?[ _-]?(take)?\)?|[ _(-]+take[ _-]?\d*\)?)$", re.I
)
"""What tells one take of a tune from another, at the end of a name."""
TEXTS = ("name", "side", "voice", "chords_from")
"""The fields of a piece that are words."""
Side = Literal["train", "validation", "test"]
"""What a piece is there for."""


@dataclass(frozen=True)
class Piece:
    """One song: its notes and its chords."""

    name: str
    rows: Int[np.ndarray, "N 6"]
    chords: Changes = ()
    side: Side = "train"
    voice: str = ""
    """Which of the file's notes these are, by `voices.choose`; all of them as they stand if empty."""
    chords_from: str = "markers"
    beats: Beats = UNKNOWN
    """Those that its file states."""

    @property
    def tune(self) -> str:
        """The name without the take."""
        return _TAKE.sub("", Path(self.name).stem)

    def lot(self, seed: int = 0) -> float:
        """A number from 0 to 1: takes of one tune have the same."""
        return lot(self.tune, seed)

    @property
    def spans(self) -> Iterator[tuple[int, int, str]]:
        """Each chord's first tick, the tick at which it ends, and its symbol."""
        begins = [tick for tick, _ in self.chords]
        ends = [*begins[1:], int(self.rows[-1, ONSET])] if begins else []
        for (tick, symbol), end in zip(self.chords, ends, strict=True):
            yield tick, end, symbol

    @property
    def content(self) -> str:
        """The same for the same music in another key, at another tempo, under another name."""
        pitches = self.rows[:, OCTAVE] * 12 + self.rows[:, PITCH_CLASS]
        intervals = np.diff(pitches[np.lexsort((pitches, self.rows[:, ONSET]))])
        return hashlib.sha256(intervals.astype(np.int16).tobytes()).hexdigest()


def lot(name: str, seed: int = 0) -> float:
    """A number from 0 to 1, drawn by the name alone."""
    drawn = hashlib.sha256((f"{name} {seed}" if seed else name).encode()).hexdigest()
    return int(drawn[:8], 16) / 2**32


def split(pieces: Sequence[Piece]) -> list[Piece]:
    """The pieces of a base with their sides: a twentieth of the tunes, but at least one, validates.

    The tune's name decides alone, so that its takes stay on one side, and more files change no tune's side.
    """
    limit = max(VALIDATION_SHARE, min((piece.lot() for piece in pieces), default=0.0))
    return [replace(p, side="validation" if p.lot() <= limit else "train") for p in pieces]


@dataclass(frozen=True)
class Refused:
    """A file that is not in the corpus, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Gathered:
    """What became of each file of a folder."""

    pieces: tuple[Piece, ...]
    refused: tuple[Refused, ...]


Step = Callable[[int, int], None]
"""Told of the progress: so many are done, of so many."""
Reader = Callable[[Path, str], Piece | Refused]
"""Of a file and what to call it. Runs in a process of its own."""


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
    """The piece in the file at `path` with all its notes, or the reason why there is none."""
    try:
        file = midi.read_midi(path)
        rows = midi.encode(file)
    except MidiError as error:
        return Refused(name, str(error))
    if not len(rows):
        return Refused(name, f"{path}: no notes in it")
    return Piece(name, rows, marked(file), beats=beats_of(file))


def marked(file: mido.MidiFile) -> Changes:
    """The chords that the file's markers name. Raises MidiError for type 2 files."""
    texts = [
        (round(TICKS_PER_SECOND * at), m.text.strip()) for at, m in midi.timed(file) if m.type == "marker"
    ]
    return tuple((tick, text) for tick, text in texts if _is_chord(text))


def _is_chord(text: str) -> bool:
    """Markers also name parts and takes."""
    try:
        chords.parse(text)
    except ConfigError:
        return False
    return True


def read_folder(
    folder: Path, step: Step = lambda done, of: None, reader: Reader = read
) -> list[Piece | Refused]:
    """What the reader says of every file below `folder`, in name order.

    Raises MidiError when there is none, or none that is a piece.
    """
    paths = files(folder)
    names = [path.relative_to(folder).as_posix() for path in paths]
    found: list[Piece | Refused] = []
    # Spawned, not forked: the caller may have JAX's threads.
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        for item in pool.map(reader, paths, names, chunksize=8):
            found.append(item)
            step(len(found), len(paths))
    refused = [item for item in found if isinstance(item, Refused)]
    if len(refused) == len(found):
        raise MidiError(f"{folder}: no file in it can be used, out of {len(found)}; {refused[0].reason}")
    return found


def gather(folder: Path, step: Step = lambda done, of: None) -> Gathered:
    """All the music below `folder` as it stands, for a base. Raises MidiError when no file can be used."""
    found = read_folder(folder, step)
    pieces = split([item for item in found if isinstance(item, Piece)])
    return Gathered(tuple(pieces), tuple(item for item in found if isinstance(item, Refused)))


def save(path: Path, pieces: Sequence[Piece]) -> None:
    """Write the pieces as one npz file, under its final name only when it is whole. Raises OSError."""
    symbols = [symbol for piece in pieces for _, symbol in piece.chords]
    contents: dict[str, Any] = {
        "lengths": np.array([len(piece.rows) for piece in pieces], np.int64),
        "rows": np.concatenate([np.zeros((0, 6), np.int64), *(p.rows for p in pieces)]).astype(np.int32),
        "chord_counts": np.array([len(piece.chords) for piece in pieces], np.int64),
        "chord_ticks": np.array([tick for piece in pieces for tick, _ in piece.chords], np.int64),
        "chord_symbols": np.array(symbols, np.str_),
        "beat_counts": np.array([len(piece.beats) for piece in pieces], np.int64),
        "beat_ticks": np.concatenate([np.zeros(0), *(p.beats.ticks for p in pieces)]),
        "beat_bars": np.concatenate([np.zeros(0, np.int64), *(p.beats.bars for p in pieces)]),
        "beat_strong": np.concatenate([np.zeros(0, bool), *(p.beats.strong for p in pieces)]),
    } | {text: np.array([getattr(piece, text) for piece in pieces], np.str_) for text in TEXTS}
    with replacing(path) as partial, partial.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **contents)


def load(path: Path) -> list[Piece]:
    """The pieces that `save` wrote. Raises MidiError where it did not."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            rows = np.split(stored["rows"].astype(np.int64), np.cumsum(stored["lengths"])[:-1])
            ends = np.cumsum(stored["chord_counts"])[:-1]
            changes = list(zip(stored["chord_ticks"].tolist(), stored["chord_symbols"].tolist(), strict=True))
            texts = [
                dict(zip(TEXTS, each, strict=True))
                for each in zip(*(stored[t].tolist() for t in TEXTS), strict=True)
            ]
            beats = _beats(stored) or [UNKNOWN] * len(texts)
        starts = [0, *ends.tolist()]
        return [
            Piece(rows=part, chords=tuple(changes[begin:end]), beats=stated, **named)
            for part, begin, end, named, stated in zip(
                rows, starts, [*starts[1:], len(changes)], texts, beats, strict=True
            )
        ]
    except (OSError, ValueError, TypeError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        raise MidiError(f"{path}: no dataset, or a damaged one; run `jazzd prepare` again") from None


def _beats(stored: Mapping[str, np.ndarray]) -> list[Beats]:
    """Each piece's; none at all in what was written before datasets had beats: a run of that time goes on."""
    if "beat_counts" not in stored:
        return []
    ends = np.cumsum(stored["beat_counts"])[:-1]
    parts = (np.split(stored[f"beat_{each}"], ends) for each in ("ticks", "bars", "strong"))
    return list(map(Beats, *parts))
