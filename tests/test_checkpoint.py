"""Files that torch.save wrote, and files that only look like it."""

import os
import pickle
import tempfile
import zipfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import published
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import GOLDEN

from jazzd.errors import ModelError
from jazzd.moonbeam import checkpoint

PUBLISHED = GOLDEN / "tiny_moonbeam.pt"


def rebuilt(path: Path, change: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    """The reference's checkpoint with some members replaced."""
    with zipfile.ZipFile(PUBLISHED) as source, zipfile.ZipFile(path, "w", compression) as target:
        folder = source.namelist()[0].split("/")[0]
        for name in source.namelist():
            target.writestr(name, change.get(name.removeprefix(f"{folder}/"), source.read(name)))
    return path


def test_every_tensor_of_the_reference_is_read() -> None:
    tensors = checkpoint.read(PUBLISHED)
    assert sum(tensor.size for tensor in tensors.values()) == 2_360_880
    assert tensors["model.layers.0.self_attn.k_proj.weight"].shape == (72, 144)
    assert all(tensor.dtype == np.float32 and np.isfinite(tensor).all() for tensor in tensors.values())


class Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> object:
        return os.mkdir, (str(self.path),)


def test_a_pickle_bomb_is_named_and_does_not_go_off(tmp_path: Path) -> None:
    crater = tmp_path / "crater"
    bomb = rebuilt(
        tmp_path / "bomb.pt", {"data.pkl": pickle.dumps({"model_state_dict": {"a": Bomb(crater)}})}
    )
    with pytest.raises(ModelError, match=r"mkdir.*nothing was run"):
        checkpoint.read(bomb)
    assert not crater.exists()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"not a zip", PUBLISHED.read_bytes()[:5000]])
def test_what_is_no_checkpoint_is_one_sentence(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "some.pt"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"some\.pt"):
        checkpoint.read(path)


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such file"):
        checkpoint.read(tmp_path / "none.pt")
    with pytest.raises(ModelError, match="folder"):
        checkpoint.read(tmp_path)


@pytest.mark.parametrize(
    "payload", [{"weights": {}}, {"model_state_dict": [1]}, {"model_state_dict": {"a": "b"}}, 7]
)
def test_a_pickle_without_tensors(payload: object, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="model_state_dict"):
        checkpoint.read(rebuilt(tmp_path / "other.pt", {"data.pkl": pickle.dumps(payload)}))


def test_data_of_the_wrong_size_is_refused_before_it_is_read(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="wrong size"):
        checkpoint.read(rebuilt(tmp_path / "short.pt", {"data/0": b"1234"}))


def test_a_zip_bomb_is_refused_before_it_unfolds(tmp_path: Path) -> None:
    """Sixty-four megabytes of noughts in as many kilobytes, as data and as a description."""
    noughts = {"model.norm.weight": np.zeros(2**24, np.float32)}
    bomb = published.write(tmp_path / "data.pt", noughts, zipfile.ZIP_DEFLATED)
    assert bomb.stat().st_size < 2**17
    with pytest.raises(ModelError, match="wrong size"):
        checkpoint.read(bomb)
    described = {"data.pkl": b"]" * 2**24}
    with pytest.raises(ModelError, match="not one that torch"):
        checkpoint.read(rebuilt(tmp_path / "pickle.pt", described, zipfile.ZIP_DEFLATED))
    described = {"data.pkl": b"]" * (checkpoint.LARGEST_PICKLE + 1)}
    with pytest.raises(ModelError, match="length"):
        checkpoint.read(rebuilt(tmp_path / "long.pt", described))


def test_a_flipped_bit_in_the_data_is_noticed(tmp_path: Path) -> None:
    path = published.write(tmp_path / "some.pt", {"model.norm.weight": np.full(1000, 7, np.float32)})
    content = path.read_bytes()
    path.write_bytes(content.replace(np.float32(7).tobytes(), np.float32(6).tobytes(), 1))
    with pytest.raises(ModelError, match=r"some\.pt is damaged .*CRC"):
        checkpoint.read(path)


@pytest.mark.parametrize("place", ["kind", "key", "value"])
def test_what_is_small_but_endless_is_one_short_sentence(place: str, tmp_path: Path) -> None:
    """A tuple of two tuples of two tuples: sixty times over, and it does not fit into a sentence."""
    endless = b")q\x00" + b"".join(b"0h%ch%c\x86q%c" % (i, i, i + 1) for i in range(60))
    storage = b"ctorch\nFloatStorage\n"
    start = b"\x80\x02}" + text("model_state_dict") + b"}" + text("a")
    match place:
        case "kind":
            item = b"(" + endless + storage + text("0") + text("cpu") + b"K\x01tQ"
        case "key":
            item = b"(" + text("storage") + storage + endless + text("cpu") + b"K\x01tQ"
        case "value":
            item = endless
    bomb = rebuilt(tmp_path / "endless.pt", {"data.pkl": start + item + b"ss."})
    with pytest.raises(ModelError, match=r"endless\.pt") as error:
        checkpoint.read(bomb)
    assert len(str(error.value)) < 300


def test_attributes_are_not_set(tmp_path: Path) -> None:
    """torch sets one on its dictionary. Here none is set on anything, least of all on our own functions."""
    reach = b"ctorch._utils\n_rebuild_tensor_v2\nN}" + text("__doc__") + text("gone") + b"s\x86b"
    pickled = b"\x80\x02}" + text("model_state_dict") + b"}" + text("a") + reach + b"ss."
    with pytest.raises(ModelError, match="model_state_dict"):
        checkpoint.read(rebuilt(tmp_path / "reach.pt", {"data.pkl": pickled}))
    assert checkpoint._rebuild_tensor.__doc__ != "gone"


def text(content: str) -> bytes:
    return b"X" + len(content).to_bytes(4, "little") + content.encode()


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(0), st.integers(0, 255)), min_size=1, max_size=4))
def test_a_mutated_pickle_reads_or_is_refused(flips: list[tuple[int, int]]) -> None:
    """Whatever a flipped byte does, it ends as tensors or as a ModelError."""
    with zipfile.ZipFile(PUBLISHED) as archive:
        pickled = bytearray(archive.read(f"{archive.namelist()[0].split('/')[0]}/data.pkl"))
    for place, byte in flips:
        pickled[place % len(pickled)] = byte
    with tempfile.TemporaryDirectory() as folder, suppress(ModelError):
        checkpoint.read(rebuilt(Path(folder) / "mutated.pt", {"data.pkl": bytes(pickled)}))
