"""What can go wrong, one class per part. The user sees the one sentence; a traceback is a bug."""

from collections.abc import Mapping
from typing import Any

WANTED = {
    "model_": "a section with keys of its own",
    "int_": "a whole number",
    "float_": "a number",
    "finite_number": "a number",
    "string_type": "a text in quotes",
    "path_type": "a path in quotes",
    "tuple_type": "tables, each under [[scene]]",
    "list_type": "a list",
    "too_short": "a list with something in it",
    "json_invalid": "JSON, which it is not",
}
"""What is wanted, by the beginning of the name of pydantic's error."""


class JazzdError(Exception):
    """Could not do it: the message says what, where, and what to do. Exit code 1."""


class ConfigError(JazzdError):
    """A setting, a command-line value or daemon.toml is wrong. Exit code 2."""


class MidiError(JazzdError):
    """A MIDI port, transport or file cannot be used."""


class StyleError(JazzdError):
    """A style file is not one, or does not fit the base."""


class ModelError(JazzdError):
    """A checkpoint, a base folder or a device cannot be used."""


class EngineError(JazzdError):
    """The engine process cannot be reached, or spoke out of turn."""


def plain(finding: Mapping[str, Any]) -> str:
    """One of pydantic's errors, in words for a musician."""
    kind, said = finding["type"], finding["msg"]
    for prefix, wanted in WANTED.items():
        if kind.startswith(prefix):
            return f"it must be {wanted}"
    if kind == "missing":
        return "it is missing"
    said = said.removeprefix("Value error, ")
    return str(said.replace("Input should be", "it must be").replace("String should have", "it must have"))


def place(finding: Mapping[str, Any]) -> str:
    """Where that was: names with dots between them, and the numbers of a list's members from 1."""
    parts = (f"#{part + 1}" if isinstance(part, int) else f".{part}" for part in finding["loc"])
    return "".join(parts).removeprefix(".")
