"""Which numerics a base is set to: those in which it finds the music likelier."""

import json
from pathlib import Path

import jax
import pytest
import tiny

from jazzd.errors import MidiError, ModelError
from jazzd.moonbeam import weights
from jazzd.teach import calibrate, evaluate
from jazzd.teach.calibrate import calibrate as measured


@pytest.fixture
def base(tmp_path: Path) -> Path:
    weights.save(tmp_path / "base", tiny.CONFIG, weights.to_tensors(tiny.model()))
    return tmp_path / "base"


@pytest.fixture
def music(tmp_path: Path) -> Path:
    """Far from the start, where rounding moves an onset most."""
    tiny.write_midi(tmp_path / "music" / "walk.mid", tiny.walk(60, every=37))
    (tmp_path / "music" / "bad.mid").write_text("left out once")
    return tmp_path / "music"


def test_each_mode_is_measured_with_its_own_tables(base: Path, music: Path) -> None:
    steps, left_out = list[tuple[int, int]](), []
    found = measured(
        str(base), music, step=lambda done, of: steps.append((done, of)), left_out=left_out.append
    )
    modes = {(mode["dtype"], mode["numerics"]): mode["nll_per_note"] for mode in found["modes"]}
    assert modes.keys() == {("float32", "exact"), ("float32", "rounded")}
    for (_, numerics), nll in modes.items():
        model = weights.load(base, numerics=numerics).model  # type: ignore[arg-type]
        assert nll == evaluate.evaluate(model, music)["nll_per_note"]
    assert len(set(modes.values())) == 2
    assert found["best"] == min(modes, key=lambda mode: modes[mode])[1]
    assert (found["now"], found["notes"]) == ("exact", 60)
    assert steps == [(1, 2), (2, 2)]
    assert len(left_out) == 1


def likelihoods(monkeypatch: pytest.MonkeyPatch, exact: float, rounded: float) -> None:
    """Stands in for the measuring."""
    nll = {"exact": exact, "rounded": rounded}
    monkeypatch.setattr(
        calibrate,
        "evaluate",
        lambda model, *_, **__: {"nll_per_note": nll[model.config.numerics], "notes": 1},
    )


def test_bfloat16_is_measured_where_asked_for_or_where_the_device_is_made_for_it(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    likelihoods(monkeypatch, 2.0, 1.0)
    found = measured(str(base), Path(), "bfloat16")
    assert [mode["dtype"] for mode in found["modes"]] == ["bfloat16"] * 2
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    found = measured(str(base), Path())
    assert [mode["dtype"] for mode in found["modes"]] == ["float32"] * 2 + ["bfloat16"] * 2


@pytest.mark.parametrize(("exact", "rounded", "best"), [(2.0, 1.0, "rounded"), (1.0, 2.0, "exact")])
def test_the_likelier_numerics_win(
    exact: float, rounded: float, best: str, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    likelihoods(monkeypatch, exact, rounded)
    assert measured(str(base), Path())["best"] == best


@pytest.mark.parametrize("now", ["exact", "rounded"])
def test_between_equals_a_base_keeps_its_own(now: str, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    likelihoods(monkeypatch, 1.0, 1.0)
    config = json.loads((base / weights.CONFIG).read_text())
    (base / weights.CONFIG).write_text(json.dumps(config | {"numerics": now}))
    assert measured(str(base), Path())["best"] == now


def test_what_cannot_be_measured_is_one_sentence(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "silence").mkdir()
    with pytest.raises(MidiError):
        measured(str(base), tmp_path / "silence")
    likelihoods(monkeypatch, 1.0, float("nan"))
    with pytest.raises(ModelError, match="impossible"):
        measured(str(base), Path())
