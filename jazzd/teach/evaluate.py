"""How likely a base finds music it has not heard, in nats a note."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Bool, Float, Int

from jazzd.errors import MidiError, ModelError
from jazzd.files import replacing
from jazzd.moonbeam import lora
from jazzd.moonbeam.model import Moonbeam, causal_mask, token_nll
from jazzd.moonbeam.tokens import COMPING, EOS, FIELDS, INSTRUMENT, NAMES, ONSET, SOS, Vocabulary, chunks
from jazzd.music import chords, voicing
from jazzd.teach import corpus
from jazzd.teach.corpus import Piece, Refused, Side
from jazzd.teach.dataset import clamped, interleaved

BATCH = 8
COMPING_VELOCITY = 64
Step = Callable[[int, int], None]


@dataclass(frozen=True)
class Window:
    """Rows after SOS, and which are scored: each note once, from half a window on unless it opens."""

    rows: Int[np.ndarray, "L 6"]
    scored: Bool[np.ndarray, "L"]


def evaluate(
    model: Moonbeam,
    folder: Path,
    with_chords: bool = True,
    step: Step = lambda done, of: None,
    left_out: Callable[[Refused], None] = lambda refused: None,
    mix: lora.Mix | None = None,
) -> dict[str, Any]:
    """`nll_per_note`, `nll` per field and the number of `notes` over every MIDI file below `folder`.

    `mix` are the styles that the model plays in. `refused` is the number of files that cannot be used. For
    the rest see `read` and `foretold`.
    """
    pieces, refused = read(folder, left_out)
    return foretold(Likelihood(model), pieces, with_chords, step, mix) | {"refused": refused}


def read(
    folder: Path,
    left_out: Callable[[Refused], None] = lambda refused: None,
    sides: Sequence[Side] = ("test", "validation"),
) -> tuple[list[Piece], int]:
    """The pieces below `folder`, and how many files are none; `left_out` is told of each of those.

    Of a dataset, the pieces on the first of the sides that has any. Raises MidiError when there is none.
    """
    if (folder / corpus.STORED).is_file():
        pieces = corpus.load(folder / corpus.STORED)
        found_on = next((side for side in sides if any(piece.side == side for piece in pieces)), None)
        if found_on is None:
            raise MidiError(f"{folder}: it has no piece on the side {' or '.join(sides)}; name other music")
        return [piece for piece in pieces if piece.side == found_on], 0
    found = corpus.read_folder(folder)
    refused = [item for item in found if isinstance(item, Refused)]
    for item in refused:
        left_out(item)
    return [item for item in found if isinstance(item, Piece)], len(refused)


def foretold(
    nll: "Likelihood",
    pieces: Sequence[Piece],
    with_chords: bool = True,
    step: Step = lambda done, of: None,
    mix: lora.Mix | None = None,
) -> dict[str, Any]:
    """`nll_per_note`, `nll` per field and the number of `notes` over the pieces, in nats.

    Pieces whose markers are chord symbols are scored as solos over those chords, plainly voiced, unless
    `with_chords` is false. A rest longer than the vocabulary reaches begins a new excerpt, a longer note
    counts as the longest.
    """
    length = min(nll.config.window, 1024)
    found = [
        window
        for piece in pieces
        for window in piece_windows(piece, nll.config.vocabulary, length, with_chords)
    ]
    total, notes = np.zeros(len(FIELDS)), 0
    for start in range(0, len(found), BATCH):
        batch = found[start : start + BATCH]
        scores = nll(padded([w.rows for w in batch], BATCH, length), mix)
        for window, score in zip(batch, scores, strict=False):
            chosen = window.scored[1:]
            total += score[: len(chosen)][chosen].sum(axis=0)
            notes += int(chosen.sum())
        step(min(start + BATCH, len(found)), len(found))
    mean = total / max(notes, 1)
    return {
        "nll_per_note": float(mean.sum()),
        "nll": dict(zip(NAMES, map(float, mean), strict=True)),
        "notes": notes,
    }


def score_rows(model: Moonbeam, source: Path, target: Path, mix: lora.Mix | None = None) -> dict[str, Any]:
    """Score the `rows` (B, L, 6) of an npz file: `token_nll` (B, L-1, 6) float32 in nats, in another.

    Returns how many `sequences` and `tokens` were scored, and the `output`. Raises ModelError when the file
    does not hold such rows, or rows that the vocabulary cannot say.
    """
    if target.is_dir():
        raise ModelError(f"{target}: it is a folder; name the file to write")
    rows, nll = _read_rows(source, model.config.vocabulary), Likelihood(model)
    try:
        scores = [nll(sequence[None], mix) for sequence in rows]
    except MidiError as error:
        raise ModelError(f"{source}: {error}") from None
    token_nll = np.concatenate(scores)
    try:
        with replacing(target) as partial, partial.open("wb") as file:  # numpy would add a suffix to a name
            np.savez(file, token_nll=token_nll)
    except OSError as error:
        raise ModelError(f"{target}: cannot be written ({error.strerror})") from None
    return {"sequences": len(token_nll), "tokens": token_nll.size, "output": str(target)}


def _read_rows(source: Path, vocabulary: Vocabulary) -> Int[np.ndarray, "B L 6"]:
    if not source.is_file():
        reason = "it is a folder, not an npz file" if source.is_dir() else "there is no such file"
        raise ModelError(f"{source}: {reason}")
    try:
        # Opened here: numpy would leave a broken archive open.
        with source.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            rows: np.ndarray = stored["rows"]
    except Exception:  # a broken zip file raises anything
        raise ModelError(f"{source}: no npz file with an array `rows`, or a damaged one") from None
    if rows.ndim != 3 or min(len(rows), rows.shape[1] - 1) < 1 or rows.shape[2] != len(FIELDS):
        raise ModelError(f"{source}: `rows` must be of shape (B, L, 6), not {rows.shape}")
    if rows.dtype.kind not in "iu":
        raise ModelError(f"{source}: `rows` must be whole numbers, not {rows.dtype}")
    if (rows[:, 0, ONSET] != SOS).any():
        raise ModelError(f"{source}: every sequence of `rows` must begin with a SOS row (-1)")
    limits = np.array([2**31, *(size - 2 for size in vocabulary.sizes[1:])])
    wrong = ((rows < 0) | (rows >= limits)) & ~np.isin(rows[..., :1], (SOS, EOS))
    for sequence, row, column in np.argwhere(wrong)[:1]:
        value = rows[sequence, row, column]
        where = f"row {row} of sequence {sequence}"
        raise ModelError(f"{source}: {value} in {where} is no {('onset', *NAMES[1:])[column]}")
    return rows.astype(np.int64)


class Likelihood:
    """Teacher-forced nats of every sub-token, over the whole vocabulary; compiled once a shape."""

    def __init__(self, model: Moonbeam) -> None:
        self.config = model.config
        graph, self._params = nnx.split(model)
        self._nll = jax.jit(
            lambda p, rows, labels, mix: token_nll(nnx.merge(graph, p), rows, labels, causal_mask(rows), mix)
        )

    def __call__(
        self, rows: Int[np.ndarray, "B L 6"], mix: lora.Mix | None = None
    ) -> Float[np.ndarray, "B L-1 6"]:
        """In the styles of that mix. Raises MidiError for a time beyond the vocabulary."""
        labels = np.stack([self.config.vocabulary.labels(sequence) for sequence in rows])
        return np.asarray(
            self._nll(self._params, jnp.asarray(rows, jnp.int32), jnp.asarray(labels, jnp.int32), mix)
        )


def piece_windows(
    piece: Piece, vocabulary: Vocabulary, length: int, with_chords: bool = True
) -> Iterator[Window]:
    """All that is to be scored of a piece: as a solo over its chords, if it has any."""
    chorded = with_chords and bool(piece.chords)
    rows = _over_chords(piece, vocabulary) if chorded else piece.rows
    return windows(rows, vocabulary, length, chorded)


def windows(
    rows: Int[np.ndarray, "N 6"], vocabulary: Vocabulary, length: int, chorded: bool
) -> Iterator[Window]:
    """Half-overlapping windows of at most `length` rows, each from onset 0 with SOS before it.

    Where the piece is `chorded`, its comping rows are given, not scored.
    """
    size = length - 1
    half = size // 2
    for part in chunks(clamped(rows, vocabulary), vocabulary.longest):
        for start in range(0, max(1, len(part) - half), half):
            excerpt = part[start : start + size]
            scored = np.arange(len(excerpt)) >= (size - half if start else 0)
            if chorded:
                scored &= excerpt[:, INSTRUMENT] != COMPING
            excerpt = np.concatenate([excerpt[:, :1] - excerpt[0, 0], excerpt[:, 1:]], axis=1)
            yield Window(np.insert(excerpt, 0, SOS, axis=0), np.insert(scored, 0, False))


def _over_chords(piece: Piece, vocabulary: Vocabulary) -> Int[np.ndarray, "N 6"]:
    """The piece's rows, its chords interleaved plainly."""
    comp = []
    for tick, end, symbol in piece.spans:
        chord, lasts = chords.parse(symbol), min(max(end - tick, 1), vocabulary.longest)
        for pitch in voicing.plain(chord) if chord else ():
            comp.append([tick, lasts, *divmod(pitch, 12), COMPING, COMPING_VELOCITY])
    return interleaved(piece.rows, np.array(comp, np.int64).reshape(-1, 6))


def padded(rows: Sequence[Int[np.ndarray, "_ 6"]], size: int, length: int) -> Int[np.ndarray, "B L 6"]:
    """A batch of one shape, so that nothing compiles twice: padded with what no causal score sees."""
    batch = np.zeros((size, length, len(FIELDS)), np.int64)
    batch[:, 0] = SOS
    for i, sequence in enumerate(rows):
        batch[i, : len(sequence)] = sequence
        batch[i, len(sequence) :, ONSET] = max(sequence[-1, ONSET], 0)
    return batch
