"""The commands that play, and those that talk to what plays."""

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from jazzd.cli.options import (
    FOLDER,
    BaseOption,
    DtypeOption,
    JsonOption,
    NumericsOption,
    StyleOption,
    StylesOption,
    check_style,
    daemon_options,
    show,
)
from jazzd.errors import ConfigError

if TYPE_CHECKING:
    from jazzd.solo import Sounding

app = typer.Typer()


@app.command()
def run(
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Else ./daemon.toml, else the one of the user.")
    ] = None,
    base: Annotated[str | None, typer.Option(metavar=FOLDER, help="The frozen model.")] = None,
    dtype: DtypeOption = None,
    numerics: NumericsOption = None,
    styles: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Where the styles are.")] = None,
) -> None:
    """Run the daemon: listen for chords, play solos, until SIGTERM or Ctrl-C."""
    from jazzd import log
    from jazzd.config import load
    from jazzd.player import daemon

    log.configure()
    overrides: dict[str, dict[str, object]] = {"engine": {}, "styles": {}}
    for section, key, value in (
        ("engine", "base", base),
        ("engine", "dtype", dtype),
        ("styles", "folder", styles and styles.absolute()),
    ):
        if value is not None:
            overrides[section][key] = value
    daemon.run(load(config, overrides), numerics)


@app.command()
def engine(
    listen: Annotated[
        str, typer.Option(metavar="unix:PATH|tcp://HOST:PORT", help="Where the player finds it.")
    ],
    base: BaseOption = "builtin",
    dtype: Annotated[Literal["auto", "float32", "bfloat16"], typer.Option(help="Of the weights.")] = "auto",
    numerics: NumericsOption = None,
    device: Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="Where the model lives.")] = "auto",
) -> None:
    """Run the engine alone, for WSL2 or a machine with a GPU."""
    import asyncio

    from jazzd import log
    from jazzd.engine.server import serve
    from jazzd.moonbeam import resident

    log.configure()
    asyncio.run(serve(listen, lambda: resident.load(base, dtype, numerics, device)))


@app.command()
def demo(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where demo.mid and demo.wav go.")] = Path(),
    style: StyleOption = "",
    seconds: Annotated[float, typer.Option(min=2, max=3600, help="Length of the chords.")] = 32.0,
    base: BaseOption = "builtin",
    dtype: DtypeOption = None,
    numerics: NumericsOption = None,
    styles: StylesOption = Path("styles"),
    as_json: JsonOption = False,
) -> None:
    """Hear it without any MIDI gear: chords are played into the real daemon, both sides are recorded."""
    from jazzd.demo import run as perform

    check_style(style)
    perform(out, seconds, daemon_options(base, dtype, numerics, styles), as_json)


@app.command()
def solo(
    output: Annotated[Path, typer.Option("--output", "-o", metavar="OUT.mid", help="The file to write.")],
    progression: Annotated[str, typer.Argument(help='Symbols, one a bar or in bars: "Dm7 G7 | C6".')] = "",
    midi: Annotated[
        Path | None, typer.Option(metavar="CHORDS.mid", help="Chords from a file instead.")
    ] = None,
    style: StyleOption = "",
    tempo: Annotated[float, typer.Option(min=30, max=300, help="Beats a minute.")] = 120.0,
    bars_per_chord: Annotated[float, typer.Option(min=0.25, max=16, help="Bars of four beats.")] = 1.0,
    choruses: Annotated[int, typer.Option(min=1, max=64, help="Times through.")] = 1,
    temperature: Annotated[float, typer.Option(min=0, max=2, help="0 careful .. 2 wild.")] = 0.9,
    top_p: Annotated[float, typer.Option(min=0.01, max=1, help="Share of the likeliest notes.")] = 0.95,
    max_notes: Annotated[int | None, typer.Option(min=1, help="Stop after so many.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, max=2**32 - 1, help="Else a new one each time.")] = None,
    wav: Annotated[Path | None, typer.Option(metavar="OUT.wav", help="Its sound, too.")] = None,
    no_chords: Annotated[bool, typer.Option("--no-chords", help="Leave the chords' track out.")] = False,
    base: BaseOption = "builtin",
    dtype: DtypeOption = None,
    numerics: NumericsOption = None,
    styles: StylesOption = Path("styles"),
    as_json: JsonOption = False,
) -> None:
    """Write a solo over chords to a MIDI file."""
    import random
    from itertools import islice

    from jazzd import render
    from jazzd.engine.protocol import Sampling
    from jazzd.music.chords import NO_CHORD
    from jazzd.solo import SoloGenerator

    check_style(style)
    chords = _chart(progression, midi, bars_per_chord * 4 * 60 / tempo, choruses)
    seed = random.randrange(2**32) if seed is None else seed
    generator = SoloGenerator.load(base, styles, dtype, numerics)
    notes = generator.improvise(chords, Sampling(temperature=temperature, top_p=top_p), seed)
    line = list(islice(notes, max_notes))
    comping = [note for chord in chords for note in chord.notes()]
    markers = [(part.onset, part.chord.symbol if part.chord else NO_CHORD) for part in chords]
    render.write_midi(output, line, None if no_chords else comping, markers, tempo)
    if wav:
        render.write_wav(wav, output)
    files = {"midi": str(output), "wav": str(wav) if wav else None}
    seconds = max(note.end for note in (*comping, *line))
    show({"solo_notes": len(line), "seconds": round(seconds, 2), "seed": seed} | files, as_json)


@app.command()
def ports(as_json: JsonOption = False) -> None:
    """List the MIDI ports."""
    from jazzd.player.ports import list_ports

    found = list_ports()
    if as_json:
        print(json.dumps(vars(found)))
        return
    print(f"backend: {found.backend}{found.reason and f' ({found.reason})'}")
    for heading, names in (("inputs", found.inputs), ("outputs", found.outputs)):
        print(f"{heading}: {', '.join(names) or 'none'}")


@app.command()
def status(as_json: JsonOption = False) -> None:
    """Ask the running daemon how it is."""
    from jazzd.player import control

    show(control.ask({"do": "status"}), as_json)


@app.command()
def panic() -> None:
    """Silence the running daemon at once; the next struck chord plays again."""
    from jazzd.player import control

    control.ask({"do": "panic"})


def _chart(progression: str, midi: Path | None, bar_s: float, choruses: int) -> "list[Sounding]":
    """The chords of the symbols or of the file, that many times over, one a bar of `bar_s` seconds."""
    from jazzd import render
    from jazzd.music.chords import progression as parsed
    from jazzd.solo import Sounding, laid_out

    if bool(progression) == (midi is not None):
        raise ConfigError('say either chord symbols, such as "Dm7 G7 Cmaj7 Cmaj7", or --midi CHORDS.mid')
    if midi is None:
        return laid_out(parsed(progression), bar_s, choruses)
    once = [Sounding(*chord) for chord in render.read_chords(midi)]
    length = max(chord.onset + chord.duration for chord in once)
    return [replace(chord, onset=chord.onset + n * length) for n in range(choruses) for chord in once]
