"""Reads what torch.save wrote, without torch and without running anything in it.

A `.pt` file is a zip: a pickle that describes the tensors, and their raw bytes in members of their own. The
pickle is data from strangers, so the unpickler knows a tensor's few constructors and refuses every other
name. The bytes are checked, then mapped into memory: a large checkpoint takes no room of its own.
"""

import pickle
import zipfile
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from jazzd.errors import ModelError

STORAGES = {
    "FloatStorage": np.dtype(np.float32),
    "DoubleStorage": np.dtype(np.float64),
    "HalfStorage": np.dtype(np.float16),
    "BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
    "LongStorage": np.dtype(np.int64),
    "IntStorage": np.dtype(np.int32),
    "ShortStorage": np.dtype(np.int16),
    "CharStorage": np.dtype(np.int8),
    "ByteStorage": np.dtype(np.uint8),
    "BoolStorage": np.dtype(np.bool_),
}
PREFIX = "module."
"""What data-parallel training left before every name of the published checkpoints."""
LARGEST_PICKLE = 2**24
"""Bytes of a description; that of the published checkpoints, optimizer and all, is far smaller."""
CHUNK = 2**20


def read(path: Path) -> dict[str, np.ndarray]:
    """The tensors of the checkpoint's `model_state_dict`, names without `module.`.

    Raises ModelError for anything but a checkpoint of plain tensors.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            content = _unpickled(archive, path)
    except FileNotFoundError:
        raise ModelError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise ModelError(f"{path} is a folder; the .pt file itself is wanted") from None
    except zipfile.BadZipFile:
        raise ModelError(f"{path} is not a checkpoint that torch.save wrote, or it is cut short") from None
    tensors = content.get("model_state_dict") if isinstance(content, dict) else None
    if not isinstance(tensors, dict) or not all(
        isinstance(name, str) and isinstance(tensor, np.ndarray) for name, tensor in tensors.items()
    ):
        raise ModelError(f"{path} holds no `model_state_dict` of tensors")
    return {name.removeprefix(PREFIX): tensor for name, tensor in tensors.items()}


def _unpickled(archive: zipfile.ZipFile, path: Path) -> Any:
    pickles = [name for name in archive.namelist() if name.endswith("/data.pkl") or name == "data.pkl"]
    if len(pickles) != 1 or archive.getinfo(pickles[0]).compress_type != zipfile.ZIP_STORED:
        raise ModelError(f"{path} is a zip file, but not one that torch.save wrote")
    if archive.getinfo(pickles[0]).file_size > LARGEST_PICKLE:
        raise ModelError(f"{path} describes its tensors at a length that none needs; nothing was run")
    try:
        with archive.open(pickles[0]) as file:
            return _TensorUnpickler(file, archive, path, pickles[0].removesuffix("data.pkl")).load()
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from None
    except Exception as error:  # a broken pickle raises anything
        raise ModelError(f"{path} is damaged ({type(error).__name__}: {error})") from None


@dataclass(frozen=True)
class _Storage:
    """A storage class of torch by name; called by nobody, it only carries the element type."""

    dtype: np.dtype[Any]


def _ignore_attributes(unpickler: Any) -> None:
    """In place of setting attributes: torch hangs a version number on the dictionary, which nobody needs."""
    unpickler.stack.pop()


# The one written in Python: the one in C sets memory aside for whatever number a broken file names.
class _TensorUnpickler(pickle._Unpickler):
    dispatch = {**pickle._Unpickler.dispatch, pickle.BUILD[0]: _ignore_attributes}  # noqa: RUF012

    def __init__(self, file: Any, archive: zipfile.ZipFile, path: Path, folder: str) -> None:
        super().__init__(file)
        self._archive, self._folder = archive, folder
        self._bytes = np.memmap(path, np.uint8, "r")
        self._storages: dict[tuple[str, np.dtype[Any]], np.ndarray] = {}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuild_tensor
        if module == "torch" and name in STORAGES:
            return _Storage(STORAGES[name])
        wanted = f"{module}.{name}"[:80]
        raise ModelError(
            f"it wants to run {wanted!r}, which no checkpoint of plain tensors does; nothing was run"
        )

    def persistent_load(self, pid: Any) -> np.ndarray:
        kind, storage, key, _, elements = pid
        if kind != "storage" or not isinstance(storage, _Storage) or not isinstance(key, str):
            raise ModelError("it names tensor data in a way that torch.save does not; nothing was run")
        if (key, storage.dtype) not in self._storages:
            mapped = self._mapped(f"{self._folder}data/{key}", storage.dtype, elements)
            self._storages[key, storage.dtype] = mapped
        return self._storages[key, storage.dtype]

    def _mapped(self, name: str, dtype: np.dtype[Any], elements: int) -> np.ndarray:
        info = self._archive.getinfo(name)
        # Compared before anything is read: a small file must not ask for much memory.
        if info.file_size != elements * dtype.itemsize or info.compress_type != zipfile.ZIP_STORED:
            raise ModelError(f"the tensor data {name} has the wrong size")
        with self._archive.open(info) as member:
            while member.read(CHUNK):  # compares the checksum at the end
                pass
        # In the file, the member's own header of 30 bytes, its name and an extra field precede its data.
        lengths = self._bytes[info.header_offset :][26:30].view("<u2")
        begin = info.header_offset + 30 + int(lengths.sum(dtype=np.int64))
        return self._bytes[begin : begin + info.file_size].view(dtype)


def _rebuild_tensor(
    storage: np.ndarray, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: object
) -> np.ndarray:
    """torch's tensor of that view; bounds are checked, so that no view leaves its storage."""
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True)) if all(size) else offset
    if min((offset, *size, *stride), default=0) < 0 or last >= max(len(storage), 1):
        raise ModelError("a tensor reaches beyond its data")
    strides = [step * storage.itemsize for step in stride]
    return np.lib.stride_tricks.as_strided(storage[offset:], size, strides, writeable=False)
