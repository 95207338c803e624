"""Takes: what was played, as a MIDI file that also says how to play it again.

A take is a type-1 file: a conductor track with the tempo map, a track `chords` (what the human played) and a
track `solo` (what was sent). The conductor track also holds the log, what the engine was asked and what it
made, as text events of at most TEXT_LIMIT characters: each is `jazzd-take:` and a part of the base64 of the
zlib of JSON.
"""

import base64
import binascii
import struct
import zlib
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import mido
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from jazzd.engine.protocol import Note, Revise
from jazzd.errors import JazzdError, MidiError, plain
from jazzd.files import replacing

MARK = "jazzd-take:"
TEXT_LIMIT = 32_000
LARGEST_FILE, LARGEST_LOG = 64 << 20, 128 << 20
"""Bytes; a file that says more is not one of ours."""
TICKS_PER_BEAT = 960
USUAL_BPM = 120.0

PLAYED = struct.Struct(">d3s")
"""Seconds, and a MIDI message: a take may hold many, and one of mido's is twenty times as large."""
Told = tuple[int, Sequence[bytes]]
"""A passage as its seed and the lines of the protocol: a fifth of the memory."""


class Passage(BaseModel):
    """A timeline of the engine, from its `Begin`: revisions and the notes made after each, as they came."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = Field(ge=0, le=2**32 - 1)
    events: tuple[Annotated[Revise | Note, Field(discriminator="kind")], ...] = ()


class Log(BaseModel):
    """All that the notes hang on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    jazzd: str = ""
    base: str = ""
    fingerprint: str = ""
    """Of the base's weights."""
    dtype: str = ""
    device: str = ""
    styles: dict[str, str] = Field(default_factory=dict)
    """Fingerprints of the style files by the names that the mixes use."""
    passages: tuple[Passage, ...] = ()


def when(played: bytes | bytearray, place: int = 0) -> float:
    """The seconds of the PLAYED that begins there."""
    at: float = PLAYED.unpack_from(played, place)[0]
    return at


@dataclass(frozen=True)
class Take:
    log: Log
    """What there is to know but the passages."""
    passages: Sequence[Told] = ()
    chords: bytes = b""
    """PLAYED, one after the other in the order in which they came."""
    solo: bytes = b""
    tempi: Sequence[tuple[float, float]] = ()
    """Seconds, and beats a minute from then on."""
    began: float = 0.0
    ended: float = 0.0
    """Seconds of the same clock; keys and pedals that are down at the end, go up."""
    bar: int = 4
    """Beats of a bar."""

    @property
    def notes(self) -> int:
        """How many the solo has."""
        return sum(_presses(message) for _, message in PLAYED.iter_unpack(self.solo))


def write(path: Path, take: Take) -> None:
    """Writes the file as a whole or not at all. Raises MidiError where it cannot be written."""
    clock = _Clock(take.began, take.tempi)
    conductor = [(tick, mido.MetaMessage("set_tempo", tempo=tempo)) for tick, tempo in clock.changes]
    conductor += [(0, mido.MetaMessage("time_signature", numerator=take.bar, denominator=4))]
    conductor += [(0, mido.MetaMessage("text", text=MARK + part)) for part in _packed(take)]
    tracks = [
        _track("jazzd", sorted(conductor, key=lambda event: event[0])),
        _track("chords", _ticks(clock, _closed(take.chords, take.ended))),
        _track("solo", _ticks(clock, _closed(take.solo, take.ended))),
    ]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as partial:
            mido.MidiFile(type=1, ticks_per_beat=TICKS_PER_BEAT, tracks=tracks).save(partial)
    except OSError as error:
        raise MidiError(f"cannot keep the take in {path}: {error.strerror}; set takes.folder") from None


def read(path: Path) -> Log:
    """The log of a take. Raises JazzdError for a file that cannot be read, or is none."""
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise MidiError(f"{path} is no take of jazzd: it is larger than {LARGEST_FILE >> 20} MiB")
        file = mido.MidiFile(path, clip=True)
    except OSError as error:
        raise MidiError(f"{path} cannot be read: {error.strerror or error}") from None
    except JazzdError:
        raise
    except Exception as error:  # mido raises whatever the broken byte leads to
        reason = str(error) or "it ends too early"
        raise MidiError(f"{path} is not a MIDI file that can be read: {reason}") from None
    parts = [
        message.text.removeprefix(MARK)
        for track in file.tracks
        for message in track
        if message.type == "text" and message.text.startswith(MARK)
    ]
    if not parts:
        raise MidiError(f"{path} holds no take: only files of `jazzd keep` and `--record` can be replayed")
    try:
        return _unpacked("".join(parts))
    except ValidationError as error:
        first = error.errors()[0]
        if first["loc"] == ("version",):
            raise MidiError(
                f"{path}: its take is of version {first['input']!s:.20}; this jazzd has 1"
            ) from None
        raise MidiError(f"{path}: its take is damaged ({plain(first)})") from None
    except (ValueError, zlib.error) as error:  # binascii's errors are ValueErrors
        raise MidiError(f"{path}: its take is damaged ({error})") from None


