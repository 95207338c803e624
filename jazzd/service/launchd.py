"""An agent of launchd."""

import plistlib
from collections.abc import Sequence
from pathlib import Path

from jazzd.service.definition import Definition

LABEL = "org.jazzd.daemon"


def define(command: Sequence[str], home: Path, folder: Path) -> Definition:
    """The agent that runs `command` in `folder`, and again unless it ended well."""
    log = home / "Library" / "Logs" / "jazzd.log"
    agent = {
        "Label": LABEL,
        "ProgramArguments": [*command, "--log", str(log)],
        "WorkingDirectory": str(folder),
        "RunAtLoad": True,
        "KeepAlive": {"SuccessfulExit": False},
        # Notes are late in a process that the system takes for background work.
        "ProcessType": "Interactive",
        "ThrottleInterval": 5,
        "ExitTimeOut": 10,
        # Before jazzd has opened its own log, which it rotates.
        "StandardErrorPath": str(log.with_suffix(".err.log")),
    }
    path = home / "Library" / "LaunchAgents" / f"{LABEL}.plist"
    return Definition(
        "launchd",
        path,
        plistlib.dumps(agent, sort_keys=False).decode(),
        "utf-8",
        (("launchctl", "load", "-w", str(path)),),
        (("launchctl", "unload", "-w", str(path)),),
        ("launchctl", "list", LABEL),
        f"tail -f {log}",
    )
