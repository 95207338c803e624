"""Faults at random moments, while the pianist plays on."""

import random
import statistics
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from chaos.faults import FAULTS, Fault
from chaos.rig import Rig, files, memory_mb, threads

STEADY_S = 10.5
"""An engine that lived for so long is started again at once when it dies; the next one waits."""
CHECK_EVERY_S = 60.0
"""How often the pianist rests, to hear whether anything hangs."""
WARM_S = 20.0
"""By then a daemon has loaded and played all that it will."""


@dataclass
class Findings:
    """What went wrong, and how long it was wrong for."""

    recoveries: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    broken: list[str] = field(default_factory=list)
    hanging: int = 0
    checks: int = 0


def rage(folder: Path, seed: int, minutes: float) -> dict[str, Any]:
    """The faults, as many as belong in so many minutes; the player is killed in the first half only, so that
    what the rest does to the memory of one can be seen."""
    dice, findings = random.Random(seed), Findings()
    with Rig(folder, seed) as rig, Progress(console=Console(stderr=True)) as progress:
        rig.music(rig.born)
        bar = progress.add_task("faults", total=None)
        plans = plan(dice, minutes)
        progress.update(bar, total=sum(map(len, plans)))
        for number, faults in enumerate(plans):
            began = time.perf_counter()
            if number:
                time.sleep(max(0.0, WARM_S - (began - rig.born)) if minutes > 5 else 0.0)
                before = memory_mb(rig.daemon.pid)
            _half(rig, dice, faults, minutes * 30, findings, lambda: progress.advance(bar))
        _listen(rig, findings)
        after = memory_mb(rig.daemon.pid)
        notes = len(rig.recorder.struck)
        findings.broken += [f"the player died: {crash}" for crash in rig.crashes]
        findings.broken += [f"a traceback in {name}" for name in rig.tracebacks()]
        findings.broken += [f"{rig.orphans} engines outlived their players"] * bool(rig.orphans)
        figures = {
            "notes": notes,
            "memory_mb": {"before": round(before, 1), "after": round(after, 1)},
            "files": files(rig.daemon.pid),
            "threads": threads(rig.daemon.pid),
        }
    if minutes > 5 and after > 1.05 * before:
        findings.broken.append(f"the player grew from {before:.0f} to {after:.0f} MB")
    return _report(seed, minutes, findings) | figures


def plan(dice: random.Random, minutes: float) -> tuple[list[Fault], list[Fault]]:
    """The faults of the first half and of the second."""
    halves: tuple[list[Fault], list[Fault]] = ([], [])
    for fault in FAULTS:
        times = max(1, round(fault.times * minutes / 10))
        for number in range(times):
            halves[0 if fault.ends_player else number % 2].append(fault)
    return halves


def _half(
    rig: Rig, dice: random.Random, faults: list[Fault], seconds: float, findings: Findings, done: Any
) -> None:
    began, engine_born, checked = time.perf_counter(), rig.born, time.perf_counter()
    gap = seconds / len(faults)
    while faults:
        steady = time.perf_counter() - engine_born > STEADY_S
        choice = [fault for fault in faults if steady or not fault.ends_engine]
        if not choice:
            time.sleep(0.1)
            continue
        fault = dice.choice(choice)
        faults.remove(fault)
        next_at = time.perf_counter() + dice.uniform(0.3, 1.7) * gap
        _strike(rig, dice, fault, findings)
        if fault.ends_engine or fault.ends_player:
            engine_born = time.perf_counter()
        if time.perf_counter() - checked > CHECK_EVERY_S:
            _listen(rig, findings)
            checked = time.perf_counter()
        behind = time.perf_counter() - began > seconds * (1 - len(faults) * gap / seconds)
        time.sleep(0.3 if behind else max(0.3, next_at - time.perf_counter()))
        done()


def _strike(rig: Rig, dice: random.Random, fault: Fault, findings: Findings) -> None:
    try:
        recovery = fault.strike(rig, dice)
        rig.wait_for(lambda status: status["engine"]["state"] == "ready" and status["midi"]["connected"])
    except TimeoutError:
        findings.broken.append(f"{fault.name}: not well again within 20 s")
        return
    if recovery is not None:
        findings.recoveries[fault.name].append(recovery)
        if fault.within_s and recovery > fault.within_s:
            findings.broken.append(f"{fault.name}: {recovery:.2f} s until all was well, not {fault.within_s}")


def _listen(rig: Rig, findings: Findings) -> None:
    """Whether anything hangs."""
    hanging = rig.hanging()
    findings.checks += 1
    findings.hanging += len(hanging)
    if hanging:
        findings.broken.append(f"still sounding after a rest: {hanging}")
    rig.music(time.perf_counter())


def _report(seed: int, minutes: float, findings: Findings) -> dict[str, Any]:
    table = Table("fault", "times", "well again p50", "max", "s")
    recoveries = {}
    for name, seconds in findings.recoveries.items():
        recoveries[name] = {
            "n": len(seconds),
            "p50_s": round(statistics.median(seconds), 2),
            "max_s": round(max(seconds), 2),
        }
        table.add_row(name, str(len(seconds)), f"{statistics.median(seconds):.2f}", f"{max(seconds):.2f}")
    console = Console(stderr=True)
    console.print(table)
    console.print(f"hanging notes: {findings.hanging} in {findings.checks} rests")
    for each in findings.broken:
        console.print(f"[red]broken[/]: {each}")
    return {
        "seed": seed,
        "minutes": minutes,
        "recoveries": recoveries,
        "hanging": findings.hanging,
        "rests": findings.checks,
        "broken": findings.broken,
    }
