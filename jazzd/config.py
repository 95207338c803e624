"""The settings: daemon.toml, beaten by JAZZD_* variables, beaten by the command line."""

import math
import os
import stat
import sys
import tempfile
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import tomlkit
import tomlkit.exceptions
from platformdirs import user_config_path, user_music_path, user_runtime_path
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from jazzd.errors import ConfigError, JazzdError
from jazzd.files import replacing
from jazzd.music import chart

FILE_NAME = "daemon.toml"
SHORTEST_TOKEN, LONGEST_TOKEN = 16, 1024
NARROWEST = 11
"""Semitones from the lowest to the highest pitch of a solo, at least."""
RESERVED_CONTROLS = frozenset({0, 6, 32, 38, 64, *range(96, 102)})
"""Bank select, data entry, sustain and (N)RPN mean something else to every keyboard."""
WANTED = {
    "model_": "a section with keys of its own",
    "int_": "a whole number",
    "float_": "a number",
    "finite_number": "a number",
    "string_type": "a text in quotes",
    "path_type": "a path in quotes",
    "tuple_type": "tables, each under [[scene]]",
}
"""What is wanted, by the beginning of the name of pydantic's error."""


def _host_and_port(value: str) -> str:
    host, _, port = value.rpartition(":")
    if value and not (host and port.isdecimal() and int(port) <= 65535):
        raise ValueError('it is written "HOST:PORT", for example "127.0.0.1:9080", or ""')
    return value


def _engine_address(value: str) -> str:
    if value.startswith("tcp://"):
        _host_and_port(value.removeprefix("tcp://"))
    elif value and not value.removeprefix("unix:"):
        raise ValueError("the path after unix: is missing")
    elif value and not value.startswith("unix:"):
        raise ValueError('it is written "unix:PATH", "tcp://HOST:PORT" or ""')
    return value


def _free_control(value: int) -> int:
    if value in RESERVED_CONTROLS:
        raise ValueError(f"MIDI keeps CC {value} for itself, with 0, 6, 32, 38, 64, 96-101 and 120-127")
    return value


def shares(style: str) -> dict[str, float]:
    """The styles in "NAME" or "NAME:SHARE,NAME:SHARE", and how much of each; none for "".

    Raises ConfigError when it is not written so.
    """
    mix: dict[str, float] = {}
    for part in style.split(",") if style else ():
        name, colon, share = part.strip().partition(":")
        try:
            mix[name] = float(share) if colon else 1.0
        except ValueError:
            mix[name] = math.nan
        if not name or not 0 <= mix[name] <= 1:
            raise ConfigError(f"{style!r}: write NAME, or NAME:SHARE,NAME:SHARE with shares from 0 to 1")
    return mix


def _mix(value: str) -> str:
    try:
        shares(value)
    except ConfigError as error:
        raise ValueError(str(error)) from None
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
Temperature = Annotated[float, Field(ge=0.0, le=2.0)]
TopP = Annotated[float, Field(gt=0.0, le=1.0)]
Mode = Literal["follow", "trade"]
Start = Literal["now", "beat", "bar"]
Bars = Annotated[int, Field(ge=0, le=64)]
Choruses = Annotated[int, Field(ge=1, le=16)]
Percent = Annotated[float, Field(ge=0.0, le=100.0)]
Swing = Annotated[float, Field(ge=50.0, le=75.0)]
Layback = Annotated[float, Field(ge=0.0, le=200.0)]


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


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
        _check_range(self.low, self.high)
        return self


class Tempo(Section):
    source: Literal["auto", "clock", "link", "chords", "bpm"] = "auto"
    bpm: float = Field(default=120.0, ge=30.0, le=300.0)
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

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
    program: int | None = Field(default=None, ge=0, le=127)
    style: Mix | None = None
    mode: Mode | None = None
    start: Start | None = None
    bars_per_phrase: Bars | None = None
    choruses: Choruses | None = None
    temperature: Temperature | None = None
    density: float | None = Field(default=None, ge=-1.0, le=1.0)
    harmony: float | None = Field(default=None, ge=0.0, le=1.0)
    low: MidiPitch | None = None
    high: MidiPitch | None = None
    quantize: Percent | None = None
    swing: Swing | None = None
    layback_ms: Layback | None = None

    @model_validator(mode="after")
    def _range_holds_every_pitch_class(self) -> "Scene":
        if self.low is not None and self.high is not None:
            _check_range(self.low, self.high)
        return self


