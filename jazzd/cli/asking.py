"""The commands that talk to the daemon that plays."""

import contextlib
import json
import math
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from jazzd.cli.options import JsonOption, lines, rounded, show
from jazzd.errors import ConfigError, JazzdError
from jazzd.mix import shares

app = typer.Typer()
WATCH_S, EXPORT_S = 0.5, 5.0
PATIENCE_S, GLANCE_S = 30, 0.1
"""How long `learn` waits for a knob, and how often it asks."""


@app.command()
def status(
    watch: Annotated[bool, typer.Option("--watch", help="Go on asking, until Ctrl-C.")] = False,
    prometheus: Annotated[
        Path | None,
        typer.Option(metavar="FILE.prom", help="Write it there, for Prometheus; nothing on the screen."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Ask the running daemon how it is."""
    if prometheus and as_json:
        raise ConfigError("--prometheus writes a file, --json to the screen; say one of them")
    if prometheus:
        _export(prometheus, watch)
        return
    if not watch:
        show(_status(as_json), as_json)
        return
    with contextlib.suppress(KeyboardInterrupt):
        _watch(as_json)


def _watch(as_json: bool) -> None:
    """A screen that keeps up; for a script, one JSON object a line."""
    from rich.live import Live

    if as_json:
        while True:
            print(json.dumps(_status(as_json)), flush=True)
            time.sleep(WATCH_S)
    with Live(auto_refresh=False) as screen:
        while True:
            screen.update("\n".join(_grouped(_status(as_json))), refresh=True)
            time.sleep(WATCH_S)


def _grouped(told: dict[str, Any]) -> list[str]:
    """The status in fewer lines than a terminal has: a line for each group, and one for all the rest."""
    groups = {key: ", ".join(lines(value)) for key, value in told.items() if isinstance(value, dict)}
    rest = {key: value for key, value in told.items() if key not in groups}
    return [
        *(f"{key.replace('_', ' ')}: {said}" for key, said in groups.items() if said),
        ", ".join(lines(rest)),
    ]


def _export(file: Path, watch: bool) -> None:
    """Writes the file, as a whole, once or until Ctrl-C. Without a daemon it says so, and so do we."""
    from jazzd.files import replacing
    from jazzd.player import control
    from jazzd.render.prometheus import exposition

    with contextlib.suppress(KeyboardInterrupt):
        while True:
            told, missing = None, None
            try:
                told = control.ask({"do": "status"})
            except JazzdError as error:
                missing = error
            try:
                with replacing(file) as partial:
                    partial.write_text(exposition(told))
                    partial.chmod(0o644)  # an exporter is another user
            except OSError as error:
                raise JazzdError(f"{file} cannot be written: {error.strerror}") from None
            if not watch:
                if missing:
                    raise missing
                return
            time.sleep(EXPORT_S)


def _status(as_json: bool) -> dict[str, Any]:
    from jazzd.player import control

    told: dict[str, Any] = rounded(control.ask({"do": "status"}))
    if not as_json:  # what is ready is on `jazzd styles`
        told["styles"] = {
            record["name"]: f"{record['status']}, {record['reason']}"
            for record in told.get("styles", ())
            if record["reason"] or record["status"] != "ready"
        }
    return told


@app.command()
def panic() -> None:
    """Silence the running daemon, until the next chord is struck."""
    from jazzd.player import control

    control.ask({"do": "panic"})


@app.command("set", context_settings={"ignore_unknown_options": True})  # -0.5 is none
def set_knob(
    key: Annotated[str, typer.Argument(metavar="KEY", help="A knob, or style, mode or start.")],
    value: Annotated[str, typer.Argument(metavar="VALUE", help="In the knob's own unit.")],
) -> None:
    """Turn a knob of the running daemon."""
    from jazzd.player import control
    from jazzd.player.commands import CHOICES
    from jazzd.player.controls import KNOBS

    if key == "style":
        control.ask({"do": "use", "mix": shares(value)})
        return
    if key in CHOICES:
        if value not in CHOICES[key]:
            raise ConfigError(f"{key} is {' or '.join(CHOICES[key])}; {value!r} is neither")
        control.ask({"do": "choose", key: value})
        return
    if key not in KNOBS:
        raise ConfigError(f"there is no knob {key!r}; there are {', '.join((*KNOBS, *CHOICES))} and style")
    low, high = KNOBS[key]
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not low <= number <= high:
        raise ConfigError(f"{key} goes from {low:g} to {high:g}; {value!r} is no such number")
    control.ask({"do": "set", "knobs": {key: number}})


@app.command()
def scene(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A [[scene]] of daemon.toml.")],
) -> None:
    """Have the running daemon play a scene."""
    from jazzd.player import control

    control.ask({"do": "scene", "name": name})


@app.command()
def reload(as_json: JsonOption = False) -> None:
    """Have the running daemon read its settings anew."""
    from jazzd.player import control

    told = control.ask({"do": "reload"})
    if as_json:
        print(json.dumps(told))
        return
    print(f"changed: {', '.join(told['applied']) or 'nothing'}")
    if told["at_next_start"]:
        print(f"with the next start only: {', '.join(told['at_next_start'])}")
    for lack in told["missing"]:
        where = f" of the scene {lack['scene']}" if lack["scene"] else ""
        print(f"the style {lack['style']}{where} is missing: {lack['reason']}")


@app.command()
def keep(as_json: JsonOption = False) -> None:
    """Keep the last ten minutes of the running daemon.

    They become a MIDI file, which `replay` can play again note for note.
    """
    from jazzd.player import control

    told = control.ask({"do": "keep"}, timeout_s=control.PATIENCE_S)
    print(json.dumps(told) if as_json else told["file"])


@app.command()
def learn(
    control: Annotated[
        str, typer.Argument(metavar="CONTROL", help="A key of [control] in daemon.toml, such as style.")
    ],
) -> None:
    """Give a control the next knob that moves, for good."""
    from jazzd.config import load, remember_controls
    from jazzd.player import control as daemon
    from jazzd.settings import Controls

    if control not in Controls.model_fields:
        raise ConfigError(f"there is no control {control!r}; there are {', '.join(Controls.model_fields)}")
    before = daemon.ask({"do": "learnt"})
    if before["file"]:
        # Nothing is learnt half: a mistake in the file is to be mended first, and what it says is to hold.
        for name, number in load(Path(before["file"])).control.model_dump().items():
            if number != before["numbers"][name]:
                raise ConfigError(
                    f"{name} is CC {before['numbers'][name]} here, and {number} in {before['file']}: "
                    "say `jazzd reload`, then learn again"
                )
    daemon.ask({"do": "learn", "control": control})
    print(f"move the knob that is to be {control} (within {PATIENCE_S} s)")
    refused = None
    try:
        for _ in range(round(PATIENCE_S / GLANCE_S)):
            answer = daemon.ask({"do": "learnt"})
            if answer["control"] != control:
                raise JazzdError(
                    f"the daemon waits for {control} no more: another `jazzd learn` came in between, or it "
                    "was started anew; say it again"
                )
            if answer["number"] is not None:
                other = answer["gave_way"]
                changed = {name: answer["numbers"][name] for name in (control, other) if name}
                file = remember_controls(answer["file"] and Path(answer["file"]), changed)
                print(f"{control} is CC {answer['number']} now, here and in {file}")
                if other:
                    print(f"{other} had that one; it is CC {answer['numbers'][other]} now")
                return
            if answer["refused"] and answer["refused"] != refused:
                refused = answer["refused"]
                print(refused)
            time.sleep(GLANCE_S)
    finally:
        daemon.ask({"do": "unlearn", "control": control})
    raise JazzdError(f"no knob moved within {PATIENCE_S} s; {control} is what it was")
