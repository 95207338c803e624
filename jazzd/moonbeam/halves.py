"""Products with bfloat16 matrices as fast as a CPU reads them; XLA's own are many times slower there.

The kernel, `halves.cc`, is compiled by the machine's own compiler when a base first asks for it: for this
very processor, against the headers of the installed jaxlib (which refuses what was compiled against newer
ones), into the folder where XLA keeps what it compiles. Where that cannot be done nothing is lost but speed
and room: weights are then kept in float32.
"""

import ctypes
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from importlib.metadata import version
from pathlib import Path

import jax
import jax.numpy as jnp

from jazzd.arrays import Array, Float

SOURCE = Path(__file__).with_suffix(".cc")
TARGET = "jazzd_halves"
COMPILERS = ("c++", "g++", "clang++")
PATIENCE_S = 60


@cache
def available() -> bool:
    """Whether `product` can be used: JAX computes on the CPU, and the kernel is there or could be compiled.

    Takes seconds when it is compiled.
    """
    if jax.default_backend() != "cpu":
        return False
    # What Linux says that the processor can do. Code for this processor is kept under its name only.
    processor = _processor()
    try:
        register(TARGET, ("-march=native",) if processor else (), processor)
    except (OSError, subprocess.SubprocessError, jax.errors.JaxRuntimeError):
        return False
    return True


def product(x: Float[Array, "*any D"], kernel: Float[Array, "D F"]) -> Float[Array, "*any F"]:
    """`x @ kernel` of a float32 `x` and a bfloat16 `kernel`, in float32."""
    rows = x.reshape(-1, x.shape[-1])
    shape = jax.ShapeDtypeStruct((len(rows), kernel.shape[1]), jnp.float32)
    return jax.ffi.ffi_call(TARGET, shape)(rows, kernel).reshape(*x.shape[:-1], -1)


def register(target: str, flags: tuple[str, ...], processor: str = "") -> None:
    """Make the kernel, compiled with these flags, known to JAX as `target`.

    Raises OSError or SubprocessError where it cannot be compiled or loaded.
    """
    marks = (SOURCE.read_text(), version("jaxlib"), *flags, processor)
    name = f"halves-{hashlib.sha256(repr(marks).encode()).hexdigest()[:16]}.so"
    with tempfile.TemporaryDirectory(prefix="jazzd-") as passing:
        folder = Path(jax.config.jax_compilation_cache_dir or passing)  # type: ignore[attr-defined]
        if not (folder / name).exists():
            _compile(folder / name, flags)
        library = ctypes.CDLL(str(folder / name))
    jax.ffi.register_ffi_target(target, jax.ffi.pycapsule(library.JazzdHalves), platform="cpu")


def _compile(path: Path, flags: tuple[str, ...]) -> None:
    if sys.platform == "darwin":  # without its tools a Mac would ask on the screen whether to install them
        subprocess.run(["xcode-select", "-p"], check=True, capture_output=True)
    compiler = next(filter(None, map(shutil.which, COMPILERS)), None)
    if compiler is None:
        raise FileNotFoundError("no C++ compiler")
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}")
    options = ("-std=c++17", "-O3", "-shared", "-fPIC", "-I", jax.ffi.include_dir(), *flags)
    command = [compiler, *options, str(SOURCE), "-o", str(partial)]
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=PATIENCE_S)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _processor() -> str:
    """What the processor can do, in Linux's words; empty elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((line for line in lines if line.startswith(("flags", "Features"))), "")
