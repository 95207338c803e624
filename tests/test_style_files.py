"""Style files: what is written is read again, and what strangers send is checked before it is believed."""

import json
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file
from styled import BASE, CONFIG, FINGERPRINT, a_style, adapter, drop, same

from jazzd.errors import StyleError
from jazzd.moonbeam.targets import ATTENTION, DECODER, MLP, Adapter, shapes
from jazzd.styles import style
from jazzd.styles.manifest import Manifest
from jazzd.styles.style import BaseFacts, MisfitError, Style

Header = dict[str, Any]
Q = "base_model.model.model.layers.0.self_attn.q_proj"


def parts(path: Path) -> tuple[Header, bytes]:
    """The header of a safetensors file, and what follows it."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def rewrite(path: Path, change: Callable[[Header], object], data: bytes | None = None) -> None:
    """The same file with another header."""
    header, old = parts(path)
    change(header)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + (old if data is None else data))


@pytest.mark.parametrize("alpha", [8.0, 12.0, 7.3])
@pytest.mark.parametrize("targets", [("q_proj",), (*ATTENTION, *MLP), DECODER])
def test_what_is_written_is_read_again(alpha: float, targets: tuple[str, ...], tmp_path: Path) -> None:
    written = a_style(
        rank=4,
        targets=targets,
        alpha=alpha,
        title="After hours ♭9",
        program=11,
        temperature=0.7,
        top_p=0.9,
        low=50,
        high=80,
        density=-0.5,
        training='{"notes": 7}',
        license="CC BY 4.0",
        author="N. N.",
    )
    style.write(tmp_path / "late.safetensors", written)
    found = style.read(tmp_path / "late.safetensors", BASE)
    assert found.manifest == written.manifest
    assert found.manifest.settings == {
        "temperature": 0.7, "top_p": 0.9, "low": 50, "high": 80, "density": -0.5,
    }  # fmt: skip
    assert same(found.adapter, written.adapter, 0.0 if alpha == 8.0 else 1e-6)


def test_a_file_says_no_more_than_it_must(tmp_path: Path) -> None:
    header, _ = parts(drop(tmp_path / "a.safetensors"))
    assert header["__metadata__"] == {
        "format": "jazzd-style-1",
        "base": FINGERPRINT,
        "rank": "4",
        "alpha": "8.0",
        "targets": "q_proj,v_proj",
    }


def test_numbers_that_fit_bfloat16_are_written_as_such_and_others_are_not(tmp_path: Path) -> None:
    exact = {
        place: (
            down.astype(ml_dtypes.bfloat16).astype(np.float32),
            up.astype(ml_dtypes.bfloat16).astype(np.float32),
        )
        for place, (down, up) in adapter().factors.items()
    }
    narrow = Style(a_style().manifest, Adapter(4, exact))
    style.write(tmp_path / "narrow.safetensors", narrow)
    drop(tmp_path / "wide.safetensors")
    assert parts(tmp_path / "narrow.safetensors")[0][f"{Q}.lora_A.weight"]["dtype"] == "BF16"
    assert parts(tmp_path / "wide.safetensors")[0][f"{Q}.lora_A.weight"]["dtype"] == "F32"
    assert same(style.read(tmp_path / "narrow.safetensors", BASE).adapter, narrow.adapter)


def test_float16_is_read(tmp_path: Path) -> None:
    path = drop(tmp_path / "a.safetensors")
    halves = {name: tensor.astype(np.float16) for name, tensor in load_file(path).items()}
    save_file(halves, path, a_style().manifest.texts())
    assert same(style.read(path, BASE).adapter, adapter(), 1e-2)


def test_a_failed_write_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = drop(tmp_path / "a.safetensors")
    before = path.read_bytes()

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(StyleError, match=r"a\.safetensors: cannot be written \(No space left"):
        style.write(path, a_style(seed=5))
    assert [file.name for file in tmp_path.iterdir()] == ["a.safetensors"]
    assert path.read_bytes() == before


BROKEN: dict[str, tuple[Callable[[Header], object], str]] = {
    "not a style": (lambda h: h.pop("__metadata__"), "not a jazzd style"),
    "from PEFT": (lambda h: h.update(__metadata__={"format": "pt"}), "name the folder of a PEFT adapter"),
    "a later format": (lambda h: h["__metadata__"].update(format="jazzd-style-2"), "format is jazzd-style-2"),
    "no base": (lambda h: h["__metadata__"].pop("base"), "its metadata lack base"),
    "rank of words": (lambda h: h["__metadata__"].update(rank="many"), "rank is many in its metadata"),
    "too hot": (lambda h: h["__metadata__"].update(temperature="2.5"), "2.5 .* less than or equal to 2"),
    "not a number": (lambda h: h["__metadata__"].update(density="nan"), "density is nan"),
    "half a range": (lambda h: h["__metadata__"].update(low="50"), "low and high go together"),
    "narrow": (lambda h: h["__metadata__"].update(low="50", high="60"), "at least 11 semitones"),
    "terminal codes": (lambda h: h["__metadata__"].update(title="\x1b[2J"), r"title is '\\x1b"),
    "no text": (lambda h: h["__metadata__"].update(title=7), "metadata are not texts"),
    "strange target": (lambda h: h["__metadata__"].update(targets="q_proj,embed"), "targets is q_proj,embed"),
    "another rank": (lambda h: h["__metadata__"].update(rank="8"), "do not have the rank 8"),
    "other targets": (lambda h: h["__metadata__"].update(targets="q_proj"), "bend q_proj, v_proj, not"),
    "half a pair": (lambda h: h.update({"x": h.pop(f"{Q}.lora_A.weight")}), "lora_B.weight is missing"),
    "stranger": (lambda h: h.update({n + "\n": h.pop(n) for n in list(h) if Q in n}), "not a factor"),
    "twice": (lambda h: h.update({f"{Q}.lora_A.default.weight": dict(h[f"{Q}.lora_A.weight"])}), "overlap"),
    "float64": (lambda h: h[f"{Q}.lora_A.weight"].update(dtype="F64"), "is F64; save it as float32"),
    "bool sizes": (lambda h: h[f"{Q}.lora_A.weight"].update(shape=[True, 96]), "wrong sizes"),
    "negative": (lambda h: h[f"{Q}.lora_A.weight"].update(shape=[-4, -24]), "wrong sizes"),
    "endless": (lambda h: h[f"{Q}.lora_A.weight"].update(shape=[10**4000, 24]), "wrong sizes"),
    "no offsets": (lambda h: h[f"{Q}.lora_A.weight"].pop("data_offsets"), "wrong sizes"),
    "no entry": (lambda h: h.update({f"{Q}.lora_A.weight": 3}), "wrong sizes"),
    "empty": (lambda h: [h.pop(k) for k in list(h) if k[0] == "b"] and None, "bytes behind its tensors"),
}  # fmt: skip


@pytest.mark.parametrize("damage", BROKEN)
def test_a_wrong_header_is_one_sentence(damage: str, tmp_path: Path) -> None:
    path = drop(tmp_path / "a.safetensors")
    change, said = BROKEN[damage]
    rewrite(path, change)
    with pytest.raises(StyleError, match=said) as error:
        style.read(path, BASE)
    assert not isinstance(error.value, MisfitError)
    assert str(error.value).startswith(f"{path}: ")
    assert str(error.value).isprintable()


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "it ends after 0 bytes"),
        (b"\x10\0\0\0\0\0\0\0{}", "it ends after 10 bytes, within its header"),
        (b"\xff" * 64, "not a safetensors file"),
        (struct.pack("<Q", 2**20 + 1) + b" " * 2**21, "header would have 1048577 bytes"),
        (struct.pack("<Q", 2**20) + b"[" * 2**20, "header is not JSON"),
        (struct.pack("<Q", 4) + b"\xff{}\xff", "header is not JSON"),
        (struct.pack("<Q", 2) + b"[]", "not a JSON object"),
        (b"PK\x03\x04" + b"\0" * 100, "it ends after|not a safetensors file"),
    ],
)
def test_what_is_no_container_is_one_sentence(data: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(data)
    with pytest.raises(StyleError, match=said):
        style.read(path, BASE)


def test_a_truncated_file_says_so(tmp_path: Path) -> None:
    path = drop(tmp_path / "a.safetensors")
    data = path.read_bytes()
    path.write_bytes(data[:-5])
    with pytest.raises(
        StyleError, match=f"it ends after {len(data) - 5} of {len(data)} bytes; copy it again"
    ):
        style.read(path, BASE)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30])
def test_numbers_that_are_none_are_refused(value: float, tmp_path: Path) -> None:
    path = drop(tmp_path / "a.safetensors")
    spoilt = load_file(path)
    spoilt[f"{Q}.lora_B.weight"][3, 2] = value
    save_file(spoilt, path, a_style().manifest.texts())
    with pytest.raises(
        StyleError, match=r"layers\.0\.self_attn\.q_proj\.lora_B\.weight holds numbers that are inf"
    ):
        style.read(path, BASE)


def test_a_rank_beyond_the_limit_is_refused(tmp_path: Path) -> None:
    path = drop(tmp_path / "a.safetensors")
    rng = np.random.default_rng(0)
    wide = {
        name: rng.random([65 if side == 4 else side for side in tensor.shape], np.float32)
        for name, tensor in load_file(path).items()
    }
    save_file(wide, path, a_style().manifest.texts())
    with pytest.raises(StyleError, match="rank 65; styles have 1 to 64"):
        style.read(path, BASE)


def test_a_style_for_another_base_says_for_which(tmp_path: Path) -> None:
    path = drop(tmp_path / "a.safetensors", base="fedcba9876543210")
    with pytest.raises(
        MisfitError, match="made for the base fedcba9876543210, and this is 0123456789abcdef"
    ) as error:
        style.read(path, BASE)
    assert error.value.manifest == a_style(base="fedcba9876543210").manifest


def test_the_right_fingerprint_does_not_excuse_wrong_shapes(tmp_path: Path) -> None:
    from dataclasses import replace

    path = drop(tmp_path / "a.safetensors")
    for config, said in (
        (replace(CONFIG, hidden=48), "where this base takes"),
        (replace(CONFIG, layers=1), "layer 1"),
    ):
        with pytest.raises(MisfitError, match=said):
            style.read(path, BaseFacts(FINGERPRINT, config, dict))


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    path = drop(tmp_path / "a.safetensors")
    with path.open("r+b") as file:
        file.truncate(2**40)  # takes no room on the disk
    with pytest.raises(StyleError, match="bytes behind its tensors"):
        style.read(path, BASE)
    text = json.dumps(
        {"__metadata__": {}, "x": {"dtype": "F32", "shape": [2**35], "data_offsets": [0, 2**37]}}
    )
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text.encode())
        file.truncate(8 + len(text) + 2**37)
    with pytest.raises(StyleError, match="more than the 64 MB"):
        style.read(path, BASE)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    import os

    os.mkfifo(tmp_path / "a.safetensors")
    with pytest.raises(StyleError, match="there is no such file"):
        style.read(tmp_path / "a.safetensors", BASE)


def test_texts_have_the_shapes_of_the_names() -> None:
    named = style.tensors(a_style(targets=("decoder_embedding", "lm_head")))
    ids = shapes(CONFIG)[-1, "lm_head"][1]
    assert {name: tensor.shape for name, tensor in named.items()} == {
        "base_model.model.decoder_embedding.lora_embedding_A": (4, ids),
        "base_model.model.decoder_embedding.lora_embedding_B": (8, 4),
        "base_model.model.lm_head.lora_A.weight": (4, 8),
        "base_model.model.lm_head.lora_B.weight": (ids, 4),
    }


def test_a_manifest_lists_what_a_player_may_be_told() -> None:
    assert set(Manifest.model_fields) >= {
        "title",
        "program",
        "temperature",
        "top_p",
        "low",
        "high",
        "density",
    }


@st.composite
def mutated(draw: st.DrawFn, sound: bytes) -> bytes:
    """A style file with bytes changed, cut out, put in or copied about; often in the header."""
    data = bytearray(sound)
    header = 8 + int.from_bytes(sound[:8], "little")
    for _ in range(draw(st.integers(1, 6))):
        end = len(data) if draw(st.booleans()) else min(header, len(data))
        at = draw(st.integers(0, max(0, end - 1)))
        match draw(st.sampled_from(["flip", "cut", "insert", "digit", "end"])):
            case "flip":
                data[at : at + 1] = bytes([draw(st.integers(0, 255))])
            case "cut":
                del data[at : at + draw(st.integers(1, 40))]
            case "insert":
                data[at:at] = draw(st.binary(min_size=1, max_size=20))
            case "digit":
                digits = [i for i in range(8, end) if chr(data[i]).isdigit()]
                if digits:
                    data[draw(st.sampled_from(digits))] = draw(st.sampled_from(b"0123456789"))
            case "end":
                del data[at:]
    if draw(st.booleans()) and len(data) > 8:  # keep the header's length true, to get further
        data[:8] = struct.pack("<Q", max(0, bytes(data).rfind(b"}}") - 6))
    return bytes(data)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("sound") / "a.safetensors"
    return drop(path, rank=1, targets=("q_proj", "decoder_embedding")).read_bytes()


@st.composite
def reworded(draw: st.DrawFn, sound: bytes) -> bytes:
    """A style file whose header says something else in a few places, but is a header all the same."""
    length = int.from_bytes(sound[:8], "little")
    header = json.loads(sound[8 : 8 + length])
    values = st.none() | st.booleans() | st.integers(-9, 2**80) | st.floats() | st.text(max_size=9)
    sizes = st.lists(st.sampled_from([0, 1, 8, 24, 63, 96, 100, 252]), max_size=3)
    for _ in range(draw(st.integers(1, 3))):
        name = draw(st.sampled_from(sorted(header)))
        if draw(st.integers(0, 5)) == 0 or not isinstance(header[name], dict):
            header[draw(st.sampled_from(sorted(header)) | st.text(max_size=9))] = header.pop(name)
        elif header[name]:
            key = draw(st.sampled_from(sorted(header[name])))
            header[name][key] = draw(values | sizes | values.map(str) | st.sampled_from(["F16", "0.5", "3"]))
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + sound[8 + length :]


@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_mutated_file_is_a_style_or_one_sentence(data: st.DataObject, sound: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(data.draw(mutated(sound) | reworded(sound)))
    tracemalloc.start()
    found: Style | StyleError
    try:
        found = style.read(path, BASE)
    except StyleError as error:
        found = error
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    if isinstance(found, Style):
        for place, (down, up) in found.adapter.factors.items():
            assert (down.shape[0], up.shape[1]) == shapes(CONFIG)[place]
            assert np.isfinite(down).all()
            assert np.isfinite(up).all()
    else:
        assert str(found).isprintable()
    assert peak < 2_000_000
