"""Training a base: it learns, it minimizes the likelihood, a stopped run goes on as if it had not been."""

import errno
import itertools
import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import disk
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from flax import nnx
from reference import golden, model
from rich.console import Console

from jazzd.errors import MidiError, ModelError
from jazzd.moonbeam import decode, weights
from jazzd.moonbeam.model import causal_mask, token_nll
from jazzd.teach import full, loss, train
from jazzd.teach.corpus import VALIDATION_SHARE, Piece
from jazzd.teach.dataset import Batch, Dataset
from jazzd.teach.full import train_base, whole
from jazzd.teach.history import History
from jazzd.teach.loss import field_nll
from jazzd.teach.recipe import Recipe
from jazzd.teach.train import StoppedError
from jazzd.teach.trainer import Trainer

RECIPE = Recipe(
    steps=12,
    batch_size=2,
    length=64,
    learning_rate=3e-3,
    warmup_steps=2,
    tempo=0.0,
    validate_every=4,
    validation_batches=1,
)
CHANGES = [(0, "Dm7"), (400, "G7"), (800, "Cmaj7")]
CONSOLE = Console(quiet=True)


def names(held_out: bool) -> Iterator[str]:
    """Of files that validate, or of others."""
    every = (f"tune {n}.mid" for n in itertools.count())
    notes = np.zeros((1, 6), int)
    return (name for name in every if (Piece(name, notes).lot() <= VALIDATION_SHARE) == held_out)


