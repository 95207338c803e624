"""Where the settings come from: daemon.toml, beaten by JAZZD_* variables, beaten by the command line."""

import os
import stat
import sys
import tempfile
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomlkit
import tomlkit.exceptions
from platformdirs import user_config_path, user_music_path, user_runtime_path
from pydantic import BaseModel, ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsError,
    TomlConfigSettingsSource,
)

from jazzd.errors import ConfigError, JazzdError, place, plain
from jazzd.files import replacing
from jazzd.settings import Controls, Scene, Settings

FILE_NAME = "daemon.toml"
SHORTEST_TOKEN, LONGEST_TOKEN = 16, 1024
LONGEST_SOCKET = 103
"""Bytes of a path that a Unix socket can have on every system (unix(7): 108 on Linux, 104 on macOS)."""


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
    except RecursionError:
        raise ConfigError(f"{file}: its lists or tables lie too deep in each other") from None
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

    def absolute(section: str, key: str, path: Path) -> Path:
        named_by_file = file and _origin((section, key), file, given) == str(file)
        return (file.parent if file and named_by_file else Path.cwd()) / path.expanduser()

    styles, solo, takes, engine = settings.styles, settings.solo, settings.takes, settings.engine
    folder = takes.folder and str(absolute("takes", "folder", Path(takes.folder)))
    token = engine.token_file and str(absolute("engine", "token_file", Path(engine.token_file)))
    sheet = str(absolute("solo", "chart", Path(solo.chart))) if solo.chart.endswith(".json") else solo.chart
    return settings.model_copy(
        update={
            "styles": styles.model_copy(update={"folder": absolute("styles", "folder", styles.folder)}),
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

    Raises ConfigError when `path` is no file, or what has the name of one of the others is none.
    """
    usual = (Path.cwd() / FILE_NAME, _users_own())
    file = path or next((place for place in usual if os.path.lexists(place)), None)
    if file is None or file.is_file():
        return file and file.absolute()
    if file.is_dir():
        raise ConfigError(f"{file}: it is a folder; name the file in it with --config")
    if os.path.lexists(file):
        raise ConfigError(f"{file}: it is no file, or a link that leads to none; mend it or take it away")
    raise ConfigError(f"{file}: there is no such file; put it there, or name another with --config")


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
    except (RecursionError, tomlkit.exceptions.TOMLKitError) as error:
        raise ConfigError(f"{file} has a mistake in it: {error}; mend that, and learn again") from None
    except OSError as error:
        lines = ", ".join(f"{control} = {number}" for control, number in numbers.items())
        raise ConfigError(f"{file} cannot be written: {error}; put into its [control]: {lines}") from None
    return file


def _origin(where: tuple[object, ...], file: Path | None, given: Mapping[str, Any]) -> str:
    """Where the value at (section, key) came from: the command line, a variable or the file."""
    section, key = (*map(str, where), "", "")[:2]
    variable = f"JAZZD_{section}__{key}".upper()
    if key in given.get(section, {}):
        return "command line"
    if variable in (name.upper() for name in os.environ):
        return variable
    return str(file) if file else "settings"


def _sentence(error: ValidationError, file: Path | None, given: Mapping[str, Any]) -> str:
    first = error.errors(include_url=False)[0]
    where, value, key = first["loc"], first["input"], place(first)
    if first["type"] == "extra_forbidden":
        section = Settings.model_fields.get(str(where[0]))
        fields = Settings.model_fields
        if len(where) > 1 and section is not None:
            fields = Scene.model_fields if where[0] == "scene" else type(section.default).model_fields
        reason = f"there is no such key; allowed are {', '.join(fields)}"
    elif isinstance(value, BaseModel | dict):
        reason = plain(first)
    else:
        reason = f"{value!r} is not allowed: {plain(first)}"
    return f"{_origin(where, file, given)}: {key and f'{key}: '}{reason}"


def socket_path() -> Path:
    """Where the user's one daemon listens for commands: JAZZD_SOCKET, else in the private runtime folder."""
    if chosen := os.environ.get("JAZZD_SOCKET"):
        path = Path(chosen).absolute()
        if len(os.fsencode(path)) > LONGEST_SOCKET:
            raise ConfigError(
                f"JAZZD_SOCKET: {path} is longer than the {LONGEST_SOCKET} bytes of a socket; choose another"
            )
        return path
    if sys.platform == "win32":  # the user's own, as all below it
        folder = user_runtime_path("jazzd", appauthor=False)
        folder.mkdir(parents=True, exist_ok=True)
        return folder / "control.sock"
    folder = _runtime_folder()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.lstat()
    except OSError as error:
        raise JazzdError(f"{folder} cannot be made: {error.strerror}; set JAZZD_SOCKET") from None
    # The temp folder is everybody's: somebody else could have put this name there first.
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise JazzdError(f"{folder} is not a private folder of yours; remove it or set JAZZD_SOCKET")
    return folder / "control.sock"


def _runtime_folder() -> Path:
    """The user's own; cron and su do not say where the session has it, whose daemon they look for."""
    if runtime := os.environ.get("XDG_RUNTIME_DIR"):
        return Path(runtime) / "jazzd"
    session = Path(f"/run/user/{os.getuid()}")
    if os.access(session, os.W_OK):
        return session / "jazzd"
    return Path(tempfile.gettempdir()) / f"jazzd-{os.getuid()}"
