"""The commands that look after bases."""

import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from jazzd.cli.options import BaseOption, DtypeOption, JsonOption, check_folder, chosen_base, show
from jazzd.errors import ModelError

app = typer.Typer(help="Look at a base, or make one from a checkpoint.", no_args_is_help=True)


@app.command()
def info(base: BaseOption = None, as_json: JsonOption = False) -> None:
    """Show a base's sizes and fingerprint."""
    base = chosen_base(base)

    from jazzd.moonbeam import weights

    facts = weights.describe(base)
    show(facts, as_json)
    if facts["intact"] is False:
        print(
            f"jazzd: the weights of {base} were changed after their fingerprint was taken, so styles may not "
            "fit; convert the checkpoint again",
            file=sys.stderr,
        )


@app.command()
def convert(
    source: Annotated[Path, typer.Argument(metavar="SRC", help="A .pt checkpoint in the published layout.")],
    target: Annotated[Path, typer.Argument(metavar="DST", help="The folder to write.")],
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A JSON file of its sizes, with the reference's keys.")
    ] = None,
) -> None:
    """Make a base folder from a published checkpoint."""
    from jazzd.moonbeam import weights

    check_folder(target)
    if config and not config.is_file():
        raise ModelError(f"{config}: there is no such file; --config names a JSON file of the model's sizes")
    weights.convert(source, target, config)
    print(f"{target} is a base now: jazzd run --base {target}")


@app.command()
def fetch(
    name: Annotated[Literal["moonbeam-839m", "moonbeam-309m"], typer.Argument(help="Which of the two.")],
    target: Annotated[
        Path | None,
        typer.Argument(metavar="DST", help="The folder to write; if not given, one of your data folder's."),
    ] = None,
) -> None:
    """Download a published checkpoint (1.7 or 0.6 GB) and make a base of it."""
    from jazzd.moonbeam import fetch

    target = target or fetch.folder(name)
    check_folder(target)
    fetch.fetch(name, target)
    print(f"{target} is a base now: jazzd run --base {target}")


@app.command()
def calibrate(
    midi: Annotated[Path, typer.Argument(metavar="MIDI_DIR", help="A folder of music it has not heard.")],
    base: BaseOption = None,
    dtype: DtypeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure which frequency tables suit a base's weights, and set it to them."""
    base = chosen_base(base)

    from rich.console import Console
    from rich.progress import Progress

    from jazzd.moonbeam import weights
    from jazzd.teach.calibrate import calibrate as measure

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("listening", total=None)
        figures = measure(
            base,
            midi,
            dtype,
            lambda done, of: bar.update(task, completed=done, total=of),
            lambda refused: console.print(
                f"left out: {refused.reason}", highlight=False, markup=False, soft_wrap=True
            ),
        )
    figures["written"] = base not in weights.NAMED
    if figures["written"]:
        weights.set_numerics(Path(base), figures["best"])
    if as_json:
        show(figures, as_json)
    else:
        _print_modes(figures)


def _print_modes(figures: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("dtype", "numerics", "nats a note")
    for mode in figures["modes"]:
        table.add_row(mode["dtype"], mode["numerics"], f"{mode['nll_per_note']:.4f}")
    Console().print(table)
    base, best = figures["base"], figures["best"]
    if figures["written"]:
        print(f"{base} is set to {best} numerics, by {figures['notes']} notes")
    else:
        print(f"{base} stays as it is, {figures['now']}; --numerics {best} takes what was best here")
