"""The scenes of the settings: which was chosen, and which styles they lack."""

import structlog

from jazzd.errors import JazzdError
from jazzd.mix import shares
from jazzd.player.styling import Styling
from jazzd.settings import Scene


class Scenes:
    """`styling` says which styles there are, and which are chosen without a scene."""

    def __init__(self, styling: Styling) -> None:
        self.known: tuple[Scene, ...] = ()
        self.chosen = ""
        """Name of the scene that was chosen last."""
        self._styling = styling
        self._told: dict[tuple[str, str], str] = {}
        self._log = structlog.get_logger()

    def named(self, name: str) -> Scene:
        """Raises JazzdError when there is none."""
        if found := next((scene for scene in self.known if scene.name == name), None):
            return found
        known = ", ".join(scene.name for scene in self.known) or "none; write [[scene]] in daemon.toml"
        raise JazzdError(f"there is no scene {name!r}; there are: {known}")

    def of_program(self, number: int) -> Scene | None:
        """The scene that a Program Change of this number chooses."""
        return next((scene for scene in self.known if scene.program == number), None)

    @property
    def missing(self) -> dict[tuple[str, str], str]:
        """The styles that are in a scene, or were chosen, and are not there, and why: by the scene's name
        ("" for none) and the style's."""
        missing = {("", name): reason for name, reason in self._styling.missing.items()}
        for scene in self.known:
            lacking = self._styling.lacking(shares(scene.style or ""))
            missing |= {(scene.name, name): reason for name, reason in lacking.items()}
        return missing

    def tell_missing(self) -> None:
        """Log what is missing that was not yet told: on stage it would be late to find that out."""
        missing = self.missing
        for (where, name), reason in missing.items():
            if self._told.get((where, name)) != reason:
                other = {"scene": where} if where else {"instead": self._styling.mix}
                self._log.warning("style_missing", style=name, reason=reason, **other)
        self._told = missing
