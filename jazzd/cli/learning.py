"""The commands that train models."""

import json
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from jazzd.cli.options import (
    FOLDER,
    DtypeOption,
    JsonOption,
    NumericsOption,
    check_folder,
    within,
)
from jazzd.errors import ConfigError, StyleError
from jazzd.teach.recipe import Recipe, StyleRecipe, chosen, resumed

if TYPE_CHECKING:
    from rich.console import Console

    from jazzd.teach.trainer import Team

app = typer.Typer()
BASE, STYLE = Recipe(), StyleRecipe()
NICENESS = 10
"""Training is behind everything else on the machine: a daemon may be playing."""
Voice = Literal["line", "right-hand", "all"]


def _default(value: object, words: str = "") -> str:
    """Help for an option that is None unless it is given."""
    return f"{words} [default: {value}]".strip()


@app.command()
def prepare(
    midi: Annotated[Path, typer.Argument(metavar="MIDI_DIR", help="A folder of MIDI files, however messy.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DATASET", help="The folder to write.")],
    voice: Annotated[
        Voice | None,
        typer.Option(help="Which notes are the solo; if not given, told by each file: see docs/teaching.md."),
    ] = None,
    split: Annotated[
        str, typer.Option(metavar="N,N,N", help="Percent of the tunes to learn from, stop by and judge by.")
    ] = "80,10,10",
    seed: Annotated[int, typer.Option(min=0, help="Another one splits them another way.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Make a dataset of a folder of MIDI files, and see what is in it."""
    from rich.console import Console

    from jazzd.teach import prepare as work
    from jazzd.teach import report
    from jazzd.teach.train import progress

    shares = _split(split)
    check_folder(output)
    console = Console(stderr=True)
    with progress(console) as bar:
        task = bar.add_task("reading MIDI", total=None, note="")
        found = work.prepare(
            midi, lambda done, of: bar.update(task, completed=done, total=of), voice, shares, seed
        )
    figures = work.write(output, found)
    if as_json:
        print(json.dumps(figures))
        return
    Console().print(report.shown(figures))
    for refused in found.refused:
        print(f"left out: {refused.reason}")
    if not figures["sides"]["validation"]["pieces"]:
        print("this is one tune alone: a style can be learned from it, but not judged; add more tunes")
    print(f"{output} is a dataset now: jazzd finetune {output} --name NAME")


def _split(text: str) -> tuple[float, float, float]:
    """Shares of one. Raises ConfigError."""
    try:
        train, validation, test = (float(part) / 100 for part in text.split(","))
    except ValueError:
        train = validation = test = math.nan
    if not (train > 0 and validation > 0 and test >= 0 and math.isclose(train + validation + test, 1)):
        raise ConfigError(
            f"--split {text!r}: write three percentages that make 100, as in 80,10,10; only the last may be 0"
        )
    return train, validation, test


@app.command()
def finetune(
    context: typer.Context,
    midi: Annotated[
        Path,
        typer.Argument(
            metavar="DATASET|MIDI_DIR", help="What `jazzd prepare` wrote, or a folder of MIDI files."
        ),
    ],
    name: Annotated[str, typer.Option(help="What to call the style, or the base.")],
    full: Annotated[bool, typer.Option("--full", help="Train every weight: makes a base.")] = False,
    out: Annotated[
        Path | None, typer.Option(metavar="RUN", help="The run's folder; if not given, runs/NAME.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on where the run was stopped, with its options.")
    ] = False,
    base: Annotated[
        str | None,
        typer.Option(
            metavar=FOLDER,
            help="The base to bend; if not given, daemon.toml's. With --full, the one to train further.",
        ),
    ] = None,
    styles: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Where the style goes; if not given, daemon.toml's.")
    ] = None,
    dtype: DtypeOption = None,
    numerics: NumericsOption = None,
    rank: Annotated[int | None, typer.Option(min=1, max=64, help=_default(STYLE.rank))] = None,
    alpha: Annotated[
        float | None,
        typer.Option(
            callback=within(1e-3, 1e4), help=_default(STYLE.alpha, "alpha/rank scales what is learned.")
        ),
    ] = None,
    dropout: Annotated[
        float | None, typer.Option(callback=within(0, 0.9), help=_default(STYLE.dropout))
    ] = None,
    targets: Annotated[
        str | None, typer.Option(metavar="NAME,...", help=_default(",".join(STYLE.targets), "What it bends."))
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(
            min=1, help=_default(STYLE.epochs, "Of twelve windows for each piece; at most so many.")
        ),
    ] = None,
    grad_accumulation: Annotated[
        int | None, typer.Option(min=1, help=_default(STYLE.grad_accumulation, "Batches for an update."))
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help=_default(BASE.steps, "With --full, instead of epochs."))
    ] = None,
    chord_share: Annotated[
        float | None,
        typer.Option(
            callback=within(0, 1),
            help=_default(BASE.chord_share, "With --full, share of windows from pieces with chords."),
        ),
    ] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help=_default(STYLE.batch_size))] = None,
    length: Annotated[
        int | None,
        typer.Option(min=64, help=_default(STYLE.length, "Rows of a window.")),
    ] = None,
    learning_rate: Annotated[
        float | None,
        typer.Option(
            callback=within(0, 1),
            help=_default(
                f"2e-4 for the 839M base, more for smaller (builtin: 1e-3); {BASE.learning_rate} with --full"
            ),
        ),
    ] = None,
    warmup_steps: Annotated[
        int | None,
        typer.Option(min=0, help=_default(f"{STYLE.warmup_steps} updates; {BASE.warmup_steps} with --full")),
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help=_default(STYLE.seed))] = None,
    title: Annotated[str | None, typer.Option(help="For the style's file, as all that follow.")] = None,
    license: Annotated[str | None, typer.Option()] = None,
    author: Annotated[str | None, typer.Option()] = None,
    program: Annotated[
        int | None, typer.Option(min=0, max=127, help="The program change that selects it.")
    ] = None,
    temperature: Annotated[
        float | None, typer.Option(callback=within(0, 2), help="How it likes to be played.")
    ] = None,
    low: Annotated[int | None, typer.Option(min=0, max=127, help="The lowest pitch of its solos.")] = None,
    high: Annotated[int | None, typer.Option(min=0, max=127, help="The highest.")] = None,
    coordinator: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="Train with other processes; where the first one listens."),
    ] = None,
    processes: Annotated[int, typer.Option(min=1, help="How many there are, with --coordinator.")] = 1,
    process: Annotated[int, typer.Option(min=0, help="Which one this is, counted from 0.")] = 0,
) -> None:
    """Learn a style from a dataset or a folder of MIDI files.

    With --full a whole base, which is the folder RUN/best.
    """
    from rich.console import Console

    # What was chosen of all the options from --base on is for the recipe.
    others = ("midi", "name", "full", "out", "resume", "styles", "coordinator", "processes", "process")
    given = {key: value for key, value in context.params.items() if key not in others and value is not None}
    if targets is not None:
        given["targets"] = tuple(target.strip() for target in targets.split(","))
    team = _team(coordinator, processes, process)
    if hasattr(os, "nice"):  # not on Windows
        os.nice(NICENESS)
    # Of a team one speaks.
    run, console = out or Path("runs") / name, Console(stderr=True, quiet=process > 0)
    check_folder(run)
    if full:
        if styles:
            raise ConfigError("--styles means nothing with --full: a base goes into --out; leave it out")
        _make_base(midi, run, given, console, resume, team)
    else:
        _make_style(midi, run, name, styles, given, console, resume, team)


