"""What becomes of the context when the style changes: kept as the old style read it, or read again.

A model's memory of the rows before (keys and values) was made under the old style. Keeping it costs nothing,
reading it again takes a while. Which one foretells the new style's music better, is measured here.
"""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jazzd.arrays import Array, Float, Int
from jazzd.bench import machine
from jazzd.errors import MidiError
from jazzd.moonbeam import lora, resident, weights
from jazzd.moonbeam.config import Numerics
from jazzd.moonbeam.model import Moonbeam, causal_mask
from jazzd.styles.wardrobe import Wardrobe
from jazzd.teach import corpus
from jazzd.teach.corpus import Piece
from jazzd.teach.evaluate import Window, padded, piece_windows

BATCH = 8


def measure(
    folder: Path,
    style: str,
    old: str = "",
    styles: Path = Path("styles"),
    base: str = "builtin",
    dtype: resident.Dtype | None = None,
    numerics: Numerics | None = None,
) -> dict[str, Any]:
    """Nats a note of the later halves of windows of the style's music, after a switch from `old` at half.

    `kept`: the first half was read in the old style; `reread`: in the new one; `unswitched`: all of it in the
    old one. Raises MidiError without usable files, StyleError for a style that is none.
    """
    loaded = weights.load(base, resident.element_type(dtype), numerics)
    wardrobe = Wardrobe.open(styles, loaded)
    wardrobe.registry.rescan()
    new_mix, old_mix = wardrobe.mix({style: 1.0}), wardrobe.mix({old: 1.0} if old else {})
    length = loaded.model.config.window
    pieces = [item for item in corpus.read_folder(folder) if isinstance(item, Piece)]
    windows = [
        window
        for piece in pieces
        for window in piece_windows(piece, loaded.model.config.vocabulary, length, True)
        if len(window.rows) > length // 2 + 1
    ]
    if not windows:
        raise MidiError(f"{folder}: no piece is longer than {length // 2} notes, so none has a later half")
    later = Later(loaded.model, length // 2)
    cases = {"kept": (old_mix, new_mix), "reread": (new_mix, new_mix), "unswitched": (old_mix, old_mix)}
    figures = {name: later.nats(windows, length, *mixes) for name, mixes in cases.items()}
    notes = sum(int(window.scored[length // 2 + 1 :].sum()) for window in windows)
    return machine.describe() | {"base": base, "style": style, "from": old, **figures, "notes": notes}


class Later:
    """Scores the rows of a window from `half` on, with a memory of those before that another mix has read."""

    def __init__(self, model: Moonbeam, half: int) -> None:
        self._vocabulary = model.config.vocabulary
        graph, self._params = nnx.split(model)

        def nll(
            params: Any,
            rows: Int[Array, "B L 6"],
            labels: Int[Array, "B L 7"],
            before: lora.Mix | None,
            after: lora.Mix | None,
        ) -> Float[Array, "B T"]:
            model: Moonbeam = nnx.merge(graph, params)
            causal = causal_mask(rows[:, :-1])
            _, first = model(rows[:, :half], causal[:, :half, :half], styles=before)
            room = [(0, 0), (0, causal.shape[-1] - half), (0, 0), (0, 0)]
            cache = tuple((jnp.pad(k, room), jnp.pad(v, room)) for k, v in first)
            summaries, _ = model(rows[:, half:-1], causal[:, half:], cache, jnp.int32(half), after)
            bend = after.spelling if after else None
            outputs = model.decoder.outputs(summaries, labels[:, half + 1 :, :-1], bend)
            logits = model.decoder.logits(outputs, bend)
            target = jnp.take_along_axis(logits, labels[:, half + 1 :, 1:, None], axis=-1)[..., 0]
            return jnp.sum(jax.nn.logsumexp(logits, axis=-1) - target, axis=-1)

        self._half, self._nll = half, jax.jit(nll)

    def nats(
        self, windows: list[Window], length: int, before: lora.Mix | None, after: lora.Mix | None
    ) -> float:
        """Mean over the notes that count."""
        total, notes = 0.0, 0
        for start in range(0, len(windows), BATCH):
            batch = windows[start : start + BATCH]
            rows = padded([window.rows for window in batch], BATCH, length)
            labels = np.stack([self._vocabulary.labels(sequence) for sequence in rows])
            scores = np.asarray(
                self._nll(
                    self._params, jnp.asarray(rows, jnp.int32), jnp.asarray(labels, jnp.int32), before, after
                )
            )
            for window, score in zip(batch, scores, strict=False):
                counted = window.scored[self._half + 1 :]
                total += float(score[: len(counted)][counted].sum())
                notes += int(counted.sum())
        return round(total / max(notes, 1), 4)
