"""Tensors in safetensors files, one at a time: a model need not fit into memory twice."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from safetensors import SafetensorError, safe_open

from jazzd.errors import ModelError

DTYPES = {
    "F64": np.dtype(np.float64),
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
}
"""What weights come in, by safetensors' names."""
NAMES = {dtype: name for name, dtype in DTYPES.items()}


class Lazy(Mapping[str, np.ndarray]):
    """Tensors that are made anew whenever they are asked for, and not kept. Their shapes are known before."""

    def __init__(self, shapes: Mapping[str, tuple[int, ...]], make: Callable[[str], np.ndarray]) -> None:
        self.shapes, self._make = shapes, make

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self.shapes:
            raise KeyError(name)
        return self._make(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self.shapes)

    def __len__(self) -> int:
        return len(self.shapes)


def shapes(tensors: Mapping[str, np.ndarray]) -> Mapping[str, tuple[int, ...]]:
    """Every tensor's shape, without making any."""
    if isinstance(tensors, Lazy):
        return tensors.shapes
    return {name: tensor.shape for name, tensor in tensors.items()}


def read(path: Path) -> tuple[Lazy, dict[str, str]]:
    """The tensors of a safetensors file, mapped into memory while somebody holds them, and its metadata.

    Raises ModelError when it is none, is cut short, or holds other numbers than weights.
    """
    try:
        with safe_open(path, "numpy") as file:  # checks that the header and the data fit together
            metadata = dict(file.metadata() or {})
        with path.open("rb") as raw:
            size = int.from_bytes(raw.read(8), "little")
            header: dict[str, Any] = json.loads(raw.read(size))
    except (OSError, ValueError, SafetensorError) as error:
        raise ModelError(f"{path}: cannot be read ({error})") from None
    header.pop("__metadata__", None)
    for name, entry in header.items():
        if entry["dtype"] not in DTYPES:
            raise ModelError(f"{path}: {name} holds {entry['dtype']} numbers, which no weights are")

    found = {name: tuple(entry["shape"]) for name, entry in header.items()}

    def mapped(name: str) -> np.ndarray:
        dtype, (begin, end) = DTYPES[header[name]["dtype"]], header[name]["data_offsets"]
        if begin == end:
            return np.empty(found[name], dtype)
        return np.memmap(path, dtype, "r", 8 + size + begin, found[name])

    return Lazy(found, mapped), metadata


def write(path: Path, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file, holding one tensor at a time.

    Raises OSError, or ModelError where there are other numbers than weights.
    """
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    sizes = {name: tensor.itemsize for name, tensor in tensors.items()}
    # Wide numbers first: then each begins where a reader that maps the file may look at it.
    names, end = sorted(sizes, key=lambda name: (-sizes[name], name)), 0
    for name in names:
        tensor = tensors[name]
        if tensor.dtype not in NAMES:
            raise ModelError(f"{name} holds {tensor.dtype} numbers, which no weights are")
        begin, end = end, end + tensor.nbytes
        entry = {"dtype": NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [begin, end]}
        header[name] = entry
    encoded = json.dumps(header, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % 8)
    with path.open("wb") as file:
        file.write(len(encoded).to_bytes(8, "little") + encoded)
        for name in names:
            file.write(_bytes(tensors[name]))


def fingerprint(tensors: Mapping[str, np.ndarray]) -> str:
    """Sixteen hex digits that change with any tensor's name, type, shape or value."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name}:{tensor.dtype}:{tensor.shape}\n".encode())
        digest.update(_bytes(tensor))
    return digest.hexdigest()[:16]


def finite(tensor: np.ndarray) -> bool:
    """Whether every number of a tensor of weights is one: no NaN, nothing infinite."""
    if tensor.dtype == ml_dtypes.bfloat16:  # many times faster than asking for each
        return not ((tensor.view(np.uint16) & 0x7F80) == 0x7F80).any()
    return bool(np.isfinite(tensor).all())


def _bytes(tensor: np.ndarray) -> memoryview:
    return np.ascontiguousarray(tensor).reshape(-1).view(np.uint8).data
