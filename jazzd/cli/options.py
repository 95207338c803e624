"""What several commands take, and how they show what they found."""

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from jazzd.errors import ConfigError

FOLDER = "builtin|FOLDER"
Dtype = Literal["float32", "bfloat16"]
Numerics = Literal["exact", "rounded"]

BaseOption = Annotated[str, typer.Option("--base", metavar=FOLDER, help="The frozen model.")]
DtypeOption = Annotated[Dtype | None, typer.Option("--dtype", help="Else what suits the device.")]
NumericsOption = Annotated[
    Numerics | None, typer.Option("--numerics", help="Frequency tables; else those the base was made with.")
]
StyleOption = Annotated[str, typer.Option("--style", metavar="NAME", help="Else the plain base.")]
StylesOption = Annotated[Path, typer.Option("--styles", metavar="FOLDER", help="Where the styles are.")]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object on stdout, nothing else.")]


def check_style(style: str) -> None:
    if style:
        raise ConfigError(f"there is no style {style!r}: this version plays the plain base only")


def daemon_options(base: str, dtype: str | None, numerics: str | None, styles: Path) -> list[str]:
    """The same choices for a `jazzd run` of our own."""
    given = {"--base": base, "--dtype": dtype, "--numerics": numerics, "--styles": str(styles)}
    return [word for option, value in given.items() if value is not None for word in (option, value)]


def show(figures: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(figures))
        return
    for key, value in _flat(figures):
        print(f"{key}: {value}")


def _flat(figures: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    lines = []
    for key, value in figures.items():
        lines += _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else [(prefix + key, value)]
    return lines
