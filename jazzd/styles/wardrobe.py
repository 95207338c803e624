"""The styles of a folder, ready to be worn: on the device, or loaded when they are first used."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from jazzd.errors import StyleError
from jazzd.moonbeam import lora, weights
from jazzd.moonbeam.targets import Adapter
from jazzd.styles.registry import Changes, Registry
from jazzd.styles.style import BaseFacts


@dataclass(frozen=True)
class News:
    """What changed in the folder, with the factors of what is to go to the device at once."""

    changes: Changes
    adapters: Mapping[str, Adapter]


class Wardrobe:
    """`look` belongs to the thread that watches the folder, the rest to the one that owns the device."""

    def __init__(self, registry: Registry, rack: lora.Rack) -> None:
        self.registry, self._rack = registry, rack

    @classmethod
    def open(cls, folder: Path, base: weights.Base, capacity: int = 32) -> "Wardrobe":
        """For the styles of that folder, on that base. Nothing is read yet."""
        facts = BaseFacts(base.fingerprint, base.model.config, partial(weights.tensors, base.name))
        return cls(Registry(folder, facts), lora.Rack(base.model.config, base.dtype, capacity))

    def warm_up(self) -> None:
        """Compile what the first styles would have to wait for."""
        self._rack.warm_up()

    def look(self) -> News | None:
        """Read what is new in the folder; None when nothing is."""
        changes = self.registry.rescan()
        if not (changes.changed or changes.gone):
            return None
        ready = [record.name for record in self.registry.records if record.status == "ready"]
        first, adapters = ready[: self._rack.capacity], {}
        for record in changes.changed:
            if record.name in first:
                try:
                    adapters[record.name] = self.registry.load(record.name)
                except StyleError:  # it changed again: the next look finds out
                    continue
        return News(changes, adapters)

    def take(self, news: News) -> set[str]:
        """Have on the device what is new; returns the names that are not what they were."""
        names = {record.name for record in news.changes.changed} | set(news.changes.gone)
        for name in names:
            self._rack.drop(name)
            if name in news.adapters:
                self._rack.put(name, news.adapters[name])
        return names

    def settings(self, name: str) -> dict[str, float]:
        """How the style likes to be played, as far as it says so."""
        return next((dict(record.settings) for record in self.registry.records if record.name == name), {})

    def mix(self, shares: Mapping[str, float]) -> lora.Mix | None:
        """The mix of these styles, None for the plain base. Raises StyleError when one cannot be had."""
        for name, share in shares.items():
            if share and name not in self._rack.names:
                self._rack.put(name, self.registry.load(name))
        return self._rack.mix(shares)
