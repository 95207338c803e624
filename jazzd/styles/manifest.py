"""What a style file says of itself, in the texts beside its tensors."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from jazzd.errors import StyleError, plain
from jazzd.moonbeam.targets import ATTENTION, DECODER, MLP
from jazzd.styles.container import shown

MAX_RANK = 64
TARGETS = (*ATTENTION, *MLP, *DECODER)
SETTINGS = ("temperature", "top_p", "low", "high", "density")


def _one_by_one(value: object) -> object:
    return value.split(",") if isinstance(value, str) else value


def _known(target: str) -> str:
    if target not in TARGETS:
        raise ValueError(f"only {', '.join(TARGETS)} can be bent")
    return target


# Shown in terminals and tables as it is.
Line = Annotated[str, Field(max_length=200, pattern=r"^[^\p{C}\p{Zl}\p{Zp}]*$")]
Target = Annotated[str, AfterValidator(_known)]
Pitch = Annotated[int, Field(ge=0, le=127)]


class Manifest(BaseModel):
    """Who made the style, for which base, and how it likes to be played.

    What a player may suggest has the ranges of daemon.toml; None leaves it to the player.
    """

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    format: Literal["jazzd-style-1"] = "jazzd-style-1"
    base: str = Field(pattern=r"^[0-9a-z-]{1,40}$")
    """The fingerprint of the base that it bends."""
    rank: int = Field(ge=1, le=MAX_RANK)
    alpha: float = Field(ge=1e-3, le=1e4)
    targets: Annotated[tuple[Target, ...], BeforeValidator(_one_by_one), Field(min_length=1)]
    title: Line = ""
    program: int | None = Field(default=None, ge=0, le=127)
    temperature: float | None = Field(default=None, ge=0.0, le=2.0)
    top_p: float | None = Field(default=None, gt=0.0, le=1.0)
    low: Pitch | None = None
    high: Pitch | None = None
    density: float | None = Field(default=None, ge=-1.0, le=1.0)
    training: str = Field(default="", max_length=2**16)
    """A summary of the training, as JSON."""
    license: Line = ""
    author: Line = ""

    @model_validator(mode="after")
    def _range_holds_every_pitch_class(self) -> "Manifest":
        if (self.low is None) != (self.high is None):
            raise ValueError("low and high go together")
        if self.low is not None and self.high is not None and self.high - self.low < 11:
            raise ValueError("high must be at least 11 semitones above low")
        return self

    @property
    def scale(self) -> float:
        """What the second factors in the file are to be multiplied with."""
        return self.alpha / self.rank

    @property
    def settings(self) -> dict[str, float]:
        """How it likes to be played, as far as it says so."""
        return {name: getattr(self, name) for name in SETTINGS if getattr(self, name) is not None}

    def texts(self) -> dict[str, str]:
        """For the file; what is not said is left out."""
        said = {name: str(value) for name, value in self.model_dump().items() if value not in (None, "")}
        return said | {"targets": ",".join(self.targets)}

    @classmethod
    def parse(cls, texts: Mapping[str, str], source: Path) -> "Manifest":
        """The manifest in a file's metadata. Raises StyleError naming what is wrong."""
        if not texts.get("format", "").startswith("jazzd-style"):
            raise StyleError(
                f"{source}: not a jazzd style; name the folder of a PEFT adapter, not the file in it"
            )
        given: dict[str, Any] = dict(texts)
        try:
            return cls(**given)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            key = ".".join(map(str, first["loc"][:1])) or "low, high"
            if first["type"] == "missing":
                raise StyleError(f"{source}: its metadata lack {key}") from None
            said = plain(first)
            if first["type"] == "string_pattern_mismatch":
                said = "that is not how it is written"
            told = f" is {shown(texts[key])}" if key in texts else ""
            raise StyleError(f"{source}: {key}{told} in its metadata: {said}") from None
