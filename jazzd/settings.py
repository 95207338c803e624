"""What daemon.toml can say: every key, with its default and what is allowed."""

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

from jazzd.errors import ConfigError
from jazzd.mix import shares
from jazzd.music import chart
from jazzd.music.grid import BEATS_PER_BAR, LONGEST_BAR

LOOPBACK = ("127.0.0.1", "localhost", "::1")
NARROWEST = 11
"""Semitones from the lowest to the highest pitch of a solo, at least."""
RESERVED_CONTROLS = frozenset({0, 6, 32, 38, 64, *range(96, 102), *range(120, 128)})
"""Bank select, data entry, sustain, (N)RPN and channel modes mean something else to every keyboard."""


def _is_place(value: str) -> bool:
    host, _, port = value.rpartition(":")
    return bool(host) and port.isdecimal() and int(port) <= 65535


def _host_and_port(value: str) -> str:
    if value and not _is_place(value):
        raise ValueError('it is written "HOST:PORT", for example "127.0.0.1:9080", or ""')
    if value and value.rpartition(":")[0].strip("[]") not in LOOPBACK:
        raise ValueError(
            "MIDI knows no password, so only this machine may connect; listen on 127.0.0.1, and let others "
            "in by a tunnel (ssh -L)"
        )
    return value


def _engine_address(value: str) -> str:
    kind, _, place = value.partition(":")
    if kind == "unix" and not place:
        raise ValueError("the path after unix: is missing")
    if value and kind != "unix" and not (value.startswith("tcp://") and _is_place(place[2:])):
        raise ValueError('it is written "unix:PATH", "tcp://HOST:PORT" or ""')
    return value


def _free_control(value: int) -> int:
    if value in RESERVED_CONTROLS:
        raise ValueError(f"MIDI keeps CC {value} for itself, with 0, 6, 32, 38, 64, 96-101 and 120-127")
    return value


def _mix(value: str) -> str:
    try:
        shares(value)
    except ConfigError as error:
        raise ValueError(str(error)) from None
    return value


def _scene_name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", value):
        raise ValueError("a scene's name is 1 to 64 letters, digits, - and _")
    return value


def _chart(value: str) -> str:
    if value and not value.endswith(".json"):
        try:
            chart.read(value)
        except ConfigError as error:
            raise ValueError(str(error)) from None
    return value


PortName = Annotated[str, Field(min_length=1, max_length=128)]
HostPort = Annotated[str, AfterValidator(_host_and_port)]
EngineAddress = Annotated[str, AfterValidator(_engine_address)]
MidiPitch = Annotated[int, Field(ge=0, le=127)]
Control = Annotated[int, Field(ge=1, le=119), AfterValidator(_free_control)]
Mix = Annotated[str, AfterValidator(_mix)]
Chart = Annotated[str, AfterValidator(_chart)]
SceneName = Annotated[str, AfterValidator(_scene_name)]
Temperature = Annotated[float, Field(ge=0.0, le=2.0)]
TopP = Annotated[float, Field(gt=0.0, le=1.0)]
Mode = Literal["follow", "trade"]
Start = Literal["now", "beat", "bar"]
Bars = Annotated[int, Field(ge=0, le=64)]
Choruses = Annotated[int, Field(ge=1, le=16)]
BeatsPerBar = Annotated[int, Field(ge=2, le=LONGEST_BAR)]
Percent = Annotated[float, Field(ge=0.0, le=100.0)]
Swing = Annotated[float, Field(ge=50.0, le=75.0)]
Layback = Annotated[float, Field(ge=0.0, le=127.0)]


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _stands_for_what_it_says(cls, value: object, info: ValidationInfo) -> object:
        if isinstance(value, bool) and cls.model_fields[str(info.field_name)].annotation is not bool:
            raise ValueError("true and false are no numbers, and no words")
        if isinstance(value, str) and "\0" in value:
            raise ValueError("no name has the character NUL in it")
        return value


class Midi(Section):
    backend: Literal["auto", "alsa", "jack", "coremidi", "winmm", "tcp", "none"] = "auto"
    input: PortName = "loopMIDI Port 1"
    output: PortName = "loopMIDI Port 2"
    tcp_listen: HostPort = ""
    lead_ms: float = Field(default=1.5, ge=0.0, le=100.0)

    @model_validator(mode="after")
    def _tcp_needs_an_address(self) -> "Midi":
        if self.backend == "tcp" and not self.tcp_listen:
            raise ValueError('backend "tcp" needs midi.tcp_listen, for example "127.0.0.1:9080"')
        return self


