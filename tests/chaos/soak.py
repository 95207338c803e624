"""A long evening without faults: what grows, and what is left behind."""

import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track

from chaos.rig import Rig, files, memory_mb, threads

SAMPLES = 60
GROWTH = 1.05
"""The most that memory may have grown, from a sixth of the time on."""
EXTRA = 2
"""Handles that may be open at the moment of a look: the question for the status is one."""


def soak(folder: Path, seed: int, minutes: float) -> dict[str, Any]:
    """Looks at player and engine sixty times; every tenth time the pianist rests, and nothing may sound."""
    samples: list[dict[str, Any]] = []
    hanging = 0
    with Rig(folder, seed) as rig:
        rig.first_music()
        began = time.perf_counter()
        for number in track(range(1, SAMPLES + 1), "soak", console=Console(stderr=True)):
            time.sleep(max(0.0, began + number * minutes * 60 / SAMPLES - time.perf_counter()))
            rig.look_after_daemon()
            if number % 10 == 0:
                hanging += len(rig.hanging())
            samples.append(_sample(rig))
        status = rig.status()
        crashes, tracebacks = rig.crashes, rig.tracebacks()
    first, last = samples[SAMPLES // 6], samples[-1]
    broken = [f"the player died: {crash}" for crash in crashes] + tracebacks
    broken += [f"{hanging} notes hung"] * bool(hanging)
    for who in ("player", "engine"):
        if last[who]["memory_mb"] > GROWTH * first[who]["memory_mb"]:
            broken.append(f"the memory of the {who} grew")
        for what in ("files", "threads"):
            if last[who][what] > first[who][what] + EXTRA:
                broken.append(f"the {what} of the {who} became more")
    return {
        "minutes": minutes,
        "first": first,
        "last": last,
        "hanging": hanging,
        "chord_to_note_ms": status["chord_to_note_ms"],
        "notes": status["notes"],
        "restarts": status["engine"]["restarts"],
        "broken": broken,
    }


def _sample(rig: Rig) -> dict[str, Any]:
    """Player and engine as they are now."""
    pids = {"player": rig.daemon.pid, "engine": rig.status()["engine"]["pid"]}
    return {
        who: {"memory_mb": round(memory_mb(pid), 1), "files": files(pid), "threads": threads(pid)}
        for who, pid in pids.items()
    }
