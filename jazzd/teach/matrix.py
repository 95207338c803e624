"""Every style on every style's music: whether each knows its own best."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from rich.table import Table

from jazzd.moonbeam import lora
from jazzd.moonbeam.model import Moonbeam
from jazzd.teach.corpus import Refused
from jazzd.teach.evaluate import Likelihood, foretold, read

Step = Callable[[str, int, int], None]


def matrix(
    model: Moonbeam,
    styles: Mapping[str, lora.Mix | None],
    folders: Mapping[str, Path],
    with_chords: bool = True,
    step: Step = lambda what, done, of: None,
    left_out: Callable[[Refused], None] = lambda refused: None,
) -> dict[str, Any]:
    """Nats a note of the base and of every style on every style's pieces, by the style whose they are.

    Under `pieces`: the `notes`, what the `base` and the `styles` make of them, and who of these is `best`
    (empty for the base). `own_best`: whether every style foretells its own pieces better than all others do.
    Raises MidiError for a folder without a usable file.
    """
    nll, pieces = Likelihood(model), {name: read(folder, left_out)[0] for name, folder in folders.items()}
    found = {}
    for theirs, music in pieces.items():
        nats = {}
        for name, mix in [("", None), *styles.items()]:
            listening = partial(step, f"listening to {theirs} as {name or 'plain base'}")
            figures = foretold(nll, music, with_chords, listening, mix)
            nats[name] = figures["nll_per_note"]
        best = min(nats, key=nats.__getitem__)
        found[theirs] = {"notes": figures["notes"], "base": nats.pop(""), "styles": nats, "best": best}
    return {"pieces": found, "own_best": all(each["best"] == name for name, each in found.items())}


def shown(figures: Mapping[str, Any]) -> Table:
    """A row for each player, a column for each one's pieces; the best of a column is starred."""
    table = Table("nats per note", box=None, pad_edge=False)
    pieces = figures["pieces"]
    for name in pieces:
        table.add_column(f"{name}'s pieces", justify="right")
    for player in ("", *pieces):
        cells = []
        for each in pieces.values():
            nats = each["styles"][player] if player else each["base"]
            cells.append(f"{nats:.3f}{'*' if each['best'] == player else ' '}")
        table.add_row(player or "plain base", *cells)
    table.add_row("notes", *(f"{each['notes']} " for each in pieces.values()))
    return table


def verdict(figures: Mapping[str, Any]) -> str:
    """In a sentence."""
    strangers = [name for name, each in figures["pieces"].items() if each["best"] != name]
    if not strangers:
        return "every style is best on its own pieces"
    return f"not every style is best on its own pieces: not {', '.join(strangers)}"
