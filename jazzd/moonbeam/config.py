"""The sizes of a Moonbeam model. Everything that has a shape derives from them."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from jazzd.errors import ModelError
from jazzd.moonbeam.tokens import FIELDS, Vocabulary

Numerics = Literal["exact", "rounded"]


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
            hidden=384, intermediate=1344, layers=3, times=1026, gru_hidden=256, gru_layers=2, window=256
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
        try:
            given = json.loads(path.read_text())
            decoder = given["decoder"]
            config = cls(
                hidden=given["hidden_size"],
                intermediate=given["intermediate_size"],
                layers=given["num_hidden_layers"],
                times=given["onset_vocab_size"],
                gru_hidden=decoder["hidden_size"],
                gru_layers=decoder["num_hidden_layers"],
                heads=given["num_attention_heads"],
                kv_heads=given["num_key_value_heads"],
                eps=given["rms_norm_eps"],
            )
        except OSError as error:
            raise ModelError(f"{path}: cannot be read ({error.strerror})") from None
        except (ValueError, TypeError) as error:
            raise ModelError(f"{path}: not a JSON config ({error})") from None
        except KeyError as error:
            raise ModelError(f"{path}: the key {error} is missing; is it a Moonbeam config?") from None
        return config.checked(path)

    @classmethod
    def load(cls, path: Path) -> "Config":
        """The sizes in the `config.json` of a base folder. Raises ModelError."""
        try:
            given = json.loads(path.read_text())
        except OSError as error:
            raise ModelError(f"{path}: cannot be read ({error.strerror}); is this a base folder?") from None
        except ValueError as error:
            raise ModelError(f"{path}: not a JSON file ({error})") from None
        known = {field.name for field in dataclasses.fields(cls)}
        required = {field.name for field in dataclasses.fields(cls) if field.default is dataclasses.MISSING}
        if not isinstance(given, dict) or set(given) - known or required - set(given):
            raise ModelError(f"{path}: not a jazzd base; convert a checkpoint with `jazzd base convert`")
        return cls(**given).checked(path)

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    def checked(self, source: object) -> "Config":
        """Itself, when the sizes fit together. Raises ModelError."""
        groups = len(FIELDS)
        sizes = [getattr(self, f.name) for f in dataclasses.fields(self) if f.type is int]
        if not all(isinstance(size, int) and 0 < size <= 2**20 for size in sizes) or not self.eps > 0:
            raise ModelError(f"{source}: every size must be a positive whole number")
        if (
            self.heads % self.kv_heads
            or self.kv_heads % groups
            or self.hidden % (2 * self.heads)
            or self.hidden % groups
            or self.times < 4
        ):
            shape = f"{self.hidden} wide with {self.heads}/{self.kv_heads} heads"
            raise ModelError(f"{source}: {shape} does not fall into six groups")
        if self.numerics not in ("exact", "rounded"):
            raise ModelError(f"{source}: numerics is {self.numerics!r}; it can be exact or rounded")
        return self