class Engine(Section):
    base: Annotated[str, Field(min_length=1)] = "builtin"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    address: EngineAddress = ""
    token_file: str = ""


class Styles(Section):
    folder: Path = Path("styles")
    default: str = ""
    max_resident: int = Field(default=32, ge=1, le=256)


class Input(Section):
    split: MidiPitch = 0
    chord_channel: int = Field(default=0, ge=0, le=16)
    yield_beats: float = Field(default=2.0, ge=0.25, le=32.0)
    thru: bool = False


class Solo(Section):
    mode: Mode = "follow"
    chords_per_phrase: int = Field(default=4, ge=1, le=64)
    bars_per_phrase: Bars = 0
    choruses: Choruses = 1
    chart: Chart = ""
    start: Start = "now"
    temperature: Temperature = 0.9
    top_p: TopP = 0.95
    low: MidiPitch = 48
    high: MidiPitch = 96
    channel: int = Field(default=1, ge=1, le=16)
    program: int = Field(default=0, ge=0, le=127)

    @model_validator(mode="after")
    def _range_holds_every_pitch_class(self) -> "Solo":
        # Narrower, and a pitch-class weight of 0 could forbid every pitch there is.
        if self.high - self.low < NARROWEST:
            raise ValueError(f"high must be at least {NARROWEST} semitones above low")
        return self


class Tempo(Section):
    source: Literal["auto", "clock", "link", "chords", "bpm"] = "auto"
    bpm: float = Field(default=120.0, ge=30.0, le=300.0)
    beats_per_bar: BeatsPerBar = BEATS_PER_BAR
    count_in: int = Field(default=0, ge=0, le=16)
    tap_key: MidiPitch = 0


class Feel(Section):
    quantize: Percent = 0.0
    swing: Swing = 50.0
    layback_ms: Layback = 0.0


class Takes(Section):
    folder: str = ""


class Scene(Section):
    """What a scene sets; None: as it was."""

    name: SceneName
    program: int | None = Field(default=None, ge=0, le=127)
    style: Mix | None = None
    mode: Mode | None = None
    start: Start | None = None
    bars_per_phrase: Bars | None = None
    choruses: Choruses | None = None
    beats_per_bar: BeatsPerBar | None = None
    temperature: Temperature | None = None
    density: float | None = Field(default=None, ge=-1.0, le=1.0)
    harmony: float | None = Field(default=None, ge=0.0, le=1.0)
    low: MidiPitch | None = None
    high: MidiPitch | None = None
    quantize: Percent | None = None
    swing: Swing | None = None
    layback_ms: Layback | None = None


class Controls(Section):
    style: Control = 20
    temperature: Control = 21
    density: Control = 22
    harmony: Control = 23
    blend: Control = 24
    mode: Control = 25
    tap: Control = 26
    keep: Control = 27
    quantize: Control = 28
    swing: Control = 29
    layback_ms: Control = 30

    @model_validator(mode="after")
    def _one_number_each(self) -> "Controls":
        names: dict[int, str] = {}
        for name, number in self.model_dump().items():
            if (other := names.setdefault(number, name)) != name:
                raise ValueError(f"{other} and {name} both have CC {number}; give one of them another")
        return self


class Settings(BaseSettings):
    """Everything daemon.toml can say, with its units in the comments there."""

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", env_prefix="JAZZD_", env_nested_delimiter="__", allow_inf_nan=False
    )

    midi: Midi = Midi()
    engine: Engine = Engine()
    styles: Styles = Styles()
    input: Input = Input()
    solo: Solo = Solo()
    tempo: Tempo = Tempo()
    feel: Feel = Feel()
    control: Controls = Controls()
    takes: Takes = Takes()
    scene: tuple[Scene, ...] = Field(default=(), max_length=128)

    @model_validator(mode="after")
    def _scenes_fit(self) -> "Settings":
        for scene in self.scene:
            low = self.solo.low if scene.low is None else scene.low
            high = self.solo.high if scene.high is None else scene.high
            if high - low < NARROWEST:
                raise ValueError(
                    f"the scene {scene.name} plays from {low} to {high} where [solo] says what it does not; "
                    f"high must be at least {NARROWEST} semitones above low"
                )
        return self

    @model_validator(mode="after")
    def _scenes_differ(self) -> "Settings":
        for key in ("name", "program"):
            values = [getattr(scene, key) for scene in self.scene if getattr(scene, key) is not None]
            if twice := next((value for value in values if values.count(value) > 1), None):
                raise ValueError(f"two scenes have the {key} {twice!r}; give one of them another")
        return self
