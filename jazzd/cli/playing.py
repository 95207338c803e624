"""The commands that play."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from jazzd.cli.options import (
    BaseOption,
    DeviceOption,
    DtypeOption,
    JsonOption,
    NumericsOption,
    StyleOption,
    StylesOption,
    check_base,
    check_folder,
    chosen_base,
    chosen_styles,
    daemon_options,
    show,
    within,
)
from jazzd.errors import ConfigError, JazzdError
from jazzd.mix import shares

if TYPE_CHECKING:
    from jazzd.solo import Sounding

app = typer.Typer()


@app.command()
def run(
    config: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The settings; if not given, ./daemon.toml, else the user's own."),
    ] = None,
    base: BaseOption = None,
    dtype: DtypeOption = None,
    numerics: NumericsOption = None,
    styles: StylesOption = None,
    chart: Annotated[
        str | None,
        typer.Option(metavar="CHORDS|FILE.json", help='A tune to play: "Dm7 | G7 | Cmaj7 | %", or its file.'),
    ] = None,
    record: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write all that is played into this folder.")
    ] = None,
    log_file: Annotated[
        Path | None,
        typer.Option("--log", metavar="FILE", help="Write the log there, not to stderr; it is rotated."),
    ] = None,
) -> None:
    """Run the daemon: chords in, solos out, until Ctrl-C or SIGTERM."""
    import structlog

    from jazzd import log
    from jazzd.config import find, load
    from jazzd.music.chart import read
    from jazzd.player import daemon

    overrides: dict[str, dict[str, object]] = {}
    for section, key, value in (
        ("engine", "base", base),
        ("engine", "dtype", dtype),
        ("styles", "folder", styles and styles.absolute()),
        ("solo", "chart", chart),
        ("takes", "folder", record and str(record.absolute())),
    ):
        if value is not None:
            overrides.setdefault(section, {})[key] = value
    with log.to_file(log_file) if log_file else log.to_stderr():
        try:
            file = find(config)
            settings = load(file, overrides)
            if chart is not None or settings.solo.chart:
                read(settings.solo.chart)
            if not settings.engine.address:
                check_base(settings.engine.base)
            daemon.run(
                settings,
                numerics,
                file=file,
                again=lambda: load(file, overrides),
                record=record is not None,
            )
        except JazzdError as error:
            if log_file:  # who starts it so keeps no stderr
                structlog.get_logger().error("ended", reason=str(error))
            raise


@app.command()
def engine(
    listen: Annotated[
        str,
        typer.Option(metavar="unix:PATH|tcp://HOST:PORT", help="The address at which the player finds it."),
    ],
    base: BaseOption = None,
    dtype: Annotated[
        Literal["auto", "float32", "bfloat16"], typer.Option(help="Number type of the weights.")
    ] = "auto",
    numerics: NumericsOption = None,
    device: DeviceOption = "auto",
    styles: StylesOption = None,
    max_resident: Annotated[
        int, typer.Option(min=1, max=256, help="Styles kept on the device; more are loaded when first used.")
    ] = 32,
    token_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The word a player has to say; needed beyond this machine."),
    ] = None,
) -> None:
    """Run the engine alone, for WSL2 or a machine with a GPU."""
    import asyncio
    import signal

    from jazzd.engine import leash

    signal.signal(signal.SIGINT, signal.SIG_DFL)  # as an exception it is lost in one of JAX's callbacks
    leash.tie(listen)  # before what takes seconds to import
    base, styles = chosen_base(base), chosen_styles(styles)

    from jazzd import log
    from jazzd.config import read_token
    from jazzd.engine import loading, server

    def load() -> loading.Loaded:
        return loading.load(base, dtype, numerics, device, styles, max_resident)

    token = read_token(token_file) if token_file else ""
    with log.to_stderr():
        over = asyncio.run(server.serve(listen, load, token))
    if not over:  # see `serve`: Python must not end by itself
        os._exit(0)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(metavar="DIR", help="The folder for demo.mid and demo.wav.")] = Path(),
    style: StyleOption = "",
    seconds: Annotated[float, typer.Option(callback=within(2, 3600), help="Length of the chords.")] = 32.0,
    base: BaseOption = None,
    dtype: DtypeOption = None,
    numerics: NumericsOption = None,
    styles: StylesOption = None,
    as_json: JsonOption = False,
) -> None:
    """Hear it without any MIDI gear.

    Chords are played into the real daemon in real time, and both sides are recorded.
    """
    from jazzd.demo import run as perform

    mix = shares(style)
    check_folder(out)
    perform(out, seconds, daemon_options(base, dtype, numerics, styles), mix, as_json)


@app.command()
def solo(
    output: Annotated[Path, typer.Option("--output", "-o", metavar="OUT.mid", help="The file to write.")],
    progression: Annotated[
        str, typer.Argument(help='Symbols, one a bar or in bars: "Dm7 G7 | C6", or the .json file of a tune.')
    ] = "",
    midi: Annotated[
        Path | None, typer.Option(metavar="CHORDS.mid", help="Chords from a file instead.")
    ] = None,
    style: StyleOption = "",
    tempo: Annotated[
        float, typer.Option(callback=within(30, 300), help="Beats a minute, 30 to 300.")
    ] = 120.0,
    bars_per_chord: Annotated[float, typer.Option(callback=within(0.25, 16), help="How many bars.")] = 1.0,
    beats_per_bar: Annotated[
        int | None,
        typer.Option(min=1, max=12, help="Quarter notes of a bar; if not given, as the chart says, else 4."),
    ] = None,
    choruses: Annotated[int, typer.Option(min=1, max=64, help="Times through.")] = 1,
    temperature: Annotated[
        float | None,
        typer.Option(callback=within(0, 2), help="0 careful .. 2 wild; if not given, the style's, else 0.9."),
    ] = None,
    top_p: Annotated[
        float | None,
        typer.Option(
            callback=within(0.01, 1),
            help="Draw from this share of the likeliest; if not given, the style's, else 0.95.",
        ),
    ] = None,
    max_notes: Annotated[int | None, typer.Option(min=1, help="Stop after so many.")] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            min=0, max=2**32 - 1, help="For the same solo again; if not given, a new one each time."
        ),
    ] = None,
    wav: Annotated[
        Path | None, typer.Option(metavar="OUT.wav", help="Write its sound to this file, too.")
    ] = None,
    no_chords: Annotated[bool, typer.Option("--no-chords", help="Leave the chords' track out.")] = False,
    base: BaseOption = None,
    dtype: DtypeOption = None,
    numerics: NumericsOption = None,
    styles: StylesOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a solo over chords to a MIDI file."""
    import random
    from itertools import islice

    from jazzd import render
    from jazzd.engine.protocol import Sampling
    from jazzd.music.chords import NO_CHORD
    from jazzd.solo import SoloGenerator

    mix = shares(style)
    if wav and wav.resolve() == output.resolve():
        raise ConfigError(f"{wav} cannot be both, MIDI and sound; name another file for --wav")
    for path in filter(None, (output, wav)):
        if not path.absolute().parent.is_dir():
            raise JazzdError(f"{path}: there is no folder {path.parent}; make it first")
    chords, bar = _form(progression, midi, beats_per_bar, bars_per_chord * 60 / tempo, choruses)
    seed = random.randrange(2**32) if seed is None else seed
    generator = SoloGenerator.load(chosen_base(base), chosen_styles(styles), dtype, numerics)
    given = {"temperature": temperature, "top_p": top_p}
    wanted = generator.wear(mix) | {name: value for name, value in given.items() if value is not None}
    beat_s = None if midi else 60 / tempo
    notes = generator.improvise(chords, Sampling.model_validate(wanted), seed, beat_s=beat_s, bar=bar)
    line = list(islice(notes, max_notes))
    comping = [note for chord in chords for note in chord.notes()]
    markers = [(part.onset, part.chord.symbol if part.chord else NO_CHORD) for part in chords]
    render.write_midi(output, line, None if no_chords else comping, markers, tempo, bar=bar)
    if wav:
        render.write_wav(wav, output)
    files = {"midi": str(output), "wav": str(wav) if wav else None}
    seconds = max(note.end for note in (*comping, *line))
    show({"solo_notes": len(line), "seconds": round(seconds, 2), "seed": seed} | files, as_json)


