"""Faults at random moments, while the pianist plays on."""

import random
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from chaos.faults import FAULTS, Fault
from chaos.rig import Rig, files, memory_mb, own_memory_mb, threads

STEADY_S = 10.5
"""An engine that lived for so long, beside a player that ran, is started again at once when it dies; the next
one waits."""
BREATH_S = 0.3
"""Between the end of a fault and the next at least."""
LISTEN_EVERY_S = 60.0
"""How often the pianist rests, to hear whether anything hangs."""
WARM_S = 15.0
"""By then a daemon has loaded and played all that it will."""
GROWTH = 1.05
"""What the memory of the player may become in the second half."""


@dataclass
class Findings:
    """What went wrong, and how long it was wrong for."""

    recoveries: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    broken: list[str] = field(default_factory=list)
    hanging: int = 0
    rests: int = 0


def rage(folder: Path, seed: int, minutes: float, patience: float) -> dict[str, Any]:
    """As many faults as belong in so many minutes; recoveries may take `patience` times what they should."""
    found = Findings()
    first, second = plan(minutes)
    with Rig(folder, seed) as rig, Progress(console=Console(stderr=True)) as progress:
        rig.first_music()
        bar = progress.add_task("faults", total=len(first) + len(second))
        storm = Storm(rig, random.Random(seed), found, patience, lambda: progress.advance(bar))
        storm.blow(first, minutes * 30)
        time.sleep(max(0.0, rig.born + WARM_S - time.perf_counter()))
        before, own_before = memory_mb(rig.daemon.pid), own_memory_mb(rig.daemon.pid)
        storm.blow(second, minutes * 30)
        storm.listen()
        after, own_after = memory_mb(rig.daemon.pid), own_memory_mb(rig.daemon.pid)
        found.broken += [f"the player died: {crash}" for crash in rig.crashes]
        found.broken += [f"a traceback in {name}" for name in rig.tracebacks()]
        found.broken += [f"{rig.orphans} engines outlived their players"] * bool(rig.orphans)
        if after > GROWTH * before:
            found.broken.append(f"the player grew from {before:.0f} to {after:.0f} MB")
        figures = {
            "notes": len(rig.recorder.struck),
            "memory_mb": {"before": round(before, 1), "after": round(after, 1)},
            "own_memory_mb": {"before": round(own_before, 1), "after": round(own_after, 1)},
            "files": files(rig.daemon.pid),
            "threads": threads(rig.daemon.pid),
        }
    return _report(seed, minutes, found) | figures


def plan(minutes: float) -> tuple[list[Fault], list[Fault]]:
    """The faults of the first half and of the second.

    The player is killed in the first half only, so that it can be seen what the rest does to the memory of
    one. A new player lets its first engine be killed soon, so most of those are there, too.
    """
    halves: tuple[list[Fault], list[Fault]] = ([], [])
    for fault in FAULTS:
        for number in range(max(1, round(fault.times * minutes / 10))):
            second = number % 3 == 1 if fault.ends_engine else number % 2 == 1
            halves[second and not fault.ends_player].append(fault)
    return halves


class Storm:
    """Faults, in an order and at moments of chance."""

    def __init__(
        self, rig: Rig, dice: random.Random, found: Findings, patience: float, done: Callable[[], None]
    ) -> None:
        self._rig, self._dice, self._found, self._patience, self._done = rig, dice, found, patience, done
        self._engine_born, self._listened = 0.0, time.perf_counter()
        """When an engine was last started in the place of another of the same player."""

    def blow(self, faults: list[Fault], seconds: float) -> None:
        """All of them, in so many seconds if they are over soon enough."""
        began, left = time.perf_counter(), list(faults)
        for moment in sorted(self._dice.uniform(0, seconds) for _ in faults):
            time.sleep(max(BREATH_S, began + moment - time.perf_counter()))
            fault = self._choose(left)
            left.remove(fault)
            self._strike(fault)
            self._done()
            if time.perf_counter() - self._listened > LISTEN_EVERY_S:
                self.listen()

    def listen(self) -> None:
        """Whether anything hangs."""
        hanging = self._rig.hanging()
        self._found.rests += 1
        self._found.hanging += len(hanging)
        if hanging:
            self._found.broken.append(f"still sounding after a rest: {hanging}; {self._rig.account(hanging)}")
        try:
            self._rig.music(time.perf_counter())
        except TimeoutError:
            self._found.broken.append(f"no music within 20 s after a rest; {self._rig.patchbay()}")
        self._listened = time.perf_counter()

    def _choose(self, left: list[Fault]) -> Fault:
        """One by chance; the end of an engine as soon as it may be, or the end would be all theirs."""
        engines = [fault for fault in left if fault.ends_engine]
        others = [fault for fault in left if not fault.ends_engine]
        steady_at = self._engine_born + STEADY_S
        if not others:
            time.sleep(max(0.0, steady_at - time.perf_counter()))
        return self._dice.choice(engines if engines and time.perf_counter() >= steady_at else others)

    def _strike(self, fault: Fault) -> None:
        try:
            recovery = fault.strike(self._rig, self._dice)
            self._rig.wait_for(
                lambda status: status["engine"]["state"] == "ready" and status["midi"]["connected"]
            )
        except TimeoutError:
            self._found.broken.append(f"{fault.name}: not well again within 20 s; {self._rig.patchbay()}")
            return
        if fault.ends_engine:
            self._engine_born = time.perf_counter()
        elif fault.ends_player:
            self._engine_born = 0.0
        self._engine_born += fault.still_s
        self._found.recoveries[fault.name].append(recovery)
        if recovery > fault.within_s * self._patience:
            self._found.broken.append(
                f"{fault.name}: well again after {recovery:.2f} s, not {fault.within_s}"
            )


def _report(seed: int, minutes: float, found: Findings) -> dict[str, Any]:
    table = Table("fault", "times", "well again p50", "max", "s")
    recoveries = {}
    for name, seconds in found.recoveries.items():
        recoveries[name] = {
            "n": len(seconds),
            "p50_s": round(statistics.median(seconds), 2),
            "max_s": round(max(seconds), 2),
        }
        table.add_row(name, str(len(seconds)), f"{statistics.median(seconds):.2f}", f"{max(seconds):.2f}")
    console = Console(stderr=True)
    console.print(table)
    console.print(f"hanging notes: {found.hanging} in {found.rests} rests")
    for each in found.broken:
        console.print(f"[red]broken[/]: {each}")
    return {
        "seed": seed,
        "minutes": minutes,
        "recoveries": recoveries,
        "hanging": found.hanging,
        "rests": found.rests,
        "broken": found.broken,
    }
