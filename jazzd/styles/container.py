"""The safetensors container, read without trust.

Whatever the header claims is checked against the file before anything is allocated for it, and nothing is
mapped into memory: a file that shrinks while it is read must not take the process with it.
"""

import json
import math
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from jazzd import files
from jazzd.arrays import Float
from jazzd.errors import StyleError
from jazzd.moonbeam import storage

HEADER_LIMIT = 2**20
"""Bytes of the JSON header at most."""
LONGEST = 2**48
"""No tensor has more bytes."""
LARGEST = 1e4
"""No number of an adapter is larger; far larger ones would drown the music in infinities."""
DTYPES = {code: storage.DTYPES[code] for code in ("F32", "F16", "BF16")}


@dataclass(frozen=True)
class Entry:
    """What the header says of one tensor; `begin` counts from the end of the header, in bytes."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    begin: int

    @property
    def size(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


class Container:
    """An open file whose header has been checked: offsets, sizes and types are consistent with the file."""

    def __init__(self, path: Path, file: BinaryIO, size: int) -> None:
        self.path, self.size, self._file = path, size, file
        header, self._data = _header(path, file, size)
        self.metadata = _metadata(path, header.pop("__metadata__", {}))
        self.entries = {name: _entry(path, name, told) for name, told in header.items()}
        end = 0
        for entry in sorted(self.entries.values(), key=lambda entry: entry.begin):
            if entry.begin != end:
                raise StyleError(f"{path}: not a safetensors file (its tensors overlap or leave gaps)")
            end += entry.size
        if self._data + end > size:
            raise StyleError(f"{path}: it ends after {size} of {self._data + end} bytes; copy it again")
        if self._data + end < size:
            raise StyleError(f"{path}: not a safetensors file (there are bytes behind its tensors)")

    def read(self, name: str) -> Float[np.ndarray, "..."]:
        """A tensor as float32. Raises StyleError when it holds anything but sane numbers."""
        entry = self.entries[name]
        with _in_words(self.path):
            self._file.seek(self._data + entry.begin)
            raw = self._file.read(entry.size)
        if len(raw) != entry.size:
            raise StyleError(f"{self.path}: it became shorter while it was read; copy it again")
        with np.errstate(all="ignore"):
            values = np.frombuffer(raw, entry.dtype).reshape(entry.shape).astype(np.float32, copy=False)
            # No comparison with NaN is true.
            if not (values.min(initial=0) >= -LARGEST and values.max(initial=0) <= LARGEST):
                raise StyleError(
                    f"{self.path}: {shown(name)} holds numbers that are infinite or far too large"
                )
        return values


@contextmanager
def opened(path: Path) -> Iterator[Container]:
    """The container at `path`. Raises StyleError."""
    with ExitStack() as stack:
        with _in_words(path):
            file = stack.enter_context(_open(path))
            size = os.fstat(file.fileno()).st_size
        yield Container(path, file, size)


def read_small(path: Path, limit: int) -> bytes:
    """The bytes of a file of no more than `limit`. Raises StyleError."""
    with _in_words(path), _open(path) as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise StyleError(f"{path}: larger than {limit / 2**20:g} MB, which is more than it may have")
    return data


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A file to write that takes the place of `path` when all went well, and goes away otherwise.

    Raises StyleError when it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with files.replacing(path) as partial:
            yield partial
    except OSError as error:
        raise StyleError(f"{path}: cannot be written ({error.strerror})") from None


def shown(text: str) -> str:
    """A stranger's text for a message: short, and without what a terminal would obey."""
    return text if len(text) <= 120 and text.isprintable() else ascii(text[:120])


def _open(path: Path) -> BinaryIO:
    if not path.is_file():  # opening a pipe would wait for ever
        raise StyleError(f"{path}: there is no such file")
    return path.open("rb")


@contextmanager
def _in_words(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StyleError(f"{path}: cannot be read ({error.strerror})") from None


def _header(path: Path, file: BinaryIO, size: int) -> tuple[dict[str, Any], int]:
    """The JSON header and where it ends."""
    with _in_words(path):
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or (8 + length > size and length <= HEADER_LIMIT):
            raise StyleError(f"{path}: it ends after {size} bytes, within its header; copy it again")
        if length > HEADER_LIMIT:
            raise StyleError(f"{path}: not a safetensors file (its header would have {length} bytes)")
        text = file.read(length)
    try:
        header = json.loads(text.decode())
    except (ValueError, RecursionError):
        raise StyleError(f"{path}: not a safetensors file (its header is not JSON)") from None
    if not isinstance(header, dict):
        raise StyleError(f"{path}: not a safetensors file (its header is not a JSON object)")
    return header, 8 + length


def _metadata(path: Path, told: object) -> dict[str, str]:
    if not isinstance(told, dict) or not all(isinstance(value, str) for value in told.values()):
        raise StyleError(f"{path}: not a safetensors file (its metadata are not texts)")
    return told


def _entry(path: Path, name: str, told: object) -> Entry:
    match told:
        case {"dtype": str(code), "shape": [*shape], "data_offsets": [begin, end]}:
            numbers = (*shape, begin, end)
            if code not in DTYPES:
                raise StyleError(
                    f"{path}: {shown(name)} is {shown(code)}; save it as float32, bfloat16 or float16"
                )
            if len(shape) in (1, 2) and all(type(n) is int and 0 <= n <= LONGEST for n in numbers):
                entry = Entry(DTYPES[code], tuple(shape), begin)
                if end - begin == entry.size:
                    return entry
    raise StyleError(f"{path}: not a safetensors file (wrong sizes of {shown(name)})")
