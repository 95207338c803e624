"""The bench of the training trains, all the way, and counts what it has done."""

from pathlib import Path

import jax
import pytest
import tiny

from jazzd.bench import finetune
from jazzd.moonbeam import weights
from jazzd.teach import train


def test_it_goes_all_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jax.devices()  # JAX has begun: the training takes no more devices for itself
    base = tmp_path / "base"
    weights.save(base, tiny.CONFIG, weights.to_tensors(tiny.model()))
    monkeypatch.setattr(finetune, "BARS", 12)
    ends: list[int] = []
    real = train.train

    def watched(trainer: object, course: train.Course, *more: object) -> None:
        ends.append(course.steps)
        real(trainer, course, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(train, "train", watched)
    with jax.numpy_dtype_promotion("standard"):  # optax mixes dtypes
        found = finetune.measure(str(base), epochs=2, pieces=5)
    assert (found["samples"], found["epochs"]) == (60, 2)
    assert ends == [2 * 5]  # three pieces in twelve keys, eight windows a step
    assert found["seconds"] > 0
    assert found["notes_per_s"] == pytest.approx(60 * 2 * tiny.CONFIG.window / found["seconds"], rel=0.1)
    assert found["memory_mb"] > 100
