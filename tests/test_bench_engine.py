"""The engine's figures: what is reported, and that the floor counts the right weights."""

from pathlib import Path

import ml_dtypes
import pytest
import tiny

from jazzd.bench import engine
from jazzd.moonbeam import halves, weights
from jazzd.moonbeam.decode import BUCKETS


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Just enough notes for the window to run full."""
    monkeypatch.setattr(engine, "NOTES", tiny.CONFIG.window + 5)
    monkeypatch.setattr(engine, "PREFILLS", 3)
    monkeypatch.setattr(engine, "COPY_BYTES", 2**20)


@pytest.mark.usefixtures("short")
def test_every_figure_is_there_and_possible(tmp_path: Path) -> None:
    weights.save(tmp_path, tiny.CONFIG, weights.to_tensors(tiny.model()))
    figures = engine.bench(str(tmp_path), dtype="float32")
    assert {"hardware", "versions", "date"} < set(figures)
    assert figures["base"] == str(tmp_path)
    assert figures["params"] == tiny.base().parameters
    assert (figures["device"], figures["dtype"]) == ("cpu", "float32")
    assert 0 < figures["ms_per_note"]["p50"] <= figures["ms_per_note"]["p99"]
    assert list(figures["prefill_ms"]) == [str(k) for k in BUCKETS]
    assert all(figures[key] > 0 for key in ("memory_mb", "bandwidth_gb_s", "floor_ms", "load_s"))
    assert all(ms > 0 for ms in figures["prefill_ms"].values())
    assert figures["n"] == tiny.CONFIG.window + 5


def test_a_note_reads_the_trunk_and_the_heads_once_and_the_note_decoder_six_times() -> None:
    c, d = tiny.CONFIG, tiny.CONFIG.gru_hidden
    field = c.embedding * c.embedding + 2 * c.embedding
    supplement = c.hidden * c.hidden + c.hidden // 2 + c.hidden
    attention = 2 * c.hidden**2 + 2 * c.hidden * c.kv_heads * c.head
    block = attention + 3 * c.hidden * c.intermediate + 2 * c.hidden
    trunk = 5 * field + supplement + c.layers * block + c.hidden + c.hidden * d
    gru = (2 * c.gru_layers - 1) * (3 * d**2 + 3 * d)  # the first input projection is a table
    heads = d * c.vocabulary.size
    assert engine.note_bytes(tiny.model()) == 4 * (trunk + 6 * gru + heads)


@pytest.mark.skipif(not halves.available(), reason="no C++ compiler here")
def test_kernels_in_bfloat16_are_half_the_bytes() -> None:
    stored = {name: t.astype(ml_dtypes.bfloat16) for name, t in weights.to_tensors(tiny.model()).items()}
    model = weights.from_tensors(tiny.CONFIG, stored, "tiny", playing=True)
    c, d = tiny.CONFIG, tiny.CONFIG.gru_hidden
    attention = 2 * c.hidden**2 + 2 * c.hidden * c.kv_heads * c.head
    block = attention + 3 * c.hidden * c.intermediate
    kernels = c.layers * block + c.hidden * d + 6 * (2 * c.gru_layers - 1) * 3 * d**2
    assert engine.note_bytes(model) == engine.note_bytes(tiny.model()) - 2 * kernels
