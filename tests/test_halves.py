"""Products with bfloat16 matrices: the numbers are right however the work is cut, and nothing needs them."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import tiny
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

from jazzd.moonbeam import decode, halves, resident, weights
from jazzd.moonbeam.decode import Decoder
from jazzd.moonbeam.model import Kernel
from jazzd.moonbeam.sampling import Controls

compiled = pytest.mark.skipif(not halves.available(), reason="no C++ compiler here")
PROCESSOR = halves._processor().split()
PATHS = {"native": ("-march=native",), "AVX2": ("-march=x86-64-v3",), "plain": ()}
"""Which instructions the kernel is made of, and the compiler's flags for that."""


@pytest.fixture(params=PATHS)
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel compiled for some processors of this kind."""
    if request.param == "AVX2" and not {"avx2", "fma"} <= set(PROCESSOR):
        pytest.skip("this processor has no AVX2")
    target = f"halves_{request.param}"
    halves.register(target, PATHS[request.param], halves._processor())
    monkeypatch.setattr(halves, "TARGET", target)


@pytest.fixture
def without_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """A machine whose PATH is this empty folder, and a kernel that it has never compiled."""
    (tmp_path / "new.cc").write_text(f"// {tmp_path}\n" + halves.SOURCE.read_text())
    monkeypatch.setattr(halves, "SOURCE", tmp_path / "new.cc")
    monkeypatch.setenv("PATH", str(tmp_path))
    halves.available.cache_clear()
    yield tmp_path
    halves.available.cache_clear()


def random(rows: int, inner: int, columns: int, seed: int = 0) -> tuple[jax.Array, jax.Array]:
    dice = np.random.default_rng(seed)
    x = jnp.asarray(dice.standard_normal((rows, inner)), jnp.float32)
    return x, jnp.asarray(dice.standard_normal((inner, columns)), jnp.bfloat16)


@compiled
@pytest.mark.usefixtures("path")
@settings(max_examples=10)
@given(st.integers(1, 64), st.integers(1, 90), st.integers(1, 300), st.integers(0, 9))
def test_products_are_exact_but_for_the_summation(rows: int, inner: int, columns: int, seed: int) -> None:
    x, kernel = random(rows, inner, columns, seed)
    exact = np.asarray(x, np.float64) @ np.asarray(kernel, np.float64)
    size = np.abs(np.asarray(x, np.float64)) @ np.abs(np.asarray(kernel, np.float64))
    found = halves.product(x, kernel)
    assert found.dtype == jnp.float32
    assert (np.abs(found - exact) <= inner * 2.0**-24 * size).all()


@compiled
@pytest.mark.usefixtures("path")
def test_a_row_comes_out_alike_alone_and_among_others() -> None:
    x, kernel = random(17, 123, 333)
    together = halves.product(x, kernel)
    for row in range(17):
        assert (halves.product(x[row], kernel) == together[row]).all()


@compiled
def test_leading_dimensions_stay() -> None:
    x, kernel = random(6, 20, 30)
    flat = halves.product(x, kernel)
    assert (halves.product(x.reshape(2, 3, 20), kernel) == flat.reshape(2, 3, 30)).all()
    assert halves.product(x[0], kernel).shape == (30,)


@compiled
def test_products_at_once_never_wait_for_each_other() -> None:
    """More callers than there are threads, each with independent products: none may starve another."""
    x, kernel = random(1, 200, 2000)
    wanted = 8 * halves.product(x, kernel)

    @jax.jit
    def eight(x: jax.Array, kernels: list[jax.Array]) -> jax.Array:
        return jnp.stack([halves.product(x, kernel) for kernel in kernels]).sum(axis=0)

    callers = 4 * (os.cpu_count() or 1)
    with ThreadPoolExecutor(callers) as pool:
        for found in pool.map(lambda _: eight(x, [kernel] * 8), range(50)):
            np.testing.assert_allclose(found, wanted, rtol=1e-5)


def halved() -> dict[str, np.ndarray]:
    """The tiny base as a published one comes: in bfloat16."""
    return {
        name: tensor.astype(ml_dtypes.bfloat16) for name, tensor in weights.to_tensors(tiny.model()).items()
    }


@compiled
def test_playing_keeps_kernels_as_they_are_stored_and_the_rest_in_float32(tmp_path: Path) -> None:
    weights.save(tmp_path, tiny.CONFIG, halved())
    loaded = resident.load(str(tmp_path), "float32", device="cpu")[0]
    assert loaded.dtype == "float32"
    for path, leaf in nnx.to_flat_state(nnx.state(loaded.model, nnx.Param)):
        assert leaf[...].dtype == (jnp.bfloat16 if isinstance(leaf, Kernel) else jnp.float32), path
    assert isinstance(loaded.model.blocks[0].mlp.down_proj.kernel, Kernel)


@compiled
def test_the_notes_are_those_of_float32() -> None:
    decode.use_compile_cache()
    stored, played = halved(), []
    for playing in (False, True):
        model = weights.from_tensors(tiny.CONFIG, stored, "tiny", playing=playing)
        decoder, rows = Decoder(model, tiny.CONFIG.window), []
        state = decoder.prefill(decoder.begin(0), np.full((20, 6), 3))
        for _ in range(30):
            state, row = decoder.step(state, Controls(temperature=0.0))
            rows.append(row)
        played.append(np.array(rows))
    np.testing.assert_array_equal(*played)


def test_without_a_compiler_weights_are_float32(without_compiler: Path) -> None:
    assert not halves.available()
    model = weights.from_tensors(tiny.CONFIG, halved(), "tiny", playing=True)
    assert {leaf.dtype for leaf in jax.tree.leaves(nnx.state(model, nnx.Param))} == {np.dtype(np.float32)}


def test_a_compiler_that_fails_leaves_nothing_behind(without_compiler: Path) -> None:
    compiler = without_compiler / "c++"
    compiler.write_text('#!/bin/sh\nwhile [ "$1" != -o ]; do shift; done\necho half > "$2"\nexit 1\n')
    compiler.chmod(0o755)
    folder = Path(os.environ["JAX_COMPILATION_CACHE_DIR"])
    before = set(folder.glob("halves-*"))
    assert not halves.available()
    assert set(folder.glob("halves-*")) == before


def test_training_keeps_float32() -> None:
    model = weights.from_tensors(tiny.CONFIG, halved(), "tiny")
    assert model.summary[...].dtype == jnp.float32
