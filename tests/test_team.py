"""Training on several devices and in several processes: the same losses as on one device."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import tiny

from jazzd.moonbeam import weights
from jazzd.teach import corpus

CHANGES = [(0, "Dm7"), (400, "G7"), (800, "Cmaj7")]
OPTIONS = ("--steps", "4", "--batch-size", "4", "--length", "64", "--warmup-steps", "1")


@pytest.fixture(scope="module")
def midi(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset: that each process reads files is not what is asked here, and takes the most time."""
    folder = tmp_path_factory.mktemp("dataset")
    paths = [
        tiny.write_midi(folder / f"tune {n}.mid", tiny.walk(80, first=55 + n % 12), CHANGES)
        for n in range(30)
    ]
    read = [corpus.read(path, path.name) for path in paths]
    pieces = [piece for piece in read if isinstance(piece, corpus.Piece)]
    corpus.save(folder / corpus.STORED, corpus.split(pieces))
    return folder


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    weights.save(folder, tiny.CONFIG, weights.to_tensors(tiny.model()))
    return folder


def start(midi: Path, base: Path, run: Path, devices: int, *options: str) -> subprocess.Popen[str]:
    """A training with this many simulated devices."""
    words = [*OPTIONS, "--full", "--base", str(base), "--name", "x", "--out", str(run), *options]
    script = (
        f"import jax; jax.config.update('jax_num_cpu_devices', {devices}); "
        "import os; os.cpu_count = lambda: "
        f"{devices}; from jazzd.cli import main; main()"
    )
    return subprocess.Popen(
        [sys.executable, "-c", script, "finetune", str(midi), *words],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"JAX_NUMPY_DTYPE_PROMOTION": "standard"},  # optax mixes dtypes
    )


def losses(run: Path) -> list[float]:
    """Those of training and validation, from before the first step to the last."""
    entries = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    return [entry[name] for entry in entries for name in ("train", "chords") if name in entry]


def finished(*processes: subprocess.Popen[str]) -> None:
    for process in processes:
        _, said = process.communicate(timeout=150)
        assert process.returncode == 0, said


@pytest.fixture(scope="module")
def alone(midi: Path, base: Path, tmp_path_factory: pytest.TempPathFactory) -> list[float]:
    run = tmp_path_factory.mktemp("alone") / "run"
    finished(start(midi, base, run, 1))
    found = losses(run)
    assert found[-1] != found[0]  # it has learned something
    return found


def test_four_devices_give_the_losses_of_one(
    midi: Path, base: Path, alone: list[float], tmp_path: Path
) -> None:
    finished(start(midi, base, tmp_path / "run", 4))
    assert losses(tmp_path / "run") == pytest.approx(alone, rel=1e-5)


def test_two_processes_give_the_losses_of_one(
    midi: Path, base: Path, alone: list[float], tmp_path: Path
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        coordinator = f"127.0.0.1:{free.getsockname()[1]}"
    team = ("--coordinator", coordinator, "--processes", "2", "--process")
    finished(*(start(midi, base, tmp_path / "run", 2, *team, str(n)) for n in range(2)))
    assert losses(tmp_path / "run") == pytest.approx(alone, rel=1e-5)
    assert weights.load(tmp_path / "run" / "best").model.config.layers == tiny.CONFIG.layers


def test_a_batch_that_cannot_be_shared_out_is_one_sentence(midi: Path, base: Path, tmp_path: Path) -> None:
    process = start(midi, base, tmp_path / "run", 1, "--processes", "2", "--process", "1")
    _, said = process.communicate(timeout=60)
    assert process.returncode == 2
    assert said.strip() == (
        "jazzd: say --coordinator HOST:PORT --processes N to each of N processes, "
        "and a --process of its own, 0 to N-1"
    )
