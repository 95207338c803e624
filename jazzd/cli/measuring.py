"""The commands that judge: a style, and the whole set-up."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from jazzd.cli.options import (
    BaseOption,
    Dtype,
    DtypeOption,
    JsonOption,
    Numerics,
    NumericsOption,
    StyleOption,
    StylesOption,
    chosen_base,
    chosen_styles,
    show,
)
from jazzd.errors import ConfigError, JazzdError
from jazzd.mix import shares

if TYPE_CHECKING:
    from rich.console import Console

    from jazzd.moonbeam.lora import Mix
    from jazzd.moonbeam.model import Moonbeam
    from jazzd.styles.wardrobe import Wardrobe
    from jazzd.teach.corpus import Refused
    from jazzd.teach.review import Scope

app = typer.Typer()


@app.command()
def evaluate(
    midi: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="MIDI_DIR|DATASET",
            help="Music it has not heard; of a dataset, what it is to be judged by.",
        ),
    ] = None,
    style: StyleOption = "",
    solos: Annotated[
        int,
        typer.Option(min=0, max=999, metavar="N", help="Solos to play over its chords; 0: none."),
    ] = 8,
    reference: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Music to compare the solos with; if not given, MIDI_DIR."),
    ] = None,
    training: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Music that was learned from, to see whether the solos copy it."),
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE.png", help="Draw the distributions side by side.")
    ] = None,
    matrix: Annotated[
        bool,
        typer.Option(
            "--matrix",
            help="Every style on every style's music: write NAME=MIDI_DIR NAME=MIDI_DIR instead of MIDI_DIR.",
        ),
    ] = False,
    rows: Annotated[
        Path | None, typer.Option(metavar="FILE.npz", help="Score the rows of this file instead.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="OUT.npz", help="The file for the rows' scores.")
    ] = None,
    no_chords: Annotated[bool, typer.Option("--no-chords", help="Hide the chords of solos.")] = False,
    styles: StylesOption = None,
    base: BaseOption = None,
    dtype: DtypeOption = None,
    numerics: NumericsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure how well the model foretells music, and plays.

    In nats a note, and in how its own solos over the folder's chords compare with the folder's music: chord
    and scale tones, density, distributions, copies. With --style beside the plain base.
    """
    folders = midi or []
    played = (reference, training, plot)
    if (not folders) == (rows is None) or (rows is None) != (output is None):
        raise ConfigError("say either a folder of MIDI files, or --rows FILE.npz and -o OUT.npz")
    if (rows or matrix) and any(played):
        raise ConfigError("--reference, --training and --plot go with a MIDI_DIR alone; leave them out")
    if matrix and (rows or style):
        raise ConfigError("--matrix takes its styles from NAME=MIDI_DIR; leave --style and --rows out")
    if len(folders) > 1 and not matrix:
        raise ConfigError("name one MIDI_DIR, or say --matrix NAME=MIDI_DIR NAME=MIDI_DIR")
    pairs = _pairs(folders) if matrix else {}
    if plot and not plot.absolute().parent.is_dir():
        raise JazzdError(f"{plot}: there is no folder {plot.parent}; make it first")

    from jazzd.teach.evaluate import score_rows
    from jazzd.teach.review import Scope

    stage = _Stage.open(base, dtype, numerics, styles)
    if rows and output:
        show(score_rows(stage.model, rows, output, stage.mix(style)), as_json)
    elif matrix:
        _matrix(stage, pairs, not no_chords, as_json)
    else:
        scope = Scope(Path(folders[0]), reference, training, solos, not no_chords)
        _review(stage, style, scope, plot, as_json)


def _pairs(words: list[str]) -> dict[str, Path]:
    """The folders by style of "NAME=MIDI_DIR" and so on. Raises ConfigError."""
    pairs = {}
    for word in words:
        name, equals, folder = word.partition("=")
        if not (name and equals and folder) or name in pairs:
            raise ConfigError(f"{word!r}: with --matrix write NAME=MIDI_DIR, each NAME once")
        pairs[name] = Path(folder)
    return pairs