def _check_range(low: int, high: int) -> None:
    # Narrower, and a pitch-class weight of 0 could forbid every pitch there is.
    if high - low < NARROWEST:
        raise ValueError(f"high must be at least {NARROWEST} semitones above low")


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
    def _scenes_differ(self) -> "Settings":
        for key in ("name", "program"):
            values = [getattr(scene, key) for scene in self.scene if getattr(scene, key) is not None]
            if twice := next((value for value in values if values.count(value) > 1), None):
                raise ValueError(f"two scenes have the {key} {twice!r}; give one of them another")
        return self


def load(path: Path | None = None, overrides: Mapping[str, Mapping[str, object]] | None = None) -> Settings:
    """The settings from `path`, else ./daemon.toml, else the user's, else the defaults.

    `overrides` is what the command line said, by section and key. Raises ConfigError naming file and key.
    """
    file = find(path)

    class Layers(Settings):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, file)

    given: dict[str, Any] = dict(overrides or {})
    _check_variables()
    try:
        settings: Settings = Layers(**given)
    except ValidationError as error:
        raise ConfigError(_sentence(error, file, given)) from None
    except SettingsError as error:
        raise ConfigError(f"environment: {error}; write JAZZD_SECTION__KEY=value") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} is not a TOML file: {error}") from None
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror}") from None

    return _placed(settings, file, given)


def read_token(file: Path) -> str:
    """The word that player and engine share, from a file that only its user may read. Raises ConfigError."""
    try:
        token = file.read_text().strip()
        private = sys.platform == "win32" or not file.stat().st_mode & 0o077
    except (OSError, UnicodeDecodeError) as error:
        reason = (isinstance(error, OSError) and error.strerror) or "it is no text"
        raise ConfigError(f"the token file {file} cannot be read: {reason}") from None
    if not private:
        raise ConfigError(f"{file} can be read by others; chmod 600 it, and choose another token")
    if not SHORTEST_TOKEN <= len(token) <= LONGEST_TOKEN:
        raise ConfigError(f"{file}: a token is {SHORTEST_TOKEN} to {LONGEST_TOKEN} characters long")
    return token


def _placed(settings: Settings, file: Path | None, given: Mapping[str, Any]) -> Settings:
    """With every path absolute: one that the file names is relative to the file."""

    def place(section: str, key: str, path: Path) -> Path:
        named_by_file = file and _origin((section, key), file, given) == str(file)
        return (file.parent if file and named_by_file else Path.cwd()) / path.expanduser()

    styles, solo, takes, engine = settings.styles, settings.solo, settings.takes, settings.engine
    folder = takes.folder and str(place("takes", "folder", Path(takes.folder)))
    token = engine.token_file and str(place("engine", "token_file", Path(engine.token_file)))
    sheet = str(place("solo", "chart", Path(solo.chart))) if solo.chart.endswith(".json") else solo.chart
    return settings.model_copy(
        update={
            "styles": styles.model_copy(update={"folder": place("styles", "folder", styles.folder)}),
            "takes": takes.model_copy(update={"folder": folder or str(user_music_path() / "jazzd")}),
            "solo": solo.model_copy(update={"chart": sheet}),
            "engine": engine.model_copy(update={"token_file": token}),
        }
    )


def _check_variables() -> None:
    """Raises ConfigError for a JAZZD_SECTION__KEY of no section: pydantic would not see it."""
    for name in os.environ:
        section, found, _ = name.upper().removeprefix("JAZZD_").partition("__")
        if name.upper().startswith("JAZZD_") and found and section.lower() not in Settings.model_fields:
            raise ConfigError(
                f"{name}: there is no section {section.lower()}; there are {', '.join(Settings.model_fields)}"
            )


