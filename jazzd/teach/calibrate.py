"""Which frequency tables a base has learned with, told by how likely it finds music it has not heard."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import jax
import jax.numpy as jnp

from jazzd.errors import ModelError
from jazzd.moonbeam import weights
from jazzd.moonbeam.config import Numerics
from jazzd.moonbeam.resident import Dtype
from jazzd.teach.corpus import Refused
from jazzd.teach.evaluate import Step, evaluate


def calibrate(
    base: str,
    folder: Path,
    dtype: Dtype | None = None,
    step: Step = lambda done, of: None,
    left_out: Callable[[Refused], None] = lambda refused: None,
) -> dict[str, Any]:
    """`nll_per_note` of every mode (SPEC 3.4) over the MIDI files below `folder`, and the `best` numerics.

    In float32, and where the device is made for it also in bfloat16, unless `dtype` says which. Where the
    numerics come out alike, the base keeps its own. Raises ModelError and MidiError.
    """
    config, _ = weights.identify(base)
    tried = [(each, numerics) for each in _dtypes(dtype) for numerics in get_args(Numerics)]
    found, notes = [], 0
    for i, (each, numerics) in enumerate(tried):
        figures = evaluate(
            weights.load(base, jnp.dtype(each), numerics).model,
            folder,
            step=lambda done, of, i=i: step(i * of + done, len(tried) * of),  # type: ignore[misc]
            left_out=left_out if i == 0 else lambda refused: None,
        )
        notes = figures["notes"]
        found.append({"dtype": each, "numerics": numerics, "nll_per_note": figures["nll_per_note"]})
    if not all(math.isfinite(mode["nll_per_note"]) for mode in found):
        raise ModelError(f"{base} finds music impossible: its weights are damaged; convert them again")
    best = min(found, key=lambda mode: (mode["nll_per_note"], mode["numerics"] != config.numerics))
    return {"base": base, "modes": found, "notes": notes, "now": config.numerics, "best": best["numerics"]}


def _dtypes(dtype: Dtype | None) -> list[Dtype]:
    if dtype not in (None, "auto"):
        return [dtype]
    return ["float32"] if jax.default_backend() == "cpu" else ["float32", "bfloat16"]