@pytest.fixture(scope="module")
def midi(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few pieces with chords and without on each side."""
    folder = tmp_path_factory.mktemp("midi")
    for held_out, each in ((False, 3), (True, 1)):
        files = names(held_out)
        for n in range(each):
            tiny.write_midi(folder / next(files), tiny.walk(80, first=60 + n), CHANGES)
            tiny.write_midi(folder / next(files), tiny.walk(70, every=25, first=48 + n), program=33)
    (folder / "bad.mid").write_text("left out")
    return folder


@dataclass
class Run:
    folder: Path
    best: dict[str, Any]
    trainer: Trainer
    """As it was in the end."""

    def history(self) -> list[dict[str, Any]]:
        """Without the times of day."""
        lines = (self.folder / "history.jsonl").read_text().splitlines()
        return [{k: v for k, v in json.loads(line).items() if k != "time"} for line in lines]

    def weights(self) -> dict[str, np.ndarray]:
        return model_weights(self.trainer)


def model_weights(trainer: Trainer) -> dict[str, np.ndarray]:
    graph, _ = whole(tiny.CONFIG, RECIPE)
    return weights.to_tensors(nnx.merge(graph, trainer.weights))


def trained(midi: Path, folder: Path, recipe: Recipe = RECIPE, resume: bool = False) -> Run:
    jax.devices()  # JAX has begun: the training takes no more devices for itself
    decode.use_compile_cache()
    trainers: list[Trainer] = []

    class Watched(Trainer):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            trainers.append(self)

    # optax mixes dtypes.
    with pytest.MonkeyPatch.context() as patch, jax.numpy_dtype_promotion("standard"):
        patch.setattr(full, "Trainer", Watched)
        best = train_base(midi, folder, tiny.CONFIG, recipe, CONSOLE, resume)
    return Run(folder, best, trainers[0])


@pytest.fixture(scope="module")
def uninterrupted(midi: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return trained(midi, tmp_path_factory.mktemp("run"))


def test_the_loss_falls(uninterrupted: Run) -> None:
    history = uninterrupted.history()
    assert [entry["step"] for entry in history] == [4, 8, 12]
    for kind in ("train", "chords", "plain"):
        assert history[-1][kind] < history[0][kind] - 3
    assert history[-1]["train"] < 25  # of 46 for six ids drawn at random


def test_the_best_is_a_base_and_the_folder_tells_how_it_came_about(uninterrupted: Run) -> None:
    folder = uninterrupted.folder
    base = weights.load(folder / "best")
    assert base.model.config == replace(tiny.CONFIG, window=RECIPE.length)
    assert uninterrupted.best["step"] == uninterrupted.history()[-1]["step"]
    for name, tensor in weights.to_tensors(base.model).items():
        np.testing.assert_allclose(tensor, uninterrupted.weights()[name], rtol=2e-3, atol=1e-6)
    assert Recipe(**json.loads((folder / "recipe.json").read_text())) == RECIPE
    assert (folder / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_a_base_is_trained_further(midi: Path, uninterrupted: Run, tmp_path: Path) -> None:
    before = str(uninterrupted.folder / "best")
    recipe = replace(RECIPE, base=before, steps=4, learning_rate=5e-4)
    further = trained(midi, tmp_path / "further", recipe)
    start, after = further.history()
    assert (start["step"], start["base"]) == (0, weights.identify(before)[1])
    last = uninterrupted.history()[-1]
    for kind in ("chords", "plain"):
        assert start[kind] == pytest.approx(last[kind], abs=0.01)  # the base was kept in float16
        assert after[kind] < start[kind]
    changed = {name: 2 * tensor for name, tensor in further.weights().items()}
    weights.save(tmp_path / "other", tiny.CONFIG, changed)
    with pytest.raises(ModelError, match="was begun on the base"):
        trained(midi, tmp_path / "further", replace(recipe, base=str(tmp_path / "other")), resume=True)


def test_what_does_not_fit_the_memory_says_what_to_lower(monkeypatch: pytest.MonkeyPatch) -> None:
    with jax.numpy_dtype_promotion("standard"):
        trainer = Trainer(whole(tiny.CONFIG, RECIPE)[1], 2, 0)

    def full_up(*_: object) -> None:
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 123 bytes.")

    monkeypatch.setattr(trainer, "_update", full_up)
    with pytest.raises(ModelError, match="lower --batch-size"):
        trainer.step(0, Dataset([Piece("a", _line())], tiny.CONFIG.vocabulary, 64, 0.5, True).batch(2, 0, 0))


def test_training_is_behind_everything_else(
    jazzd: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    monkeypatch.setattr(os, "nice", asked.append)
    assert jazzd("finetune", "no such folder", "--name", "x")[0] == 1
    assert asked == [10]


def _line() -> np.ndarray:
    return np.array([[20 * i, 10, 5, i % 12, 0, 80] for i in range(64)])


def test_another_seed_learns_something_else(midi: Path, uninterrupted: Run) -> None:
    with jax.numpy_dtype_promotion("standard"):
        first, other = (
            model_weights(Trainer(whole(tiny.CONFIG, replace(RECIPE, seed=seed))[1], 2, seed))
            for seed in (0, 1)
        )
    np.testing.assert_array_equal(first["model.norm.weight"], other["model.norm.weight"])
    assert (first["lm_head.weight"] != other["lm_head.weight"]).any()


def test_a_run_killed_twice_goes_on_as_if_it_had_not_been(
    midi: Path, tmp_path: Path, uninterrupted: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once in mid-step, once between the figures and the checkpoint that they belong to."""
    draw = Dataset.batch

    def batch(self: Dataset, size: int, seed: int, step: int) -> Batch:
        if (seed, step) == (RECIPE.seed, 6):
            raise KeyboardInterrupt
        return draw(self, size, seed, step)

    def save(*_: object) -> str:
        raise KeyboardInterrupt

    for place, name, killed in ((Dataset, "batch", batch), (weights, "save", save)):
        with monkeypatch.context() as patch:
            patch.setattr(place, name, killed)
            with pytest.raises(KeyboardInterrupt):
                trained(midi, tmp_path / "run", resume=True)
    resumed = trained(midi, tmp_path / "run", resume=True)
    for again, entry in zip(resumed.history(), uninterrupted.history(), strict=True):
        assert again == pytest.approx(entry)
    same(resumed, uninterrupted)


def test_a_run_that_is_asked_to_stop_goes_on_from_that_very_step(
    midi: Path, tmp_path: Path, uninterrupted: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw, before = Dataset.batch, signal.getsignal(signal.SIGINT)

    def batch(self: Dataset, size: int, seed: int, step: int) -> Batch:
        if (seed, step) == (RECIPE.seed, 6):
            signal.raise_signal(signal.SIGINT)
        return draw(self, size, seed, step)

    with monkeypatch.context() as patch:
        patch.setattr(Dataset, "batch", batch)
        with pytest.raises(StoppedError, match="stopped after step 7 of 12; go on with --resume"):
            trained(midi, tmp_path / "run")
    assert signal.getsignal(signal.SIGINT) == before
    resumed = trained(midi, tmp_path / "run", resume=True)
    assert [entry["step"] for entry in resumed.history()] == [4, 8, 12]
    same(resumed, uninterrupted)


def test_a_full_disk_leaves_the_last_checkpoint(
    midi: Path, tmp_path: Path, uninterrupted: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once it is full when the figures are written, once when the checkpoint is."""
    usage = shutil.disk_usage(tmp_path)
    write_text = Path.write_text

    def write(path: Path, text: str) -> int:
        if path.name.startswith(".history.jsonl") and '"step": 8' in text:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write_text(path, text)

    for place, name, full_disk in (
        (Path, "write_text", write),
        (shutil, "disk_usage", lambda path: usage._replace(free=1000)),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(place, name, full_disk)
            with pytest.raises(ModelError, match=r"No space left on device.*--resume"):
                trained(midi, tmp_path / "run", resume=True)
        assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["4"]
    same(trained(midi, tmp_path / "run", resume=True), uninterrupted)


def test_what_does_not_fit_the_disk_is_one_sentence_and_leaves_no_half_files(
    midi: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The recipe, the pieces, the best weights, the checkpoint: it goes on as far as there is room."""
    run, writing = tmp_path / "run", train.writing
    for size, said in ((100, "run: "), (1_000, "run: "), (50_000, "best: "), (2_000_000, "run: ")):

        @contextmanager
        def cramped(run: Path, size: int = size) -> Iterator[None]:
            with writing(run), disk.full(size):
                yield

        monkeypatch.setattr(train, "writing", cramped)
        with pytest.raises(ModelError, match=f"{said}cannot be written .File too large.*--resume") as error:
            trained(midi, run, resume=True)
        assert "\n" not in str(error.value)
        assert not [path for path in run.iterdir() if path.name.startswith(".")]
        assert (run / "best").exists() == (size == 2_000_000)
    assert not list((run / "checkpoints").iterdir())


def same(resumed: Run, uninterrupted: Run) -> None:
    """Whether both came to the same end."""
    assert resumed.best["step"] == uninterrupted.best["step"]
    for name, tensor in resumed.weights().items():
        np.testing.assert_allclose(tensor, uninterrupted.weights()[name], rtol=0, atol=1e-6)


def test_a_finished_run_that_is_resumed_is_left_as_it_is(
    midi: Path, uninterrupted: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def step(*_: object) -> None:
        raise AssertionError("it went on training")

    monkeypatch.setattr(Trainer, "step", step)
    history = uninterrupted.history()
    again = trained(midi, uninterrupted.folder, resume=True)
    assert again.best == uninterrupted.best
    assert again.history() == history


def test_an_earlier_run_is_not_overwritten(midi: Path, uninterrupted: Run) -> None:
    with pytest.raises(MidiError, match="--resume"):
        trained(midi, uninterrupted.folder)


def test_too_few_files_are_one_sentence(tmp_path: Path) -> None:
    for held_out in (False, True):
        folder = tmp_path / f"midi {held_out}"
        tiny.write_midi(folder / next(names(held_out)), tiny.walk(50))
        with pytest.raises(MidiError, match="too few files"):
            trained(folder, tmp_path / f"run {held_out}")
        assert not (tmp_path / f"run {held_out}").exists()


def test_figures_that_are_killed_while_written_leave_those_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(path: Path, text: str) -> None:
        with path.open("w") as file:
            file.write(text[:10])
        raise KeyboardInterrupt

    first = {"step": 1, "train": 9.0, "chords": 8.0}
    assert History.load(tmp_path).add(first)
    monkeypatch.setattr(Path, "write_text", killed)
    with pytest.raises(KeyboardInterrupt):
        History.load(tmp_path).add({"step": 2, "train": 7.0, "chords": 7.0})
    assert History.load(tmp_path).entries == [first]


def test_the_best_is_that_of_the_lowest_validation(tmp_path: Path) -> None:
    history = History.load(tmp_path)
    figures = [(9.0, 9.0), (8.0, 9.0), (7.0, 11.0), (8.4, 8.4)]
    added = [
        history.add({"step": n, "train": 0.0, "chords": c, "plain": p}) for n, (c, p) in enumerate(figures, 1)
    ]
    assert added == [True, True, False, True]
    assert History.load(tmp_path).best["step"] == 4
    history.cut(2)
    assert history.best["step"] == 2


@pytest.mark.parametrize(
    ("figures", "stale"), [([5, 4, 3], False), ([3, 4], False), ([3, 4, 5], True), ([3, 4, 5, 2], False)]
)
@pytest.mark.parametrize("before", [[], [1.0]])
def test_a_run_ends_when_nothing_becomes_better(
    figures: list[float], stale: bool, before: list[float], tmp_path: Path
) -> None:
    """What was before the training is no better one."""
    entries = [{"step": 0, "held_out": nats} for nats in before]
    entries += [{"step": n, "held_out": nats} for n, nats in enumerate(figures, 1)]
    assert History(tmp_path / "history.jsonl", entries).stale(patience=2) == stale


def test_the_loss_is_the_likelihood_over_the_whole_vocabulary(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loss, "LEAK_STRIDE", 1)
    expected, total, notes = _both_losses()
    assert notes == 60
    assert total == pytest.approx(expected, rel=1e-5)


def test_sampling_the_leak_comes_near_it() -> None:
    expected, total, _ = _both_losses()
    assert total == pytest.approx(expected, rel=0.1)
    assert total != pytest.approx(expected, rel=1e-5)


def _both_losses() -> tuple[float, float, float]:
    """Of the same 60 notes: by `token_nll`, by `field_nll`, and how many the latter counted."""
    rows = jnp.asarray(golden("tiny_inputs")["A_input_ids"], jnp.int32)
    labels = jnp.asarray(golden("tiny_inputs")["A_labels"], jnp.int32)
    flat = np.random.default_rng(0).permutation(rows.shape[0] * (rows.shape[1] - 1)) < 60
    counted = jnp.asarray(flat.reshape(rows.shape[0], -1), jnp.float32)

    reference = model()

    @jax.jit
    def losses(rows: jax.Array, labels: jax.Array, counted: jax.Array) -> tuple[jax.Array, ...]:
        summaries, _ = reference(rows[:, :-1], causal_mask(rows[:, :-1]))
        expected = token_nll(reference, rows, labels, causal_mask(rows)) * counted[..., None]
        return expected.sum(), *field_nll(reference, summaries, labels[:, 1:], counted)

    expected, total, notes = map(float, losses(rows, labels, counted))
    return expected, total, notes
