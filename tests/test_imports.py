"""Who may import whom, and who must never load jax."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

MAY_IMPORT = {
    "errors": (),
    "arrays": (),
    "files": (),
    "music": ("errors",),
    "mix": ("errors",),
    "settings": ("errors", "mix", "music"),
    "config": ("errors", "files", "settings"),
    "log": ("errors", "music"),
    "service": ("errors", "files"),
    "engine.protocol": ("errors", "music"),
    "moonbeam": ("errors", "arrays", "files", "music"),
    "styles": ("errors", "arrays", "files", "moonbeam.targets", "moonbeam.config", "moonbeam.storage"),
    "styles.wardrobe": ("errors", "moonbeam", "styles"),
    "takes": ("errors", "files", "engine.protocol"),
    "player": (
        "errors",
        "mix",
        "music",
        "config",
        "settings",
        "log",
        "engine.protocol",
        "takes",
        "service.notify",
    ),
    "render": ("errors", "music"),
    "engine": ("errors", "arrays", "music", "log", "moonbeam", "styles"),
    "teach": ("errors", "arrays", "files", "music", "moonbeam", "styles"),
    "teach.tune": ("engine.protocol", "errors", "music", "moonbeam", "styles", "teach"),
    "teach.audition": ("errors", "music", "moonbeam", "engine.protocol", "render", "solo", "teach"),
    "solo": ("errors", "music", "moonbeam", "styles", "engine"),
    "replay": ("errors", "music", "moonbeam", "styles", "engine", "takes"),
    "rehearsal": ("errors", "player"),
    "doctor": ("errors", "config", "mix", "settings", "engine.protocol", "player", "service"),
    "demo": ("errors", "music", "settings", "player", "render", "rehearsal"),
    "bench": ("errors", "music", "moonbeam", "engine", "player", "rehearsal"),
    "bench.switch": ("errors", "arrays", "moonbeam", "styles", "teach", "bench"),
    "bench.changes": ("errors", "moonbeam", "teach", "bench"),
    "bench.finetune": ("moonbeam", "teach", "bench"),
    "bench.lines": ("moonbeam", "engine", "music", "teach", "solo", "bench"),
    "bench.styles": ("errors", "moonbeam", "styles", "bench", "rehearsal"),
    "cli": ("",),
    "__init__": ("music", "solo"),
    "__main__": ("cli",),
}
"""A part, and what else of jazzd it may know: whole parts or single modules, "" for everything."""

ONLY_IN = {
    "jax": ("moonbeam", "engine", "teach", "solo", "bench"),
    "flax": ("moonbeam", "engine", "teach", "solo", "bench"),
    "rtmidi": ("player",),
    "watchdog": ("styles",),
    "huggingface_hub": ("moonbeam",),
}
"""Packages that stay in their corner."""

WITHOUT_JAX = [
    "cli",
    "config",
    "demo",
    "doctor",
    "engine.leash",
    "engine.protocol",
    "player.daemon",
    "rehearsal",
    "render",
    "styles.registry",
    "styles.watch",
    "bench.latency",
    "bench.jitter",
    "bench.daw",
]


def sources() -> list[str]:
    paths = (path.relative_to(ROOT / "jazzd").with_suffix("") for path in (ROOT / "jazzd").rglob("*.py"))
    return sorted(".".join(path.parts).removesuffix(".__init__") for path in paths)


def source(module: str) -> Path:
    path = ROOT.joinpath("jazzd", *module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def is_in(module: str, part: str) -> bool:
    return part in ("", module) or module.startswith(part + ".")


def imports(module: str) -> Iterator[str]:
    """Every module that this one imports, at its top or inside a function."""
    for node in ast.walk(ast.parse(source(module).read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: a relative import"
            for alias in node.names:
                longer = f"{node.module}.{alias.name}"
                yield longer if source(longer.removeprefix("jazzd.")).exists() else node.module or ""


@pytest.mark.parametrize("module", sources())
def test_parts_know_only_what_the_table_allows(module: str) -> None:
    own = max((part for part in MAY_IMPORT if is_in(module, part)), key=len)
    ours = {name.removeprefix("jazzd.") for name in imports(module) if is_in(name, "jazzd")}
    foreign = {name for name in ours if not any(is_in(name, part) for part in (own, *MAY_IMPORT[own]))}
    assert not foreign, f"jazzd.{module} may not import {sorted(foreign)}"


@pytest.mark.parametrize("module", sources())
def test_packages_stay_in_their_corner(module: str) -> None:
    used = {name.split(".")[0] for name in imports(module)}
    lost = [name for name, corner in ONLY_IN.items() if name in used and module.split(".")[0] not in corner]
    assert not lost, f"jazzd.{module} may not import {lost}"


@pytest.mark.parametrize("module", WITHOUT_JAX)
def test_the_player_and_the_commands_load_no_jax(module: str) -> None:
    script = f"import sys, jazzd.{module}; sys.exit('jax' in sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True)


def test_the_public_names_come_without_the_model() -> None:
    script = "import sys; from jazzd import Note5D; sys.exit('jax' in sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True)


def test_the_bench_of_the_engine_needs_four_packages_only() -> None:
    """jax, flax, numpy and safetensors, with what these bring; everything else of ours is out of reach."""
    absent = (
        "huggingface_hub jaxtyping beartype matplotlib mido rtmidi pretty_midi pydantic pydantic_settings "
        "platformdirs typer tomlkit watchdog structlog uvloop"
    )
    script = f"import sys; sys.modules.update(dict.fromkeys({absent.split()!r})); import jazzd.bench.engine"
    subprocess.run([sys.executable, "-c", script], check=True)