@app.command()
def ports(as_json: JsonOption = False) -> None:
    """List the MIDI ports."""
    from jazzd.player.drivers import list_ports

    found = list_ports()
    if as_json:
        print(json.dumps(vars(found)))
        return
    print(f"backend: {found.backend}{found.reason and f' ({found.reason})'}")
    ours = _ports_of_the_daemon()
    for heading, names in (("inputs", found.inputs), ("outputs", found.outputs)):
        print(f"{heading}: {', '.join(name + ours.get(name, '') for name in names) or 'none'}")


@app.command()
def replay(
    take: Annotated[Path, typer.Argument(metavar="FILE", help="What `keep` or `--record` wrote.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="OUT.mid", help="Write the solo as it comes now.")
    ] = None,
    base: BaseOption = None,
    dtype: DtypeOption = None,
    numerics: NumericsOption = None,
    styles: StylesOption = None,
    as_json: JsonOption = False,
) -> None:
    """Play a take again, and compare the notes."""
    from jazzd import render, takes

    if output and output.resolve() == take.resolve():
        raise ConfigError(f"{output} is the take itself, which would be lost; name another file for -o")
    log = takes.read(take)
    base, styles = chosen_base(base), chosen_styles(styles)
    check_base(base)

    from jazzd.moonbeam import resident
    from jazzd.music.tempo import to_seconds
    from jazzd.replay import replay as play_again
    from jazzd.replay import warnings
    from jazzd.styles.wardrobe import Wardrobe

    loaded, decoder = resident.load(base, dtype, numerics)
    wardrobe = Wardrobe.open(styles, loaded)
    wardrobe.registry.rescan()
    doubts = warnings(log, loaded, wardrobe)
    found = play_again(log, decoder, wardrobe)
    if output:
        render.write_midi(output, found.solo, None, [])
    if as_json:
        print(json.dumps({"notes": found.notes, "same": found.same, "warnings": doubts}))
    else:
        for doubt in doubts:
            print(f"note: {doubt}")
        print(f"{found.same} of {found.notes} notes are the same")
    if found.difference:
        was = found.difference.was
        raise JazzdError(
            f"note {was.number} of part {found.difference.passage + 1} was {was.pitch} at "
            f"{to_seconds(was.onset):.2f} s and is another one now" + (f": {doubts[0]}" if doubts else "")
        )


def _ports_of_the_daemon() -> dict[str, str]:
    """What to say behind the names of the ports that a running daemon uses."""
    from jazzd.player import control

    try:
        midi = control.ask({"do": "status"}).get("midi", {})
    except JazzdError:  # none runs
        return {}
    return {midi.get("input", ""): " (jazzd listens here)", midi.get("output", ""): " (jazzd plays here)"}


def _form(
    progression: str, midi: Path | None, beats_per_bar: int | None, beat_s: float, choruses: int
) -> "tuple[list[Sounding], int]":
    """The chords that are written out or in a file, that many times over, and the beats of a bar."""
    from jazzd import render
    from jazzd.music import chart
    from jazzd.music.grid import BEATS_PER_BAR
    from jazzd.solo import Sounding, laid_out

    if bool(progression) == (midi is not None):
        raise ConfigError('say either chord symbols, such as "Dm7 G7 Cmaj7 Cmaj7", or --midi CHORDS.mid')
    if midi is None:
        parsed, its = chart.read(progression)
        bar = beats_per_bar or its or BEATS_PER_BAR
        return laid_out(parsed, bar * beat_s, choruses), bar
    once = [Sounding(*chord) for chord in render.read_chords(midi)]
    length = max(chord.onset + chord.duration for chord in once)
    parts = [replace(chord, onset=chord.onset + n * length) for n in range(choruses) for chord in once]
    return parts, beats_per_bar or BEATS_PER_BAR
