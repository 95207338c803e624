"""The sizes of a Moonbeam model. Everything that has a shape derives from them."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from jazzd.errors import ModelError
from jazzd.moonbeam.tokens import FIELDS, Vocabulary

Numerics = Literal["exact", "rounded"]
LARGEST = 2**16
"""No size of a sane model is larger."""


@dataclass(frozen=True)
class Config:
    """Sizes of a model (SPEC section 1). Heads come in six equal groups, one per position kind."""

    hidden: int
    intermediate: int
    layers: int
    times: int
    """Values of each of the two time fields, SOS and EOS included."""
    gru_hidden: int
    gru_layers: int
    heads: int = 12
    kv_heads: int = 6
    eps: float = 1e-5
    window: int = 1024
    """Rows that the model saw at once in training; a longer context would be strange to it."""
    numerics: Numerics = "exact"
    """`rounded`: sinusoids and rotations from bf16-rounded tables, as the published weights (SPEC 3.4)."""

    @classmethod
    def medium(cls) -> "Config":
        """The published 839M."""
        return cls(hidden=1920, intermediate=6720, layers=15, times=4099, gru_hidden=1536, gru_layers=4)

    @classmethod
    def small(cls) -> "Config":
        """The published 309M."""
        return cls(hidden=1536, intermediate=5376, layers=9, times=1026, gru_hidden=1024, gru_layers=2)

    @classmethod
    def builtin(cls) -> "Config":
        """The base that ships with jazzd: Small's vocabulary, a fortieth of its weights."""
        return cls(
            hidden=384, intermediate=1344, layers=3, times=1026, gru_hidden=256, gru_layers=2, window=512
        )

    @property
    def embedding(self) -> int:
        """Width of one field's embedding."""
        return self.hidden // len(FIELDS)

    @property
    def head(self) -> int:
        """Width of one attention head."""
        return self.hidden // self.heads

    @property
    def vocabulary(self) -> Vocabulary:
        return Vocabulary(self.times)

    @classmethod
    def from_reference(cls, path: Path) -> "Config":
        """The sizes in a `config.json` with the reference implementation's keys.

        Raises ModelError when the file is not one, or describes a model of another kind.
        """
        given = _read(path)
        try:
            decoder = given["decoder"]
            sizes = {
                "hidden": given["hidden_size"],
                "intermediate": given["intermediate_size"],
                "layers": given["num_hidden_layers"],
                "times": given["onset_vocab_size"],
                "gru_hidden": decoder["hidden_size"],
                "gru_layers": decoder["num_hidden_layers"],
                "heads": given["num_attention_heads"],
                "kv_heads": given["num_key_value_heads"],
                "eps": given["rms_norm_eps"],
            }
        except (KeyError, TypeError) as error:
            raise ModelError(f"{path}: the key {error} is missing; is it a Moonbeam config?") from None
        return cls._checked(sizes, path)

    @classmethod
    def load(cls, path: Path) -> "Config":
        """The sizes in the `config.json` of a base folder. Raises ModelError."""
        given = _read(path)
        fields = dataclasses.fields(cls)
        required = {field.name for field in fields if field.default is dataclasses.MISSING}
        if set(given) - {field.name for field in fields} or required - set(given):
            raise ModelError(f"{path}: not a jazzd base; convert a checkpoint with `jazzd base convert`")
        return cls._checked(given, path)

    @classmethod
    def _checked(cls, given: dict[str, Any], source: Path) -> "Config":
        """The config with these values, if each has its type and the sizes fit together."""
        types = {field.name: field.type for field in dataclasses.fields(cls)}
        if wrong := [name for name, value in given.items() if not _is_of(value, types[name])]:
            raise ModelError(f"{source}: {', '.join(wrong)} has a value that it cannot have")
        config, groups = cls(**given), len(FIELDS)
        if config.heads % config.kv_heads or config.kv_heads % groups:
            raise ModelError(
                f"{source}: {config.heads} and {config.kv_heads} heads do not fall into six groups"
            )
        if config.hidden % (2 * config.heads) or config.hidden % groups or config.times < 4:
            raise ModelError(
                f"{source}: {config.hidden} wide does not fit {config.heads} heads of even width"
            )
        return config

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def _read(path: Path) -> dict[str, Any]:
    """The JSON object in a file. Raises ModelError."""
    try:
        given = json.loads(path.read_text())
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror}); is this a base folder?") from None
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path}: not a JSON file ({error})") from None
    if not isinstance(given, dict):
        raise ModelError(f"{path}: not a JSON object")
    return given


def _is_of(value: object, kind: object) -> bool:
    """Whether a JSON value has the type of a field of the config."""
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= LARGEST
    if kind is float:
        return isinstance(value, float) and 0 < value < 1
    return value in get_args(kind)
