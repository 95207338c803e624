"""Traces that are kept: found again, made again when spoilt, and the same music either way."""

from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
import pytest
import tiny
from jax import export

from jazzd.moonbeam import traced
from jazzd.moonbeam.decode import Decoder
from jazzd.moonbeam.sampling import Controls


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A compile cache of the test's own."""
    before = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", str(tmp_path))
    yield tmp_path
    jax.config.update("jax_compilation_cache_dir", before)


@pytest.fixture
def traces(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """One for each function that was really traced."""
    made: list[object] = []
    real = export.export

    def counted(*arguments: object, **options: object) -> object:
        made.append(arguments)
        return real(*arguments, **options)

    monkeypatch.setattr(export, "export", counted)
    return made


def double(x: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
    return x * 2, x + y


def ask(mark: str = "one") -> list[list[float]]:
    x = np.arange(3, dtype=np.float32)
    run = traced.lowered(double, (x, x), (), mark).compile()
    return [np.asarray(part).tolist() for part in run(x, x + 1)]


def test_a_trace_is_made_once(folder: Path, traces: list[object]) -> None:
    assert ask() == ask() == [[0, 2, 4], [1, 3, 5]]
    assert len(traces) == 1
    ask("another")
    assert len(traces) == 2


@pytest.mark.parametrize("spoilt", [b"", b"nonsense", b"\0" * 4000])
def test_a_spoilt_trace_is_made_again(folder: Path, traces: list[object], spoilt: bytes) -> None:
    told = ask()
    (kept,) = folder.glob("trace-*")
    kept.write_bytes(spoilt)
    assert ask() == told
    assert len(traces) == 2
    kept.write_bytes(kept.read_bytes()[:-1])
    assert ask() == told
    assert len(traces) == 3


def test_without_a_folder_nothing_is_kept(folder: Path, traces: list[object]) -> None:
    jax.config.update("jax_compilation_cache_dir", None)
    assert ask() == ask()
    assert len(traces) == 2
    assert not list(folder.iterdir())


def test_a_decoder_from_kept_traces_plays_the_same(folder: Path, traces: list[object]) -> None:
    def played() -> list[list[int]]:
        decoder = Decoder(tiny.model(), tiny.CONFIG.window)
        state, rows = decoder.begin(7), []
        for _ in range(12):
            state, row = decoder.step(state, Controls())
            rows.append(row.tolist())
        return rows

    first = played()
    made = len(traces)
    assert made > 1
    assert played() == first
    assert len(traces) == made
