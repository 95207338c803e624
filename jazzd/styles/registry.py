"""Who is in the folder of the styles, and in what state. Whatever happened there, `rescan` finds it out."""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

from jazzd.errors import StyleError
from jazzd.moonbeam import storage
from jazzd.moonbeam.targets import Adapter
from jazzd.styles import folder as folders
from jazzd.styles import style
from jazzd.styles.container import shown
from jazzd.styles.folder import Stamp
from jazzd.styles.manifest import Manifest
from jazzd.styles.style import BaseFacts, MisfitError

Status = Literal["ready", "loading", "rejected", "incompatible"]
SETTLED_S = 2.0
"""What failed is looked at a second time, unless its files have been left alone for that long."""


@dataclass(frozen=True)
class Record:
    """A style in the folder. What its file does not tell is None, empty or, of the settings, absent."""

    name: str
    path: Path
    stamp: Stamp
    status: Status
    reason: str = ""
    """In words, why it cannot be played; of a ready one, what else is to be known."""
    base: str | None = None
    rank: int | None = None
    targets: tuple[str, ...] = ()
    bytes: int = 0
    program: int | None = None
    title: str = ""
    fingerprint: str = ""
    """Hash of what it has learned."""
    settings: Mapping[str, float] = field(default_factory=dict)
    """temperature, top_p, low, high, density: those that the style suggests."""

    def to_json(self) -> dict[str, Any]:
        """The public keys."""
        keys = ("name", "status", "reason", "base", "rank", "targets", "bytes", "program")
        return {key: getattr(self, key) for key in keys} | {"targets": list(self.targets)}


class Changes(NamedTuple):
    """What a rescan found: records that are new or not as they were, and names that are no more."""

    changed: tuple[Record, ...] = ()
    gone: tuple[str, ...] = ()


class Registry:
    """The records of one folder, for one base. One thread calls `rescan`; any may call the rest."""

    def __init__(self, folder: Path, base: BaseFacts, now: Callable[[], float] = time.time) -> None:
        self.folder = folder
        self.records: tuple[Record, ...] = ()
        """In name order; of equal names the first one counts."""
        self.trouble = ""
        """Why the folder cannot be read, if so."""
        self._base, self._now = base, now
        self._seen: dict[Path, Record] = {}

    @property
    def unsettled(self) -> bool:
        """Whether the folder is to be looked at again soon: a file seems not to be all there yet."""
        return any(record.status == "loading" for record in self.records)

    def rescan(self) -> Changes:
        """Look at the folder, and at the files in it that are not as they were."""
        try:
            paths, self.trouble = folders.paths(self.folder), ""
        except OSError as error:
            paths, self.trouble = [], f"{self.folder} cannot be read: {error.strerror}"
        self._seen = {path: self._look(path) for path in paths}
        before, self.records = self.records, _told_apart(self._seen.values())
        names = {record.name for record in self.records}
        return Changes(
            tuple(record for record in self.records if record not in before),
            tuple(record.name for record in before if record.name not in names),
        )

    def load(self, name: str) -> Adapter:
        """A ready style's factors, checked again. Raises StyleError."""
        for record in self.records:
            if record.name == name and record.status == "ready":
                adapter = folders.read(record.path, self._base).adapter
                if folders.stamp(record.path) != record.stamp:
                    raise StyleError(f"{record.path}: it changed while it was read")
                return adapter
        raise StyleError(f"no style {name!r} is ready; `jazzd styles` lists those that are")

    def _look(self, path: Path) -> Record:
        last, stamp = self._seen.get(path), folders.stamp(path)
        if last and last.stamp == stamp and last.status != "loading":
            return last
        record = self._judged(path, stamp)
        moved = folders.stamp(path) != stamp or (last.stamp != stamp if last else not self._settled(stamp))
        if record.status != "ready" and moved:
            return replace(record, status="loading", reason="it is still being written")
        return record

    def _judged(self, path: Path, stamp: Stamp) -> Record:
        record = Record(
            shown(folders.name_of(path)), path, stamp, "ready", bytes=sum(file[1] for file in stamp if file)
        )
        try:
            folders.check(path)
            found = folders.read(path, self._base)
            mark = storage.fingerprint(style.tensors(found))
            return replace(_described(record, found.manifest), fingerprint=mark)
        except MisfitError as error:
            record = _described(record, error.manifest) if error.manifest else record
            return replace(record, status="incompatible", reason=_reason(error, path))
        except StyleError as error:
            return replace(record, status="rejected", reason=_reason(error, path))

    def _settled(self, stamp: Stamp) -> bool:
        return all(self._now() - file[3] / 1e9 > SETTLED_S for file in stamp if file)


def _described(record: Record, manifest: Manifest) -> Record:
    return replace(
        record,
        base=manifest.base,
        rank=manifest.rank,
        targets=manifest.targets,
        program=manifest.program,
        title=manifest.title,
        settings=manifest.settings,
    )


def _reason(error: StyleError, path: Path) -> str:
    """The sentence without the path, which the record's name says already."""
    return str(error).removeprefix(f"{path}: ")


def _told_apart(records: Iterable[Record]) -> tuple[Record, ...]:
    """The records with what is to be said about two of one name or of one program number."""
    names: set[str] = set()
    programs: dict[int, str] = {}
    told = []
    for record in records:
        if record.name in names:
            record = replace(
                record, status="rejected", reason=f"there is a file {record.name} too; rename one of the two"
            )
        elif record.status == "ready" and record.program is not None:
            first = programs.setdefault(record.program, record.name)
            if first != record.name:
                record = replace(
                    record, reason=f"program {record.program} selects {first}, which comes first"
                )
        names.add(record.name)
        told.append(record)
    return tuple(told)
