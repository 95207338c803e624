"""The service that starts jazzd at login."""

import json
from pathlib import Path
from typing import Annotated

import typer

from jazzd.cli.options import JsonOption, show
from jazzd.errors import JazzdError
from jazzd.service import manager
from jazzd.service.definition import Definition

app = typer.Typer(help="Start jazzd at login.", no_args_is_help=True, rich_markup_mode=None)
ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config", metavar="FILE", help="The settings; if not given, ./daemon.toml, else the user's own."
    ),
]


@app.command()
def install(config: ConfigOption = None) -> None:
    """Have jazzd start at every login, and now."""
    service = _service(config)
    manager.install(service)
    print(
        f"{service.path} is written: jazzd starts now, and at every login; {service.log} shows what it says"
    )


@app.command()
def uninstall() -> None:
    """Stop it, and have it start no more."""
    service = manager.definition(manager.RUN)
    if not manager.uninstall(service):
        raise JazzdError(f"there is no {service.path}; nothing to do")
    print(f"{service.path} is gone")


@app.command()
def status(as_json: JsonOption = False) -> None:
    """Say whether it is there and whether it runs."""
    show(manager.status(manager.RUN), as_json)


@app.command("print")
def print_definition(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Show what `install` would write, and write nothing."""
    service = _service(config)
    if as_json:
        print(json.dumps({"file": str(service.path), "text": service.text}))
        return
    print(service.text, end="")


def _service(config: Path | None) -> Definition:
    from jazzd.config import find, load

    load(config)  # with wrong settings it would not start, and nobody would see why
    file = find(config)  # named, so that the service can be seen to play by it
    return manager.definition([*manager.RUN, "--config", str(file)] if file else manager.RUN)
