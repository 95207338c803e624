"""Tensors in files: what is written is what any reader of the format reads, and the other way round."""

import json
import tempfile
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from jazzd.errors import ModelError
from jazzd.moonbeam import storage

NUMBERS = {
    "one.weight": np.arange(12, dtype=np.float32).reshape(3, 4),
    "another": np.ones(3, ml_dtypes.bfloat16),
    "empty": np.empty((0, 4), np.float16),
}

PINNED = "0d96d4daf673f058"

TENSORS = st.dictionaries(
    st.text(max_size=8).filter(lambda name: name != "__metadata__"),
    st.tuples(
        st.sampled_from([np.float64, np.float32, np.float16, ml_dtypes.bfloat16]),
        arrays.arrays(np.int16, arrays.array_shapes(max_dims=3, max_side=4)),
    ).map(lambda drawn: drawn[1].astype(drawn[0])),
    max_size=5,
)


def equal(ours: np.ndarray, theirs: np.ndarray) -> bool:
    return ours.dtype == theirs.dtype and ours.shape == theirs.shape and bool((ours == theirs).all())


@given(TENSORS, st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3))
def test_what_is_written_is_read_by_us_and_by_others(
    tensors: dict[str, np.ndarray], metadata: dict[str, str]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "some.safetensors"
        storage.write(path, tensors, metadata)
        ours, told = storage.read(path)
        theirs = load_file(path)
        assert told == metadata
        assert ours.keys() == theirs.keys() == tensors.keys()
        assert storage.shapes(ours) == {name: tensor.shape for name, tensor in tensors.items()}
        for name, tensor in tensors.items():
            assert equal(ours[name], tensor)
            assert equal(theirs[name], tensor)
        assert storage.fingerprint(ours) == storage.fingerprint(tensors)
        with safe_open(path, "numpy") as file:
            assert (file.metadata() or {}) == metadata


def test_what_others_wrote_is_read(tmp_path: Path) -> None:
    save_file(NUMBERS, tmp_path / "theirs.safetensors")
    ours, metadata = storage.read(tmp_path / "theirs.safetensors")
    assert metadata == {}
    assert all(equal(ours[name], tensor) for name, tensor in NUMBERS.items())
    with pytest.raises(KeyError):
        ours["stranger"]


def test_a_view_is_written_as_what_it_shows(tmp_path: Path) -> None:
    turned = NUMBERS["one.weight"].T
    storage.write(tmp_path / "turned", {"turned": turned}, {})
    assert equal(storage.read(tmp_path / "turned")[0]["turned"], turned)


def damaged(path: Path, how: str) -> None:
    storage.write(path, NUMBERS, {})
    whole = path.read_bytes()
    match how:
        case "missing":
            path.unlink()
        case "empty":
            path.write_bytes(b"")
        case "cut in the data":
            path.write_bytes(whole[:-1])
        case "cut in the header":
            path.write_bytes(whole[:40])
        case "longer":
            path.write_bytes(whole + b"more")
        case "a header of a terabyte":
            path.write_bytes((2**40).to_bytes(8, "little") + whole[8:])
        case "data beyond the end":
            header = json.dumps(
                {"a": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}
            ).encode()
            path.write_bytes(len(header).to_bytes(8, "little") + header)
        case "whole numbers":
            save_file({"ids": np.arange(3)}, path)


@pytest.mark.parametrize(
    "how",
    [
        "missing",
        "empty",
        "cut in the data",
        "cut in the header",
        "longer",
        "a header of a terabyte",
        "data beyond the end",
        "whole numbers",
    ],
)
def test_what_is_no_file_of_weights_is_one_sentence(how: str, tmp_path: Path) -> None:
    damaged(tmp_path / "some.safetensors", how)
    with pytest.raises(ModelError, match=r"some\.safetensors: ") as error:
        storage.read(tmp_path / "some.safetensors")
    assert "\n" not in str(error.value)


def test_what_are_no_weights_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="ids holds int64"):
        storage.write(tmp_path / "ids", {"ids": np.arange(3)}, {})
    assert not (tmp_path / "ids").exists()


def test_a_fingerprint_is_of_names_types_shapes_and_values() -> None:
    """The value itself is pinned: styles hold it."""
    given = {"b": np.arange(6, dtype=np.float32).reshape(2, 3), "a": np.ones(2, ml_dtypes.bfloat16)}
    assert storage.fingerprint(given) == storage.fingerprint(dict(reversed(given.items()))) == PINNED
    others = [
        {"c": given["b"], "a": given["a"]},
        {"b": given["b"].astype(np.float64), "a": given["a"]},
        {"b": given["b"].reshape(3, 2), "a": given["a"]},
        {"b": np.nextafter(given["b"], np.float32(9)), "a": given["a"]},
        {"b": given["b"]},
    ]
    assert len({PINNED, *map(storage.fingerprint, others)}) == 6
