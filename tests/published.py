"""Checkpoints in the published layout with random weights, as torch.save writes them, made without torch."""

import json
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path

import ml_dtypes
import numpy as np

from jazzd.moonbeam import untrained, weights
from jazzd.moonbeam.config import Config

STORAGES = {np.dtype(np.float32): "FloatStorage", np.dtype(ml_dtypes.bfloat16): "BFloat16Storage"}
REBUILD = b"ctorch._utils\n_rebuild_tensor_v2\n"
ORDERED = b"ccollections\nOrderedDict\n)R"


def tensors(config: Config) -> Mapping[str, np.ndarray]:
    """Random bfloat16 weights of these sizes."""
    return untrained.tensors(weights.shapes(config))


def sizes(path: Path, config: Config) -> Path:
    """A `config.json` of these sizes with the reference's keys."""
    given = {
        "hidden_size": config.hidden,
        "intermediate_size": config.intermediate,
        "num_hidden_layers": config.layers,
        "onset_vocab_size": config.times,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads,
        "rms_norm_eps": config.eps,
        "decoder": {"hidden_size": config.gru_hidden, "num_hidden_layers": config.gru_layers},
    }
    path.write_text(json.dumps(given))
    return path


def write(path: Path, tensors: Mapping[str, np.ndarray], compression: int = zipfile.ZIP_STORED) -> Path:
    """`{"model_state_dict": {"module." + name: tensor}}`; `compression` is that of the tensors' data."""
    names = list(tensors)
    items = b"".join(_tensor(f"module.{name}", i, tensors[name]) for i, name in enumerate(names))
    pickled = b"\x80\x02}" + _text("model_state_dict") + ORDERED + b"(" + items + b"us."
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/version", "3\n")
        for i, name in enumerate(names):
            data = np.ascontiguousarray(tensors[name]).reshape(-1).view(np.uint8).data
            archive.writestr(f"archive/data/{i}", data, compression)  # type: ignore[arg-type]
    return path


def _tensor(name: str, key: int, tensor: np.ndarray) -> bytes:
    """The opcodes of one item: `_rebuild_tensor_v2(storage, 0, size, stride, False, OrderedDict())`."""
    strides = [step // tensor.itemsize for step in np.empty(tensor.shape, tensor.dtype).strides]
    storage = b"(" + _text("storage") + f"ctorch\n{STORAGES[tensor.dtype]}\n".encode()
    storage += _text(str(key)) + _text("cpu") + _number(tensor.size) + b"tQ"
    view = _number(0) + _tuple(tensor.shape) + _tuple(strides) + b"\x89" + ORDERED
    return _text(name) + REBUILD + b"(" + storage + view + b"tR"


def _text(text: str) -> bytes:
    return b"X" + struct.pack("<I", len(text)) + text.encode()


def _number(number: int) -> bytes:
    return b"J" + struct.pack("<i", number)


def _tuple(numbers: object) -> bytes:
    return b"(" + b"".join(map(_number, numbers)) + b"t"  # type: ignore[call-overload]
