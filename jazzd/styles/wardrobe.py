"""The styles of a folder, ready to be worn: on the device, or loaded when they are first used."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from jazzd.errors import StyleError
from jazzd.moonbeam import lora, weights
from jazzd.moonbeam.targets import Adapter
from jazzd.styles.folder import Stamp
from jazzd.styles.registry import Record, Registry
from jazzd.styles.style import BaseFacts


@dataclass(frozen=True)
class News:
    """What changed in the folder."""

    records: tuple[Record, ...]
    """That are new, or not as they were."""
    lost: frozenset[str]
    """Styles that cannot be played any more."""
    fresh: Mapping[str, Adapter | None]
    """Styles that can, anew, with the factors of those that go to the device at once."""


class Wardrobe:
    """`look` belongs to the thread that watches the folder, the rest to the one that owns the device."""

    def __init__(self, registry: Registry, rack: lora.Rack) -> None:
        self.registry, self._rack = registry, rack
        self._playable: dict[str, Stamp] = {}
        """Which files the styles are from that can be played, as far as `look` knows."""

    @classmethod
    def open(cls, folder: Path, base: weights.Base, capacity: int = 32) -> "Wardrobe":
        """For the styles of that folder, on that base. Nothing is read yet."""
        facts = BaseFacts(base.fingerprint, base.model.config, partial(weights.tensors, base.name))
        return cls(Registry(folder, facts), lora.Rack(base.model.config, base.dtype, capacity))

    @property
    def playable(self) -> frozenset[str]:
        """A style that was overwritten can be played until the new one is whole."""
        return frozenset(self._playable)

    def warm_up(self) -> None:
        """Compile what the first styles would have to wait for."""
        self._rack.warm_up()

    def look(self) -> News | None:
        """Read what is new in the folder; None when nothing is."""
        changes = self.registry.rescan()
        if not (changes.changed or changes.gone):
            return None
        records = {record.name: record for record in self.registry.records}
        ready = {name: record for name, record in records.items() if record.status == "ready"}
        # A file that was overwritten with what is no style, or not all of it yet, plays on as it was.
        kept = {name for name, record in records.items() if record.status != "incompatible"}
        lost = self._playable.keys() - kept
        fresh: dict[str, Adapter | None] = {}
        for place, (name, record) in enumerate(ready.items()):
            if self._playable.get(name) == record.stamp:
                continue
            try:
                fresh[name] = self.registry.load(name) if place < self._rack.capacity else None
            except StyleError:  # it changed again: the next look finds out
                continue
        self._playable = {name: stamp for name, stamp in self._playable.items() if name not in lost}
        self._playable |= {name: ready[name].stamp for name in fresh}
        return News(changes.changed, frozenset(lost), fresh)

    def take(self, news: News) -> frozenset[str]:
        """Have on the device what is new; returns the names that are not what they were."""
        changed = news.lost.union(news.fresh)
        for name in changed:
            self._rack.drop(name)
        for name, adapter in news.fresh.items():
            if adapter:
                self._rack.put(name, adapter)
        return changed

    def settings(self, name: str) -> dict[str, float]:
        """How the style likes to be played, as far as it says so."""
        return next((dict(record.settings) for record in self.registry.records if record.name == name), {})

    def mix(self, shares: Mapping[str, float]) -> lora.Mix | None:
        """The mix of these styles, None for the plain base. Raises StyleError when one cannot be had."""
        for name, share in shares.items():
            if share and name not in self._rack.names:
                self._rack.put(name, self.registry.load(name))
        return self._rack.mix(shares)
