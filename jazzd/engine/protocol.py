"""What player and engine say to each other: one JSON object a line, checked on arrival.

The player owns the clock, the engine has none: every time is a tick (10 ms) of the timeline that the
last `Begin` opened, and the player says where its play head is. So the two may sit on machines whose clocks
disagree. Whatever changes the music (a chord, a knob, a style) is one message, `Revise`, which carries the
whole state: an engine that was restarted needs nothing but the next one.
"""

import asyncio
import socket
from typing import Annotated, Literal, NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from jazzd.errors import EngineError, place
from jazzd.music.grid import BEATS_PER_BAR, LONGEST_BAR

T = TypeVar("T")
VERSION = 4
LINE_LIMIT = 2**20
"""Longest line in bytes that either side accepts."""
KEEP_ALIVE = {"TCP_KEEPIDLE": 5, "TCP_KEEPINTVL": 2, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": 11_000}
"""After 5 s without a word the other side is asked for a sign of life, thrice in 6 s (tcp(7))."""
IN_USE = "another player is connected"
"""Why an engine refuses a second one."""

Tick = Annotated[int, Field(ge=0, le=2**31 - 1)]
Pitch = Annotated[int, Field(ge=0, le=127)]
Velocity = Annotated[int, Field(ge=1, le=127)]


class Key(NamedTuple):
    """A key of the human's chord: struck at `onset`, thought to last `duration` ticks."""

    onset: Tick
    duration: Annotated[int, Field(ge=1, le=1000)]
    pitch: Pitch
    velocity: Velocity
    solo: bool = False
    """It belongs to the human's own solo, not to the chords."""


class Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


MOST_KEYS_AHEAD, MOST_STYLES = 32, 8
"""Keys of one chord to come, styles of one mix."""
Weights = Annotated[tuple[Annotated[float, Field(ge=0.0, le=1e6)], ...], Field(min_length=12, max_length=12)]
"""What the chances of the pitch classes (C first) are multiplied by; 0 forbids."""
EVEN: Weights = (1.0,) * 12


class Sampling(Message):
    """How the solo is drawn."""

    temperature: float = Field(default=0.9, ge=0.0, le=2.0)
    top_p: float = Field(default=0.95, gt=0.0, le=1.0)
    low: Pitch = 48
    high: Pitch = 96
    density: float = Field(default=0.0, ge=-1.0, le=1.0)
    weights: Weights = EVEN
    strong: Weights | None = None
    """The weights on strong beats; None: no others."""


class Beats(Message):
    """Where the strong beats are, in ticks: one at `origin`, and one every `length`."""

    origin: float
    length: float = Field(gt=0.0, le=10_000.0)
    bar: int = Field(default=BEATS_PER_BAR, ge=1, le=LONGEST_BAR)
    """Beats of a bar, of which `grid.strong` says how many lie between two strong ones."""


class Change(Message):
    """A chord that is known before it sounds: its keys become rows when the solo gets there."""

    at: Tick
    keys: tuple[Key, ...] = Field(default=(), max_length=MOST_KEYS_AHEAD)
    weights: Weights = EVEN
    strong: Weights | None = None


StyleName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
Share = Annotated[float, Field(ge=0.0, le=2.0)]


Mix = Annotated[tuple[tuple[StyleName, Share], ...], Field(max_length=MOST_STYLES)]


class StyleSettings(Message):
    """What a style would like; None where it has no wish."""

    temperature: float | None = Field(default=None, ge=0.0, le=2.0)
    top_p: float | None = Field(default=None, gt=0.0, le=1.0)
    low: Pitch | None = None
    high: Pitch | None = None
    density: float | None = Field(default=None, ge=-1.0, le=1.0)


class Style(Message):
    """What became of a file in the styles folder."""

    name: str
    status: Literal["ready", "loading", "rejected", "incompatible"]
    reason: str = ""
    program: int | None = Field(default=None, ge=0, le=127)
    """The Program Change that chooses it."""
    settings: StyleSettings = StyleSettings()
    fingerprint: str = ""
    """Of its file."""


class Hello(Message):
    """Player -> engine, first line."""

    kind: Literal["hello"] = "hello"
    version: int = VERSION
    token: str = ""


class Begin(Message):
    """Player -> engine: a new, empty timeline starts at tick 0."""

    kind: Literal["begin"] = "begin"
    seed: int = Field(ge=0, le=2**32 - 1)


class Revise(Message):
    """Player -> engine: forget what comes after note `keep`, and go on like this.

    Notes made from here on carry `epoch`; the player drops what still arrives from an older one.
    """

    kind: Literal["revise"] = "revise"
    epoch: int = Field(ge=0)
    now: Tick
    keep: int = Field(default=-1, ge=-1)
    """Number of the last note that stays, -1 for none."""
    floor: Tick
    """The next note begins no earlier."""
    answer: bool = False
    """The next note begins exactly at `floor`: the first of an answer to a chord."""
    playing: bool = True
    """False: forget, and rest until the next revision."""
    keys: tuple[Key, ...] = Field(default=(), max_length=128)
    """What the human struck since the last revision."""
    sampling: Sampling = Sampling()
    mix: Mix = ()
    """The styles that the next notes are in, and how much of each; none for the plain base."""
    ahead: tuple[Change, ...] = Field(default=(), max_length=256)
    """The chords to come, in order. Those up to `floor` count as struck; sending one again does nothing."""
    end: Tick | None = None
    """No note begins here or later."""
    beats: Beats | None = None


class Advance(Message):
    """Player -> engine: the play head is at `now`; notes are wanted up to `until`."""

    kind: Literal["advance"] = "advance"
    now: Tick
    until: Tick


class Ping(Message):
    """Player -> engine; answered by `Pong` from the thread that decodes, so it proves that music can come."""

    kind: Literal["ping"] = "ping"
    n: int


class Ready(Message):
    """Engine -> player, after `Hello`, when the first note could be made at once."""

    kind: Literal["ready"] = "ready"
    base: str
    device: str
    dtype: str
    parameters: int
    fingerprint: str = ""
    """Of the base's weights."""


class Styles(Message):
    """Engine -> player, after `Ready` and whenever it changes: the whole styles folder."""

    kind: Literal["styles"] = "styles"
    styles: tuple[Style, ...] = ()


class Note(Message):
    """Engine -> player: the timeline's note `number`, counted from 0; a revision goes on from keep + 1."""

    kind: Literal["note"] = "note"
    epoch: int
    number: int = Field(ge=0)
    onset: Tick
    duration: int = Field(ge=1)
    pitch: Pitch
    velocity: Velocity
    floor: Tick = 0
    """Where it could have begun."""
    read: int = 0
    """How far the next window was read by then. With `floor` all that hangs on the time of day: what was read
    before a style was chosen, was read without it."""
    read_before: tuple[tuple[int, int, bool], ...] = ()
    """The same just before each revision (its epoch) since the last note, and whether the turn before it had
    come to its end."""


class Pong(Message):
    kind: Literal["pong"] = "pong"
    n: int


class Failed(Message):
    """Engine -> player: the engine cannot go on, in one sentence, and is about to exit."""

    kind: Literal["failed"] = "failed"
    reason: str


ToEngine = Annotated[Hello | Begin | Revise | Advance | Ping, Field(discriminator="kind")]
ToPlayer = Annotated[Ready | Styles | Note | Pong | Failed, Field(discriminator="kind")]
_TO_ENGINE: TypeAdapter[ToEngine] = TypeAdapter(ToEngine)
_TO_PLAYER: TypeAdapter[ToPlayer] = TypeAdapter(ToPlayer)


def line(message: Message) -> bytes:
    """The message as one line of UTF-8 JSON, newline included."""
    return message.model_dump_json().encode() + b"\n"


def read_by_engine(data: bytes) -> ToEngine:
    """The player's message in `data` (one line). Raises EngineError if it is not one."""
    return _parse(_TO_ENGINE, data)


def read_by_player(data: bytes) -> ToPlayer:
    """The engine's message in `data` (one line). Raises EngineError if it is not one."""
    return _parse(_TO_PLAYER, data)


def keep_alive(writer: asyncio.StreamWriter) -> None:
    """Have the system find out when the machine of the other side has gone without a word."""
    connection = writer.get_extra_info("socket")
    if connection.family not in (socket.AF_INET, socket.AF_INET6):
        return
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in KEEP_ALIVE.items():
        if hasattr(socket, name):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _parse(adapter: TypeAdapter[T], data: bytes) -> T:
    try:
        return adapter.validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise EngineError(f"not a jazzd message: {place(first) or 'line'}: {first['msg']}") from None
