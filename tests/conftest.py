"""Strictness and privacy for every test: nothing of the user's own set-up is read, used or left behind."""

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

pytest_plugins = ["jack"]  # the fixtures of jack.py, for every test

# Before anyone imports jax, and for the engines that tests start: figures must not depend on a GPU being
# there, and a mixed dtype is a mistake.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_NUMPY_DTYPE_PROMOTION", "strict")

# What was compiled once need not be compiled again, here or in the engines that tests start.
os.environ["JAX_COMPILATION_CACHE_DIR"] = os.environ.get("JAX_COMPILATION_CACHE_DIR") or str(
    Path(__file__).parent.parent / ".pytest_cache" / "compiled"
)

settings.register_profile("jazzd", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("jazzd")


@pytest.fixture(autouse=True)
def private_user(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A user of its own for each test. Unix sockets must have short names, hence not pytest's tmp_path."""
    for name in [name for name in os.environ if name.startswith("JAZZD_")]:
        monkeypatch.delenv(name)
    with tempfile.TemporaryDirectory(prefix="jazzd-") as folder:
        home = Path(folder)
        parts = {"XDG_CONFIG_HOME": "config", "XDG_RUNTIME_DIR": "run", "XDG_MUSIC_DIR": "music"}
        for variable, part in parts.items():
            (home / part).mkdir(mode=0o700)
            monkeypatch.setenv(variable, str(home / part))
        yield home


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base folder with half a million random weights: music it is not, but everything else is real."""
    from flax import nnx

    from jazzd.moonbeam import weights
    from jazzd.moonbeam.config import Config
    from jazzd.moonbeam.model import Moonbeam

    config = Config(hidden=144, intermediate=144, layers=1, times=1026, gru_hidden=64, gru_layers=1)
    folder = tmp_path_factory.mktemp("base")
    weights.save(folder, config, weights.to_tensors(Moonbeam(config, nnx.Rngs(0))))
    return folder


@pytest.fixture
def jazzd(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., tuple[int, str, str]]:
    """Runs a command in an empty working folder: exit code, stdout, stderr."""
    from jazzd import cli

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "nice", lambda more: 0)  # a command steps aside, the tests after it do not

    def run(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["jazzd", *words])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return run
