"""The commands that measure."""

from pathlib import Path
from typing import Annotated

import typer

from jazzd.cli.options import (
    BaseOption,
    DeviceOption,
    DtypeOption,
    JsonOption,
    NumericsOption,
    StyleOption,
    StylesOption,
    daemon_options,
    shares,
    show,
)
from jazzd.errors import ConfigError

app = typer.Typer()
bench_app = typer.Typer(help="Measure, and say on what.", no_args_is_help=True)
app.add_typer(bench_app, name="bench")


@app.command()
def evaluate(
    midi: Annotated[
        Path | None, typer.Argument(metavar="MIDI_DIR", help="A folder of music it has not heard.")
    ] = None,
    rows: Annotated[
        Path | None, typer.Option(metavar="FILE.npz", help="Score the rows of this file instead.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="OUT.npz", help="The file for the rows' scores.")
    ] = None,
    no_chords: Annotated[bool, typer.Option("--no-chords", help="Hide the chords of solos.")] = False,
    style: StyleOption = "",
    styles: StylesOption = Path("styles"),
    base: BaseOption = "builtin",
    dtype: DtypeOption = None,
    numerics: NumericsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure how well the model foretells music, in nats a note."""
    from rich.console import Console
    from rich.progress import Progress

    from jazzd.moonbeam import resident, weights
    from jazzd.styles.wardrobe import Wardrobe
    from jazzd.teach.evaluate import evaluate as measure
    from jazzd.teach.evaluate import score_rows

    if (midi is None) == (rows is None) or (rows is None) != (output is None):
        raise ConfigError("say either a folder of MIDI files, or --rows FILE.npz and -o OUT.npz")
    loaded = weights.load(base, resident.element_type(dtype), numerics)
    model, wardrobe = loaded.model, Wardrobe.open(styles, loaded)
    wardrobe.registry.rescan()
    mix = wardrobe.mix(shares(style))
    if rows and output:
        show(score_rows(model, rows, output, mix), as_json)
    if not midi:
        return
    console = Console(stderr=True)
    # Where nobody looks on, even a bar that goes away would leave an empty line.
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("listening", total=None)
        figures = measure(
            model,
            midi,
            not no_chords,
            lambda done, of: bar.update(task, completed=done, total=of),
            lambda refused: console.print(
                f"left out: {refused.reason}", highlight=False, markup=False, soft_wrap=True
            ),
            mix,
        )
    show(figures, as_json)


@bench_app.command("engine")
def bench_engine(
    base: BaseOption = "builtin",
    dtype: DtypeOption = None,
    numerics: NumericsOption = None,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Time the model: a note, a chord's prefill, the start."""
    from jazzd.bench.engine import bench

    show(bench(base, dtype, numerics, device), as_json)


@bench_app.command("latency")
def bench_latency(
    base: BaseOption = "builtin",
    dtype: DtypeOption = None,
    numerics: NumericsOption = None,
    styles: StylesOption = Path("styles"),
    as_json: JsonOption = False,
) -> None:
    """Time the answer to 300 chords through real MIDI ports (about four minutes)."""
    from jazzd.bench import latency

    show(latency.measure(options=daemon_options(base, dtype, numerics, styles)), as_json)


@bench_app.command("styles")
def bench_styles(
    base: BaseOption = "builtin",
    dtype: DtypeOption = None,
    numerics: NumericsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Change the style 1,000 times while a daemon plays (five minutes)."""
    from jazzd.bench import styles

    options = daemon_options(base, dtype, numerics, Path())
    show(styles.measure(base, options[:-2]), as_json)


@bench_app.command("switch")
def bench_switch(
    midi: Annotated[Path, typer.Argument(metavar="MIDI_DIR", help="Unheard music in that style.")],
    style: Annotated[str, typer.Option(metavar="NAME", help="The style that is switched to.")],
    old: Annotated[str, typer.Option("--from", metavar="NAME", help="And from; if not given, none.")] = "",
    styles: StylesOption = Path("styles"),
    base: BaseOption = "builtin",
    as_json: JsonOption = False,
) -> None:
    """Measure whether the context is to be read again after a change of style."""
    from jazzd.bench import switch

    show(switch.measure(midi, style, old, styles, base), as_json)


@bench_app.command("finetune")
def bench_finetune(
    base: BaseOption = "builtin",
    dtype: DtypeOption = None,
    numerics: NumericsOption = None,
    epochs: Annotated[int, typer.Option(min=1, help="Fewer take less time, and are another figure.")] = 50,
    as_json: JsonOption = False,
) -> None:
    """Time the learning of a style from 15 pieces in 12 keys, all the way (many minutes)."""
    from rich.console import Console

    from jazzd.bench import finetune

    show(finetune.measure(base, dtype, numerics, epochs, console=Console(stderr=True)), as_json)


@bench_app.command("changes")
def bench_changes(
    midi: Annotated[Path, typer.Argument(metavar="MIDI_DIR", help="Files whose chords somebody wrote down.")],
    annotations: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where STEM.json has each file's; if not given, in its markers."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Compare the chords that jazzd tells from notes with those that were written down."""
    from rich.console import Console
    from rich.progress import Progress

    from jazzd.bench import changes

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("listening", total=None)
        figures = changes.measure(
            midi, annotations, lambda done, of: bar.update(task, completed=done, total=of)
        )
    show(figures, as_json)
