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
    chosen_base,
    chosen_styles,
    daemon_options,
    show,
    within,
)
from jazzd.mix import shares

app = typer.Typer(help="Measure, and say on what.", no_args_is_help=True)


@app.command("engine")
def bench_engine(
    base: BaseOption = None,
    dtype: DtypeOption = None,
    numerics: NumericsOption = None,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Time the model: a note, a chord's prefill, the start."""
    from jazzd.bench.engine import bench

    show(bench(chosen_base(base), dtype, numerics, device), as_json)


@app.command("latency")
def bench_latency(
    base: BaseOption = None,
    dtype: DtypeOption = None,
    numerics: NumericsOption = None,
    styles: StylesOption = None,
    chords: Annotated[int, typer.Option(min=1, max=10_000, help="How many.")] = 300,
    charts: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Tunes (.json) to play; if not given, chords at random."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Time the answer to chords through real MIDI ports (300 take about four minutes)."""
    from jazzd.bench import latency

    comped = latency.of_charts(charts, chords) if charts else latency.at_random(chords)
    show(latency.measure(comped, daemon_options(base, dtype, numerics, styles)), as_json)


@app.command("jitter")
def bench_jitter(
    base: BaseOption = None,
    dtype: DtypeOption = None,
    numerics: NumericsOption = None,
    styles: StylesOption = None,
    seconds: Annotated[float, typer.Option(callback=within(10, 3600), help="How long.")] = 60.0,
    clock_jitter: Annotated[
        float, typer.Option(callback=within(0, 20), help="How badly the clock ticks, +- milliseconds.")
    ] = 0.0,
    as_json: JsonOption = False,
) -> None:
    """Time the notes against a DAW's clock, quantized, through JACK (a minute)."""
    from jazzd.bench import jitter

    show(jitter.measure(seconds, clock_jitter, daemon_options(base, dtype, numerics, styles)), as_json)


@app.command("lines")
def bench_lines(
    charts: Annotated[Path, typer.Argument(metavar="CHARTS", help="A folder of tunes (.json).")],
    people: Annotated[Path, typer.Argument(metavar="MIDI_DIR", help="Solos of people, chords as markers.")],
    solos: Annotated[int, typer.Option(min=1, max=1000, help="How many.")] = 20,
    style: StyleOption = "",
    base: BaseOption = None,
    dtype: DtypeOption = None,
    numerics: NumericsOption = None,
    styles: StylesOption = None,
    as_json: JsonOption = False,
) -> None:
    """Set solos at default settings beside those of people (a minute or two)."""
    mix, base, styles = shares(style), chosen_base(base), chosen_styles(styles)

    from jazzd.bench import lines
    from jazzd.solo import SoloGenerator

    generator = SoloGenerator.load(base, styles, dtype, numerics)
    show(lines.measure(charts, people, solos, generator, mix), as_json)


@app.command("band")
def bench_band(
    base: BaseOption = None,
    dtype: DtypeOption = None,
    numerics: NumericsOption = None,
    styles: StylesOption = None,
    minutes: Annotated[float, typer.Option(callback=within(0.5, 600), help="How long.")] = 10.0,
    as_json: JsonOption = False,
) -> None:
    """Follow and trade over clocks whose tempo moves, through JACK, and count what goes wrong."""
    from jazzd.bench import band

    show(band.measure(minutes, daemon_options(base, dtype, numerics, styles)), as_json)


@app.command("link")
def bench_link(
    base: BaseOption = None,
    dtype: DtypeOption = None,
    numerics: NumericsOption = None,
    styles: StylesOption = None,
    pings: Annotated[int, typer.Option(min=100, max=1_000_000, help="Round trips each way.")] = 2000,
    as_json: JsonOption = False,
) -> None:
    """Measure what the way between player and engine costs: a Unix socket, and TCP on the loopback."""
    from jazzd.bench import link

    show(link.measure(pings, daemon_options(base, dtype, numerics, styles)), as_json)


@app.command("styles")
def bench_styles(
    base: BaseOption = None,
    dtype: DtypeOption = None,
    numerics: NumericsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Change the style 1,000 times while a daemon plays (five minutes)."""
    from jazzd.bench import styles

    base = chosen_base(base)
    options = daemon_options(base, dtype, numerics, Path())
    show(styles.measure(base, options[:-2]), as_json)


@app.command("switch")
def bench_switch(
    midi: Annotated[Path, typer.Argument(metavar="MIDI_DIR", help="Unheard music in that style.")],
    style: Annotated[str, typer.Option(metavar="NAME", help="The style that is switched to.")],
    old: Annotated[str, typer.Option("--from", metavar="NAME", help="And from; if not given, none.")] = "",
    styles: StylesOption = None,
    base: BaseOption = None,
    dtype: DtypeOption = None,
    numerics: NumericsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure whether the context is to be read again after a change of style."""
    from jazzd.bench import switch

    base, styles = chosen_base(base), chosen_styles(styles)
    show(switch.measure(midi, style, old, styles, base, dtype, numerics), as_json)


@app.command("finetune")
def bench_finetune(
    base: BaseOption = None,
    dtype: DtypeOption = None,
    numerics: NumericsOption = None,
    epochs: Annotated[int, typer.Option(min=1, help="Fewer take less time, and are another figure.")] = 50,
    as_json: JsonOption = False,
) -> None:
    """Time the learning of a style from 15 pieces in 12 keys, all the way (many minutes)."""
    from rich.console import Console

    from jazzd.bench import finetune

    base = chosen_base(base)
    show(finetune.measure(base, dtype, numerics, epochs, console=Console(stderr=True)), as_json)


@app.command("changes")
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