@dataclass(frozen=True)
class _Stage:
    """A base, its styles, and a console to tell of progress."""

    model: "Moonbeam"
    wardrobe: "Wardrobe"
    console: "Console"

    @classmethod
    def open(
        cls, base: str | None, dtype: Dtype | None, numerics: Numerics | None, styles: Path | None
    ) -> "_Stage":
        base, styles = chosen_base(base), chosen_styles(styles)

        from rich.console import Console

        from jazzd.moonbeam import decode, resident, weights
        from jazzd.styles.wardrobe import Wardrobe

        decode.use_compile_cache()
        loaded = weights.load(base, resident.element_type(dtype), numerics)
        wardrobe = Wardrobe.open(styles, loaded)
        wardrobe.registry.rescan()
        return cls(loaded.model, wardrobe, Console(stderr=True))

    def mix(self, style: str) -> "Mix | None":
        """The styles of a --style. Raises ConfigError and StyleError."""
        return self.wardrobe.mix(shares(style))

    def left_out(self, refused: "Refused") -> None:
        self.console.print(f"left out: {refused.reason}", highlight=False, markup=False, soft_wrap=True)

    @contextmanager
    def progress(self) -> Iterator[Callable[[str, int, int], None]]:
        """A bar that says what is being done."""
        from rich.progress import Progress

        # Where nobody looks on, even a bar that goes away would leave an empty line.
        with Progress(console=self.console, transient=True, disable=not self.console.is_terminal) as bar:
            task = bar.add_task("reading", total=None)
            yield lambda what, done, of: bar.update(task, description=what, completed=done, total=of)


def _review(stage: _Stage, style: str, scope: "Scope", plot: Path | None, as_json: bool) -> None:
    from rich.console import Console

    from jazzd.engine.protocol import Sampling
    from jazzd.teach import gallery
    from jazzd.teach.audition import Player
    from jazzd.teach.review import review

    players = [Player()]
    if wanted := shares(style):
        settings = stage.wardrobe.settings(max(wanted, key=lambda name: wanted[name]))
        players.insert(0, Player(style, stage.mix(style), Sampling.model_validate(settings)))
    with stage.progress() as step:
        found = review(stage.model, players, scope, step, stage.left_out)
    # Before the picture: should that fail, what took so long is not lost.
    if as_json:
        show(found.to_json(), as_json)
    else:
        Console().print(gallery.table(found))
    if plot:
        try:
            gallery.draw(plot, found.portraits)
        except OSError as error:
            raise JazzdError(f"{plot}: cannot be written ({error.strerror}); name another --plot") from None


def _matrix(stage: _Stage, folders: dict[str, Path], with_chords: bool, as_json: bool) -> None:
    from rich.console import Console

    from jazzd.teach.matrix import matrix, shown, verdict

    mixes = {name: stage.mix(name) for name in folders}
    with stage.progress() as step:
        figures = matrix(stage.model, mixes, folders, with_chords, step, stage.left_out)
    if as_json:
        show(figures, as_json)
    else:
        Console().print(shown(figures))
        print(verdict(figures))


@app.command()
def doctor(
    config: Annotated[Path | None, typer.Option(metavar="FILE", help="The settings, as of `run`.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Check all that music needs, and say what to do.

    It takes ten seconds or so.
    """
    from rich.console import Console
    from rich.table import Table

    from jazzd.config import find, load
    from jazzd.doctor import examine, examine_without, to_json

    try:
        checks = examine(load(config), find(config))
    except ConfigError as error:
        checks = examine_without(error)
    told = to_json(checks)
    if as_json:
        show(told, as_json)
    else:
        table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
        colours = {"ok": "green", "warn": "yellow", "fail": "red"}
        for check in told["checks"]:
            mend = f"\n[bold]{escape(check['mend'])}[/]" if check["mend"] else ""
            state = f"[{colours[check['state']]}]{check['state']}[/]"
            table.add_row(state, check["name"], escape(check["found"]) + mend)
        Console().print(table)
    if told["state"] == "fail":
        raise typer.Exit(1)
