"""The angles of Moonbeam's sinusoids and rotations.

The last bit matters: far from the start of a piece a frequency is multiplied by an onset of tens of
thousands. For the published sizes `frequencies.npz` holds torch's float32 values; elsewhere the formula
agrees with them to one ulp.
"""

from functools import cache
from importlib import resources

import ml_dtypes
import numpy as np

from jazzd.arrays import Float32


def fme(base: int, width: int) -> Float32[np.ndarray, "E"]:
    """angle_i = 1 / base^(2 floor(i/2) / width) of the fundamental music embedding (SPEC 3.1)."""
    return _table(
        f"fme_{base}_{width}", base, (2 * (np.arange(width) // 2)).astype(np.float32) / np.float32(width)
    )


def rope(base: int, width: int) -> Float32[np.ndarray, "half"]:
    """inv_freq_j = 1 / base^(2j / width) of a head's rotation (SPEC section 4)."""
    return _table(f"rope_{base}_{width}", base, np.arange(0, width, 2, dtype=np.float32) / np.float32(width))


def rounded(table: Float32[np.ndarray, "E"]) -> Float32[np.ndarray, "E"]:
    """The table through bfloat16, as published models saw it (SPEC 3.4)."""
    return table.astype(ml_dtypes.bfloat16).astype(np.float32)


def _table(key: str, base: int, exponents: Float32[np.ndarray, "E"]) -> Float32[np.ndarray, "E"]:
    published = _published().get(key)
    if published is not None:
        return published
    powers = np.power(np.float64(base), exponents.astype(np.float64)).astype(np.float32)
    return np.float32(1) / powers


@cache
def _published() -> dict[str, np.ndarray]:
    with (
        resources.files("jazzd.moonbeam").joinpath("frequencies.npz").open("rb") as file,
        np.load(file) as tables,
    ):
        return dict(tables)
