"""What several commands take, and how they show what they found."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from jazzd.errors import ConfigError

FOLDER = "builtin|FOLDER"
Dtype = Literal["float32", "bfloat16"]
Numerics = Literal["exact", "rounded"]

BaseOption = Annotated[
    str | None, typer.Option("--base", metavar=FOLDER, help="The model; if not given, daemon.toml's.")
]
DtypeOption = Annotated[
    Dtype | None,
    typer.Option("--dtype", help="Number type of the weights; if not given, what suits the device."),
]
DeviceOption = Annotated[
    Literal["auto", "cpu", "cuda"], typer.Option("--device", help="What the model runs on.")
]
NumericsOption = Annotated[
    Numerics | None,
    typer.Option("--numerics", help="Frequency tables; if not given, those the base was made with."),
]
StyleOption = Annotated[
    str,
    typer.Option(
        "--style",
        metavar="NAME[:SHARE,...]",
        help="The style, or the styles to mix; if not given, none.",
    ),
]
StylesOption = Annotated[
    Path | None,
    typer.Option("--styles", metavar="FOLDER", help="The folder of the styles; if not given, daemon.toml's."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object on stdout, nothing else.")]


def chosen_base(base: str | None) -> str:
    """What --base says, else the settings. Raises ConfigError where these are wrong."""
    if base is not None:
        return base
    from jazzd.config import load

    return load().engine.base


def chosen_styles(styles: Path | None) -> Path:
    """What --styles says, else the settings. Raises ConfigError where these are wrong."""
    if styles is not None:
        return styles
    from jazzd.config import load

    return load().styles.folder


def daemon_options(
    base: str | None, dtype: str | None, numerics: str | None, styles: Path | None
) -> list[str]:
    """The same choices for a `jazzd run` of our own. Raises ConfigError where the settings are wrong."""
    base, styles = chosen_base(base), chosen_styles(styles)
    given = {"--base": base, "--dtype": dtype, "--numerics": numerics, "--styles": str(styles)}
    return [word for option, value in given.items() if value is not None for word in (option, value)]


def check_base(base: str) -> None:
    """Raises ModelError where there is no base: at once, not when the engine has come so far."""
    from jazzd.moonbeam.config import Config
    from jazzd.moonbeam.untrained import CONFIGS

    if base != "builtin" and base not in CONFIGS:
        Config.load(Path(base) / "config.json")


def check_folder(path: Path) -> None:
    """Raises ConfigError where a file is in the way of a folder to write."""
    if path.is_file():
        raise ConfigError(f"{path} is a file; name a folder")


def within(low: float, high: float) -> Callable[[float | None], float | None]:
    """For options: refuses what is not low..high, `nan` too, which typer's own ranges let pass."""

    def check(value: float | None) -> float | None:
        if value is not None and not low <= value <= high:
            raise typer.BadParameter(f"{value:g} is not a number from {low:g} to {high:g}.")
        return value

    return check


def show(figures: dict[str, Any], as_json: bool) -> None:
    """The figures as one JSON object, or as lines for people: rounded, and without what is empty."""
    if as_json:
        print(json.dumps(figures))
        return
    for line in lines(figures):
        print(line)


def lines(figures: dict[str, Any]) -> list[str]:
    """The figures for people, one a line."""
    return [f"{words}: {value}" for words, value in _flat(rounded(figures)) if value not in (None, "")]


def rounded(value: Any) -> Any:
    """Floats to three places wherever they are, those that would vanish as they are."""
    if isinstance(value, dict):
        return {key: rounded(each) for key, each in value.items()}
    return round(value, 3) or value if isinstance(value, float) else value


def _flat(figures: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    lines = []
    for key, value in figures.items():
        words = prefix + key.replace("_", " ")
        lines += _flat(value, f"{words} ") if isinstance(value, dict) else [(words, value)]
    return lines
