"""The commands that work on the folder of the styles."""

import json
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jazzd.cli.options import BaseOption, JsonOption, StylesOption, check_base, check_folder
from jazzd.errors import ConfigError, JazzdError, StyleError
from jazzd.mix import shares

if TYPE_CHECKING:
    from jazzd.styles.registry import Record, Registry
    from jazzd.styles.style import BaseFacts

app = typer.Typer()

SECOND_LOOK_S = 0.4


@app.callback(invoke_without_command=True)
def styles(
    context: typer.Context,
    as_json: JsonOption = False,
    styles: StylesOption = None,
    base: BaseOption = None,
) -> None:
    """List the styles, or change what is in their folder."""
    from jazzd.styles.registry import Registry

    if context.invoked_subcommand:
        if as_json or styles or base:
            raise ConfigError(f"write the options behind {context.invoked_subcommand}, not before it")
        return
    if styles is None and (address := _engine_elsewhere()):
        records, nothing = _of_the_engine(), f"the engine at {address} has no styles"
    else:
        folder, facts = _surroundings(styles, base)
        records = _in_the_folder(Registry(folder, facts))
        nothing = f"there are no styles in {folder}; `jazzd styles add PATH` puts one there"
    if as_json:
        print(json.dumps([record.to_json() for record in records]))
    elif records:
        _print_table(records)
    else:
        print(nothing)


@app.command()
def add(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="A jazzd style, or a folder that PEFT wrote.")],
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="What to call it; if not given, as it is called.")
    ] = None,
    styles: StylesOption = None,
    base: BaseOption = None,
) -> None:
    """Check a style against the base, and put it into the folder."""
    from jazzd.styles import folder as folders

    if name is not None and not folders.NAME.fullmatch(name):
        raise ConfigError(f"{name!r} cannot be a style's name: use 1 to 64 of A-Z a-z 0-9 _ -")
    folder, facts = _surroundings(styles, base)
    check_folder(folder)
    added = folders.add(path, folder, name or folders.name_of(path.absolute()), facts)
    print(f"{folders.name_of(added)} is in {added}: a running daemon has it at once")


@app.command()
def remove(
    name: Annotated[str, typer.Argument(metavar="NAME")],
    styles: StylesOption = None,
) -> None:
    """Take a style out of the folder."""
    from jazzd.styles import folder as folders

    folder = _settings(styles, None)[0]
    if not folders.remove(folder, name):
        print(f"{folder / name} holds other files and stays; it is no style any more")


@app.command()
def export(
    name: Annotated[str, typer.Argument(metavar="NAME")],
    target: Annotated[Path, typer.Option("--peft", metavar="DIR", help="The folder to write, for PEFT.")],
    styles: StylesOption = None,
    base: BaseOption = None,
) -> None:
    """Write a style as an adapter that PEFT loads."""
    from jazzd.styles import folder as folders
    from jazzd.styles import peft

    check_folder(target)
    folder, facts = _surroundings(styles, base)
    peft.write(target, folders.read(folders.find(folder, name), facts))
    print(f"{target} is a PEFT adapter now: PeftModel.from_pretrained(model, {str(target)!r})")


@app.command()
def use(
    mix: Annotated[
        str, typer.Argument(metavar="NAME[:SHARE,...]", help='The style, or the styles to mix; "" for none.')
    ],
) -> None:
    """Have the running daemon play in a style."""
    from jazzd.player import control

    control.ask({"do": "use", "mix": shares(mix)})


def _engine_elsewhere() -> str:
    """The address of an engine that has its own folder of styles; empty where jazzd starts its engine."""
    from jazzd.config import load

    return load().engine.address


def _of_the_engine() -> "tuple[Record, ...]":
    """What the engine has told the daemon of its styles. Raises JazzdError while no daemon runs."""
    from jazzd.player import control
    from jazzd.styles.registry import Record

    told = control.ask({"do": "styles"})["styles"]
    return tuple(
        Record(style["name"], Path(), (), style["status"], style["reason"], program=style["program"])
        for style in told
    )


def _in_the_folder(registry: "Registry") -> "tuple[Record, ...]":
    """Raises StyleError for a folder that cannot be read."""
    registry.rescan()
    if registry.unsettled:
        time.sleep(SECOND_LOOK_S)
        registry.rescan()
    if registry.trouble:
        raise StyleError(registry.trouble)
    return registry.records


def _settings(styles: Path | None, base: str | None) -> tuple[Path, str]:
    """The folder and the base that are meant: those of the daemon, where nothing else was said.

    Raises StyleError where that folder is on another machine.
    """
    from jazzd.config import load
    from jazzd.player import control

    settings = load()
    if styles is None and settings.engine.address:
        raise StyleError(
            f"the styles are those of the engine at {settings.engine.address}: do it there, or name "
            "a folder with --styles"
        )
    folder, its_base = settings.styles.folder, settings.engine.base
    with suppress(JazzdError):  # none runs: then what it would be
        told = control.ask({"do": "status"})
        folder, its = Path(told["styles_folder"]), told["engine"]["base"]
        check_base(its)  # it may be on the engine's own machine
        its_base = its
    return styles or folder, base or its_base


def _surroundings(styles: Path | None, base: str | None) -> "tuple[Path, BaseFacts]":
    from jazzd.moonbeam import weights
    from jazzd.styles.style import BaseFacts

    folder, base = _settings(styles, base)
    config, fingerprint = weights.identify(base)
    return folder, BaseFacts(fingerprint, config, partial(weights.tensors, base))


def _print_table(records: "tuple[Record, ...]") -> None:
    from rich.console import Console
    from rich.filesize import decimal
    from rich.table import Table
    from rich.text import Text

    table = Table("name", "status", "rank", "targets", "size", "program", box=None, pad_edge=False)
    for record in records:
        rank, program = ("" if number is None else str(number) for number in (record.rank, record.program))
        # A name may look like rich's markup.
        row = (
            Text(record.name),
            record.status,
            rank,
            ", ".join(record.targets),
            decimal(record.bytes) if record.bytes else "",
            program,
        )
        table.add_row(*row)
    Console().print(table)
    for record in records:
        if record.reason:
            print(f"{record.name}: {record.reason}")
