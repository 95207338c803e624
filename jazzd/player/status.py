"""What `jazzd status` shows."""

import os
from pathlib import Path
from typing import Any

from jazzd.player.latency import summary
from jazzd.player.ports import Ports
from jazzd.player.scheduler import Scheduler
from jazzd.player.session import Session
from jazzd.player.supervisor import Supervisor
from jazzd.player.tcp import TcpServer
from jazzd.settings import Settings


def status(
    settings: Settings,
    engine: Supervisor,
    session: Session,
    scheduler: Scheduler,
    ports: Ports,
    tcp: TcpServer,
    file: Path | None,
) -> dict[str, Any]:
    """The keys are public; until the engine was ready once, what it is to be stands for what it is.

    `file` is where the settings came from, if there is one.
    """
    told, asked = engine.ready, settings.engine
    figures = scheduler.figures()
    return {
        "player": {"pid": os.getpid(), "config": str(file or "")},
        "engine": {
            "pid": engine.pid,
            "state": engine.state,
            "base": told.base if told else asked.base,
            "device": told.device if told else asked.device,
            "dtype": told.dtype if told else asked.dtype,
            "restarts": engine.restarts,
            "address": asked.address,
            "trouble": engine.trouble,
        },
        "style": session.styling.style,
        "mix": session.styling.mix,
        "styles_folder": str(settings.styles.folder),
        "styles": [
            {"name": record.name, "status": record.status, "reason": record.reason}
            for record in session.styling.records
        ],
        **session.knobs,
        "mode": session.manner.mode,
        "start": session.manner.start,
        "chords_per_phrase": session.manner.chords,
        "bars_per_phrase": session.manner.bars,
        "choruses": session.manner.choruses,
        "scene": session.scenes.chosen,
        "tempo": session.beat(),
        "tune": session.place(),
        "midi": {
            "backend": "tcp" if ports.backend == "none" and tcp.address else ports.backend,
            "input": ports.input,
            "output": ports.output,
            "connected": ports.connected or (ports.backend == "none" and bool(tcp.address)),
            "tcp": tcp.address,
        },
        "chord": session.chord.symbol if session.chord else "",
        "chord_to_note_ms": session.latency.summary(),
        "strain": round(session.strain, 2),
        "notes": {
            "sent": figures.sent,
            "late": figures.late,
            "dropped": figures.dropped,
            "sounding": figures.sounding,
            "lateness_ms": summary(figures.lateness_ms),
        },
    }
