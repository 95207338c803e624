"""How often the chords that are told from a piece's notes are those that somebody wrote down."""

import json
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from jazzd.bench import machine
from jazzd.errors import MidiError
from jazzd.moonbeam import midi
from jazzd.moonbeam.tokens import ONSET
from jazzd.teach import changes, corpus
from jazzd.teach.beats import beats
from jazzd.teach.changes import Agreement
from jazzd.teach.corpus import Changes

HARTE = {
    "maj": "",
    "min": "m",
    "7": "7",
    "maj7": "maj7",
    "min7": "m7",
    "minmaj7": "mmaj7",
    "maj6": "6",
    "min6": "m6",
    "sus2": "sus2",
    "sus4": "sus4",
    "sus4(b7)": "7sus4",
    "dim": "dim",
    "hdim7": "m7b5",
    "dim7": "dim7",
    "aug": "aug",
}
"""Qualities as C. Harte writes them, and as jazzd does; the bass behind a stroke is left out."""
WORST = 5


def measure(
    folder: Path, annotations: Path | None = None, step: Callable[[int, int], None] = lambda done, of: None
) -> dict[str, Any]:
    """Shares of the time in which root, and root and family, agree, over the MIDI files below `folder`.

    Compared with each file's own markers or with `annotations`/STEM.json: {"chords": [[from, to, "B:min7"]]}
    in seconds, "N" for none. Raises MidiError without a file that has either.
    """
    paths, found = corpus.files(folder), dict[str, Agreement]()
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        for done, (path, each) in enumerate(
            zip(paths, pool.map(partial(_compared, annotations), paths, chunksize=4), strict=True), 1
        ):
            if each and each.total:
                found[path.name] = each
            step(done, len(paths))
    if not found:
        raise MidiError(f"{folder}: no file has chords to compare with: name their folder with --annotations")
    total = sum(found.values(), Agreement())
    worst = sorted(found, key=lambda name: found[name].root / found[name].total)[:WORST]
    return machine.describe() | {
        "root": round(total.root / total.total, 4),
        "root_and_quality": round(total.quality / total.total, 4),
        "files": len(found),
        "seconds": round(total.total / 100),
        "worst": {name: round(found[name].root / found[name].total, 3) for name in worst},
    }


def _compared(annotations: Path | None, path: Path) -> Agreement | None:
    try:
        file = midi.read_midi(path)
        rows = midi.encode(file)
        written = read(annotations / f"{path.stem}.json") if annotations else corpus.marked(file)
    except MidiError:
        return None
    if not len(rows) or not written:
        return None
    end = max(int(rows[-1, ONSET]), written[-1][0])
    return changes.agreement(changes.infer(rows, beats(file, rows)), written, end)


def read(path: Path) -> Changes:
    """The chords of an annotation; none where there is no such file. Raises MidiError for a broken one."""
    if not path.is_file():
        return ()
    try:
        spans = [(float(begin), str(label)) for begin, _, label in json.loads(path.read_text())["chords"]]
        return tuple((round(100 * begin), _symbol(label)) for begin, label in spans)
    except (ValueError, KeyError, TypeError) as error:
        raise MidiError(f"{path}: no chords as expected ({error})") from None


def _symbol(label: str) -> str:
    root, _, quality = label.partition(":")
    return "N.C." if root == "N" else root + HARTE[quality.partition("/")[0]]
