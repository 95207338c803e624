"""Which styles sound: what was chosen by knob, number or name, as far as the engine has it."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

from jazzd.engine.protocol import MOST_STYLES, Style
from jazzd.errors import JazzdError

PLAIN = ""
"""The name of no style: the base as it is."""


class Styling:
    """A choice is kept by name: what is not there yet, or no longer, sounds as soon as it is."""

    def __init__(self, default: str = PLAIN) -> None:
        self.records: tuple[Style, ...] = ()
        """Every file of the styles folder."""
        self.blend = 0.0
        """How far the choice is mixed with the next style, 0 to 1."""
        self._chosen: dict[str, float] = {default: 1.0} if default else {}

    @property
    def ready(self) -> dict[str, Style]:
        """What can sound, in the order of the names."""
        return {s.name: s for s in sorted(self.records, key=lambda s: s.name) if s.status == "ready"}

    @property
    def mix(self) -> dict[str, float]:
        """The share of each style that sounds; empty for the plain base."""
        ready = self.ready
        shares = {name: share * (1 - self.blend) for name, share in self._chosen.items()}
        if self.blend and (neighbour := self._next()):
            shares[neighbour] = shares.get(neighbour, 0.0) + self.blend
        if len(shares) > MOST_STYLES:  # the neighbour is one more
            del shares[min(shares, key=lambda name: shares[name])]
        return {name: round(share, 4) for name, share in shares.items() if share and name in ready}

    @property
    def style(self) -> str:
        """The chosen style that sounds most; PLAIN for none."""
        sounding = {name: share for name, share in self._chosen.items() if name in self.ready}
        return max(sounding, key=lambda name: sounding[name], default=PLAIN)

    @property
    def settings(self) -> dict[str, Any]:
        """What the chosen style sets by itself."""
        style = self.ready.get(self.style)
        return style.settings.model_dump(exclude_none=True) if style else {}

    @property
    def missing(self) -> dict[str, str]:
        """The chosen styles that do not sound, and why."""
        return self.lacking(self._chosen)

    def lacking(self, names: Iterable[str]) -> dict[str, str]:
        """Those of the styles that cannot sound, and why."""
        reasons = {style.name: style.reason or style.status for style in self.records}
        absent = "there is no such file in the styles folder"
        return {name: reasons.get(name, absent) for name in names if name not in self.ready}

    def pick(self, value: int) -> None:
        """By a knob at 0..127, spread over the ready styles in their order; 0 is the plain base."""
        names = [PLAIN, *self.ready]
        self._choose([(names[math.ceil(value * (len(names) - 1) / 127)], 1.0)])

    def pick_program(self, program: int) -> bool:
        """By a Program Change; whether a style has that number. The first by name wins."""
        for style in self.ready.values():
            if style.program == program:
                self._choose([(style.name, 1.0)])
                return True
        return False

    def use(self, shares: Mapping[str, float]) -> None:
        """By name. Raises JazzdError for a style that cannot sound, and for shares that are none."""
        reasons = {style.name: style.reason or style.status for style in self.records}
        for name, share in shares.items():
            if name and name not in self.ready:
                known = ", ".join(self.ready) or "none"
                raise JazzdError(
                    f"the style {name!r} is not ready: {reasons[name]}"
                    if name in reasons
                    else f"there is no style {name!r}; ready are: {known}; the base alone is ''"
                )
            if not 0 <= share <= 1:
                raise JazzdError(f"{name}: {share:g} is no share of a mix; give numbers from 0 to 1")
        if len(shares) > MOST_STYLES:
            raise JazzdError(f"{len(shares)} styles at once; {MOST_STYLES} is the most")
        self._choose(shares.items())
        self.blend = 0.0

    def _choose(self, shares: Iterable[tuple[str, float]]) -> None:
        self._chosen = {name: share for name, share in shares if name and share}

    def _next(self) -> str:
        """The neighbour of the chosen style in the order of the names, where the plain base is the first."""
        names = [PLAIN, *self.ready]
        return names[(names.index(self.style) + 1) % len(names)]