def _team(coordinator: str | None, processes: int, process: int) -> "Team | None":
    """Raises ConfigError where the three do not fit together."""
    if process >= processes or (processes > 1 and not coordinator):
        raise ConfigError(
            "say --coordinator HOST:PORT --processes N to each of N processes, "
            "and a --process of its own, 0 to N-1"
        )
    if not coordinator:
        return None
    from jazzd.teach.trainer import Team

    return Team(coordinator, processes, process)


def _make_base(
    midi: Path, run: Path, given: dict[str, Any], console: "Console", resume: bool, team: "Team | None"
) -> None:
    recipe = resumed(run, Recipe, given) if resume else chosen(Recipe, given)

    from jazzd.moonbeam import weights
    from jazzd.moonbeam.config import Config
    from jazzd.teach.full import train_base

    config = weights.identify(recipe.base)[0] if recipe.base else Config.builtin()
    train_base(midi, run, config, recipe, console, resume, team)
    if console.quiet:
        return
    print(f"{run / 'best'} is a base now: jazzd run --base {run / 'best'}")


def _make_style(
    midi: Path,
    run: Path,
    name: str,
    folder: Path | None,
    given: dict[str, Any],
    console: "Console",
    resume: bool,
    team: "Team | None",
) -> None:
    from jazzd.config import load
    from jazzd.styles import folder as folders

    if not folders.NAME.fullmatch(name):
        raise ConfigError(f"{name!r} cannot be a style's name: use 1 to 64 of A-Z a-z 0-9 _ -")
    settings = load()
    folder = folder or settings.styles.folder
    check_folder(folder)
    if any(folders.name_of(path) == name and path.is_dir() for path in folders.paths(folder)):
        raise StyleError(f"{folder}/{name} is a style already; remove it first, or choose another --name")
    usual = {"base": settings.engine.base}
    recipe = resumed(run, StyleRecipe, given, usual) if resume else chosen(StyleRecipe, usual | given)

    from jazzd.teach.tune import train_style

    result = train_style(midi, run, folder / f"{name}{folders.SUFFIX}", recipe, console, resume, team)
    if console.quiet:
        return
    what = "held-out pieces" if result.held_out else "the end of the one tune"
    print(f"{what}, nats per note: {result.base:.3f} for the base, {result.style:.3f} with {name}")
    if result.style >= result.base:
        print(f"{name} foretells them no better than the base does: it needs more music to learn from")
    print(f"{name} is in {result.path}: a running daemon has it at once")
    if result.replaced:
        print(f"the style of that name that was there before is {result.replaced} now")
