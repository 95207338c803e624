"""The base and its styles on the device, or on what device there is memory for."""

import gc
from collections.abc import Iterator
from pathlib import Path

import jax
import structlog

from jazzd.errors import ModelError
from jazzd.moonbeam import lora, resident
from jazzd.moonbeam.config import Numerics
from jazzd.moonbeam.decode import Decoder
from jazzd.moonbeam.weights import Base
from jazzd.styles.wardrobe import Wardrobe

log = structlog.get_logger()
Loaded = tuple[Base, Decoder, Wardrobe]
FEWEST = 4
"""Fewer styles on the device than this would hardly save memory."""


def load(
    base: str,
    dtype: resident.Dtype | None,
    numerics: Numerics | None,
    device: resident.Device,
    styles: Path,
    max_resident: int,
) -> Loaded:
    """The base, compiled for every mix that may come, and its styles.

    Where the device has not the memory, fewer styles stay on it (the others are loaded when they are used),
    and at last all of it runs on the CPU: slower, but it plays. Raises ModelError.
    """
    for where, count in _attempts(device, max_resident):
        try:
            return _load(base, dtype, numerics, where, styles, count)
        except (jax.errors.JaxRuntimeError, MemoryError) as error:
            if not resident.out_of_memory(error):
                raise
            log.warning("out_of_memory", device=where, resident_styles=count, reason=str(error)[:200])
        gc.collect()  # what the attempt has left on the device
    raise ModelError(
        f"the base {base} does not fit the memory, not even with {FEWEST} styles: close what else uses it, "
        "or take a smaller base"
    )


def _attempts(device: resident.Device, max_resident: int) -> Iterator[tuple[resident.Device, int]]:
    """Where to try, and with how many styles; each is taken up only when the one before has failed."""
    yield device, max_resident
    if max_resident > FEWEST:
        yield device, FEWEST
    if resident.leave_gpu():
        yield "cpu", max_resident


def _load(
    base: str,
    dtype: resident.Dtype | None,
    numerics: Numerics | None,
    device: resident.Device,
    styles: Path,
    max_resident: int,
) -> Loaded:
    loaded, decoder = resident.load(base, dtype, numerics, device, (lora.SLIM, lora.FULL))
    wardrobe = Wardrobe.open(styles, loaded, max_resident)
    wardrobe.warm_up()
    return loaded, decoder, wardrobe