def _closed(played: bytes, end: float) -> Iterator[tuple[float, bytes]]:
    """Releases of what was struck before all this go, releases of what stays down come."""
    down: dict[tuple[int, int], None] = {}
    for at, message in PLAYED.iter_unpack(played):
        key = _key(message)
        if _presses(message):
            down[key] = None
        elif key in down:
            del down[key]
        else:
            continue
        end = max(end, at)
        yield at, message
    yield from ((end, bytes((*key, 0))) for key in down)


def _key(message: bytes) -> tuple[int, int]:
    """Which key or pedal it is, as the two bytes that its release begins with."""
    status, number, _ = message
    return (status if _is_pedal(message) else 0x80 | status & 0x0F), number


def _is_pedal(message: bytes) -> bool:
    return message[0] & 0xF0 == 0xB0


def _presses(message: bytes) -> bool:
    return (_is_pedal(message) or message[0] & 0xF0 == 0x90) and message[2] > 0


def _packed(take: Take) -> list[str]:
    packer = zlib.compressobj()  # piece by piece: the whole log is large
    packed = b"".join(packer.compress(piece) for piece in _pieces(take)) + packer.flush()
    text = base64.b64encode(packed).decode()
    return [text[start : start + TEXT_LIMIT] for start in range(0, len(text), TEXT_LIMIT)]


def _pieces(take: Take) -> Iterator[bytes]:
    """The log as JSON."""
    yield take.log.model_dump_json(exclude={"passages"}).encode().removesuffix(b"}") + b',"passages":['
    for number, (seed, lines) in enumerate(take.passages):
        yield b'%s{"seed":%d,"events":[' % (b"," if number else b"", seed)
        for place, line in enumerate(lines):
            yield b"," + line if place else line
        yield b"]}"
    yield b"]}"


def _unpacked(text: str) -> Log:
    packed = zlib.decompressobj()
    try:
        data = packed.decompress(base64.b64decode(text, validate=True), LARGEST_LOG)
    except binascii.Error as error:
        raise ValueError(str(error)) from None
    if packed.unconsumed_tail or not packed.eof:
        raise ValueError("it is cut off, or far too large")
    return Log.model_validate_json(data)


class _Clock:
    """Seconds to the ticks of a tempo map that begins at `began`."""

    def __init__(self, began: float, tempi: Sequence[tuple[float, float]]) -> None:
        self._places: list[tuple[float, float, float]] = []  # second, tick, ticks a second
        self.changes: list[tuple[int, int]] = []
        """Tick, and microseconds a beat."""
        for at, bpm in sorted({began: USUAL_BPM, **{max(began, at): bpm for at, bpm in tempi}}.items()):
            tick = self._exact(at) if self._places else 0.0
            self._places.append((at, tick, TICKS_PER_BEAT * bpm / 60))
            self.changes.append((round(tick), mido.bpm2tempo(bpm)))

    def tick(self, at: float) -> int:
        return max(0, round(self._exact(at)))

    def _exact(self, at: float) -> float:
        place = bisect_right(self._places, at, key=lambda place: place[0])
        since, tick, speed = self._places[max(0, place - 1)]
        return tick + (at - since) * speed


def _ticks(clock: _Clock, events: Iterable[tuple[float, bytes]]) -> Iterator[tuple[int, mido.Message]]:
    return ((clock.tick(at), mido.Message.from_bytes(message)) for at, message in events)


def _track(title: str, events: Iterable[tuple[int, mido.Message]]) -> Iterator[mido.Message]:
    """Messages with the ticks since the one before, in the order of `events`, made as they are written."""
    yield mido.MetaMessage("track_name", name=title)
    now = 0
    for tick, message in events:
        yield message.copy(time=max(0, tick - now))  # two drivers may stamp out of turn
        now = max(now, tick)
