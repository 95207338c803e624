"""Everything that reads what strangers wrote, as functions of bytes: they may refuse, and nothing else."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import mido
from room import Room
from styled import BASE, drop

from jazzd import takes
from jazzd.config import load
from jazzd.engine import protocol
from jazzd.errors import JazzdError, MidiError
from jazzd.music import chart
from jazzd.player import control
from jazzd.player.commands import Commands
from jazzd.player.messages import Decoder
from jazzd.render.midi import read_chords
from jazzd.styles import style
from jazzd.teach import corpus
from jazzd.teach.prepare import study

T = TypeVar("T")
ROOT = Path(__file__).parents[2]
MIDI = sorted((ROOT / "tests" / "golden" / "midi").glob("*.mid"))
REQUESTS = (
    {"do": "status"},
    {"do": "use", "mix": {"parker": 0.5, "davis": 0.5}},
    {"do": "set", "knobs": {"temperature": 0.9}},
    {"do": "choose", "mode": "trade"},
    {"do": "learn", "control": "style"},
    {"do": "scene", "name": "ballad"},
    {"do": "keep"},
)
LINES = (
    protocol.Hello(token="word"),
    protocol.Begin(seed=1),
    protocol.Revise(
        epoch=3,
        now=5,
        floor=7,
        keys=(protocol.Key(1, 2, 60, 64),),
        mix=(("parker", 0.5),),
        ahead=(protocol.Change(at=9),),
        beats=protocol.Beats(origin=0.5, length=50.0),
    ),
    protocol.Advance(now=1, until=9),
    protocol.Ping(n=4),
)
ANSWERS = (
    protocol.Ready(base="builtin", device="cpu", dtype="float32", parameters=1),
    protocol.Styles(styles=(protocol.Style(name="parker", status="ready"),)),
    protocol.Note(epoch=1, number=2, onset=3, duration=4, pitch=60, velocity=64, read_before=((1, 2, True),)),
    protocol.Pong(n=4),
    protocol.Failed(reason="no"),
)


@dataclass(frozen=True)
class Target:
    """`read` raises nothing, whatever it is given; `seeds` are what it should be given, to start from."""

    read: Callable[[bytes], None]
    seeds: tuple[bytes, ...]


def targets(folder: Path) -> dict[str, Target]:
    """All of them; files go into the folder."""
    a_style = drop(folder / "seed.safetensors").read_bytes()
    config, tune, midi = folder / "daemon.toml", folder / "tune.json", folder / "it.mid"
    bars = [{"beat": 1, "chord": "Dm7"}], [{"beat": 1, "chord": "G7"}, {"beat": 3, "chord": "Cmaj7"}], []
    return {
        "engine": Target(_refusing(protocol.read_by_engine), tuple(map(protocol.line, LINES))),
        "player": Target(_refusing(protocol.read_by_player), tuple(map(protocol.line, ANSWERS))),
        "stream": Target(_stream, tuple(path.read_bytes()[:200] for path in MIDI)),
        "hands": Target(
            _hands, (bytes.fromhex("903c409040409043 40f8f8fa f8fc803c00"), b"\xb0\x14\x40\xb0\x19\x7f")
        ),
        "command": Target(_command, tuple(json.dumps(request).encode() for request in REQUESTS)),
        "settings": Target(_file(config, load), ((ROOT / "daemon.toml").read_bytes(),)),
        "style": Target(_file(folder / "it.safetensors", partial(style.read, base=BASE)), (a_style,)),
        "midi": Target(_file(midi, _learn_from), tuple(p.read_bytes() for p in MIDI)),
        "chords": Target(_file(midi, read_chords), tuple(p.read_bytes() for p in MIDI)),
        "take": Target(_file(folder / "take.mid", takes.read), tuple(p.read_bytes() for p in MIDI[:2])),
        "chart": Target(
            _file(tune, lambda path: chart.read(str(path))), (json.dumps({"bars": bars}).encode(),)
        ),
        "symbols": Target(
            lambda data: _refusing(chart.read)(data.decode(errors="replace")), (b"Dm7 | G7 | C6 %",)
        ),
    }


def _refusing(read: Callable[[T], object]) -> Callable[[T], None]:
    def run(data: T) -> None:
        try:
            read(data)
        except JazzdError as error:
            sentence = str(error)
        else:
            return
        assert "\n" not in sentence, "a sentence, not a page"

    return run


def _file(path: Path, read: Callable[[Path], object]) -> Callable[[bytes], None]:
    def run(data: bytes) -> None:
        path.write_bytes(data)
        _refusing(read)(path)

    return run


def _learn_from(path: Path) -> None:
    """As `jazzd prepare` and `jazzd evaluate` do."""
    for found in (study(None, path, path.name), corpus.read(path, path.name)):
        if isinstance(found, corpus.Refused):
            raise MidiError(found.reason)


def _stream(data: bytes) -> None:
    whole, parts = Decoder(), Decoder()
    cut = len(data) // 3
    assert [*whole.feed(data)] == [*parts.feed(data[:cut]), *parts.feed(data[cut:])]


def _hands(data: bytes) -> None:
    """Whatever is played, a second after all was lifted nothing sounds."""
    room = Room()
    for message in Decoder().feed(data):
        room.play(message)
        room.wait(0.01)
    room.play(*(mido.Message("control_change", channel=channel, control=123) for channel in range(16)))
    room.wait(1.0)
    assert not room.sounding


def _command(data: bytes) -> None:
    room = Room()

    async def keep() -> dict[str, object]:
        return {}

    commands = Commands(room.session, lambda: {}, lambda: {}, keep, None)
    answer = asyncio.run(control._answer(data, commands.answer))
    json.dumps(answer)
    assert "could not answer" not in answer.get("error", "")