def find(path: Path | None = None) -> Path | None:
    """The file that settings come from: `path`, else ./daemon.toml, else the user's; None without one.

    Raises ConfigError when `path` is no file.
    """
    if path is not None:
        if path.is_dir():
            raise ConfigError(f"{path}: it is a folder; name the file in it")
        if not path.is_file():
            raise ConfigError(f"{path}: there is no such file; leave out --config to run on the defaults")
        return path.absolute()
    return next((place for place in (Path.cwd() / FILE_NAME, _users_own()) if place.is_file()), None)


def _users_own() -> Path:
    return user_config_path("jazzd") / FILE_NAME


def remember_controls(file: Path | None, numbers: Mapping[str, int]) -> Path:
    """Write the controls' CC numbers into a settings file, the user's own without one; returns the file.

    All else in it stays as it is, comments too. Raises ConfigError when it cannot be written.
    """
    file = file or _users_own()
    try:
        document = tomlkit.parse(file.read_text()) if file.exists() else tomlkit.document()
        section = document.setdefault("control", tomlkit.table())
        for control, number in numbers.items():
            if section.get(control, Controls.model_fields[control].default) != number:
                section[control] = number
        file.parent.mkdir(parents=True, exist_ok=True)
        with replacing(file) as partial:
            partial.write_text(tomlkit.dumps(document))
    except (OSError, tomlkit.exceptions.TOMLKitError) as error:
        raise ConfigError(f"{file} cannot be written: {error}; write the number there by hand") from None
    return file


def _origin(place: tuple[object, ...], file: Path | None, given: Mapping[str, Any]) -> str:
    """Where the value at (section, key) came from: the command line, a variable or the file."""
    section, key = (*map(str, place), "", "")[:2]
    variable = f"JAZZD_{section}__{key}".upper()
    if key in given.get(section, {}):
        return "command line"
    if variable in (name.upper() for name in os.environ):
        return variable
    return str(file) if file else "settings"


def _sentence(error: ValidationError, file: Path | None, given: Mapping[str, Any]) -> str:
    first = error.errors(include_url=False)[0]
    place, value = first["loc"], first["input"]
    key = ".".join(map(str, place))
    if first["type"] == "extra_forbidden":
        section = Settings.model_fields.get(str(place[0]))
        fields = Settings.model_fields
        if len(place) > 1 and section is not None:
            fields = Scene.model_fields if place[0] == "scene" else type(section.default).model_fields
        reason = f"there is no such key; allowed are {', '.join(fields)}"
    elif isinstance(value, BaseModel | dict):
        reason = _plain(first)
    else:
        reason = f"{value!r} is not allowed: {_plain(first)}"
    return f"{_origin(place, file, given)}: {key and f'{key}: '}{reason}"


def _plain(error: Mapping[str, Any]) -> str:
    """What pydantic found, in words for a musician."""
    kind, said = error["type"], error["msg"]
    for prefix, wanted in WANTED.items():
        if kind.startswith(prefix):
            return f"it must be {wanted}"
    said = said.removeprefix("Value error, ")
    return str(said.replace("Input should be", "it must be").replace("String should have", "it must have"))


def socket_path() -> Path:
    """Where the user's one daemon listens for commands: JAZZD_SOCKET, else in the private runtime folder."""
    if chosen := os.environ.get("JAZZD_SOCKET"):
        return Path(chosen).absolute()
    if sys.platform == "win32":  # the user's own, as all below it
        folder = user_runtime_path("jazzd", appauthor=False)
        folder.mkdir(parents=True, exist_ok=True)
        return folder / "control.sock"
    if runtime := os.environ.get("XDG_RUNTIME_DIR"):
        folder = Path(runtime) / "jazzd"
    else:
        folder = Path(tempfile.gettempdir()) / f"jazzd-{os.getuid()}"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.lstat()
    # The temp folder is everybody's: somebody else could have put this name there first.
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise JazzdError(f"{folder} is not a private folder of yours; remove it or set JAZZD_SOCKET")
    return folder / "control.sock"
