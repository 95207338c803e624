"""What tracing makes of a function, kept beside what the compiler makes of it.

Python takes longer to trace and lower a model than the compile cache takes to load its machine code. A trace
hangs on our source, JAX and the shapes only, so it is kept as jax.export writes it: portable StableHLO.
"""

import hashlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jax
import scipy.linalg  # noqa: F401  jax.export would at the first call, when a reserve is wanted at once
from jax import export

from jazzd.files import replacing
from jazzd.moonbeam import halves


def lowered(
    function: Callable[..., Any], arguments: Sequence[Any], donated: tuple[int, ...], mark: str
) -> jax.stages.Lowered:
    """`function`, lowered for these arguments (arrays or their shapes); those at `donated` are used up.

    It must return plain tuples of arrays. `mark` tells it from others that have its shapes: all that it
    hangs on beside our source.
    """
    if find_spec("flatbuffers") is None:  # the bench alone, without jazzd's own packages
        return jax.jit(function, donate_argnums=donated).lower(*arguments)
    leaves, structure = jax.tree.flatten(arguments)

    def of_leaves(*leaves: Any) -> Any:
        return function(*jax.tree.unflatten(structure, leaves))

    shapes = [jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in leaves]
    found = _kept(of_leaves, shapes, f"{mark} {shapes}")

    def of_arguments(*arguments: Any) -> Any:
        return found.call(*jax.tree.leaves(arguments))

    return jax.jit(of_arguments, donate_argnums=donated).lower(*arguments)


def _kept(function: Callable[..., Any], shapes: Sequence[Any], mark: str) -> export.Exported:
    """The trace from the folder, else a new one, which is then kept if it can be."""
    folder = jax.config.jax_compilation_cache_dir  # type: ignore[attr-defined]
    marks = (mark, _source(), jax.__version__, jax.default_backend())
    path = Path(folder or "") / f"trace-{hashlib.sha256(repr(marks).encode()).hexdigest()[:32]}"
    if folder and (data := _read(path)):
        return export.deserialize(bytearray(data))
    checked = [export.DisabledSafetyCheck.custom_call(halves.TARGET)]
    found = export.export(jax.jit(function), disabled_checks=checked)(*shapes)
    data = bytes(found.serialize())
    if folder:
        with suppress(OSError), replacing(path) as partial:
            partial.write_bytes(hashlib.sha256(data).digest() + data)
    return found


def _read(path: Path) -> bytes:
    """What was kept there; nothing if there is none, or a disk has spoilt it."""
    try:
        data = path.read_bytes()
    except OSError:
        return b""
    return data[32:] if hashlib.sha256(data[32:]).digest() == data[:32] else b""


@cache
def _source() -> str:
    """A hash of the source that traces may come from."""
    files = sorted(Path(__file__).parent.glob("*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
