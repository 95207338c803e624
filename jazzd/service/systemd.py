"""A unit of the user's own systemd."""

import os
from collections.abc import Sequence
from pathlib import Path

from jazzd.errors import JazzdError
from jazzd.service.definition import Definition

NAME = "jazzd.service"
TEXT = """\
# Written by `jazzd service install`; `jazzd service uninstall` takes it away again.
[Unit]
Description=jazzd, improvised solos over MIDI
# Sound first, where there is any: jazzd also finds ports that come later.
After=pipewire.service wireplumber.service jack.service
# Try for ever: a stage that lost its power gets it back at any time.
StartLimitIntervalSec=0

[Service]
# Ready when the engine has played a silent phrase; STATUS says base, style and p99.
Type=notify
NotifyAccess=main
ExecStart={command}
WorkingDirectory={folder}
ExecReload=/bin/kill -HUP $MAINPID
# A big base on a cold compile cache takes minutes, and an engine elsewhere may come any time.
TimeoutStartSec=infinity
TimeoutStopSec=10
# The player releases the notes and ends its engine itself.
KillMode=mixed
# Fed by the loop, and only while notes can go out: a daemon that hangs is restarted.
WatchdogSec=10
Restart=on-failure
RestartSec=1
RestartSteps=5
RestartMaxDelaySec=30
# Wrong settings do not get better by trying again.
RestartPreventExitStatus=2
# It needs no more rights than it has, and writes nothing outside the user's own folders.
NoNewPrivileges=yes
ProtectSystem=full
PrivateTmp=yes
RestrictSUIDSGID=yes
LockPersonality=yes
# The published 839M base takes 5 GB in float32.
MemoryMax=75%
# An engine that took too much is started again by the player; the music's process stays.
OOMPolicy=continue
# Notes go out on time when every core decodes.
LimitRTPRIO=20

[Install]
WantedBy=default.target
"""


def define(command: Sequence[str], home: Path, folder: Path) -> Definition:
    """The unit that runs `command` in `folder`. Raises JazzdError for what no unit can name."""
    systemctl = ("systemctl", "--user")
    config = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config")
    return Definition(
        "systemd",
        config / "systemd" / "user" / NAME,
        TEXT.format(command=_line(command), folder=_plain(folder).replace("%", "%%")),
        "utf-8",
        # An engine elsewhere may come any time, and READY with it: who installs does not wait for that.
        ((*systemctl, "daemon-reload"), (*systemctl, "enable", "--now", "--no-block", NAME)),
        ((*systemctl, "disable", "--now", NAME), (*systemctl, "daemon-reload")),
        (*systemctl, "show", "--property=ActiveState", "--value", NAME),
        f"journalctl --user -u {NAME} -f",
    )


def _line(command: Sequence[str]) -> str:
    """As systemd reads it (systemd.service(5), "Command lines"), which is not how a shell does: variables are
    put into all words but the first, where it allows neither quotes nor backslashes. Raises JazzdError."""
    if set(command[0]) & set("\"'\\") or not command[0].isprintable():
        raise JazzdError(
            f"systemd starts nothing of the name {command[0]!r}: install jazzd in another folder"
        )
    program, *words = map(_quoted, command)
    return " ".join((program, *(word.replace("$", "$$") for word in words)))


def _quoted(word: str) -> str:
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("\n", "\\n")
    return escaped if escaped == word and word.isprintable() and not set(word) & set(" $") else f'"{escaped}"'


def _plain(folder: Path) -> str:
    """Raises JazzdError for what cannot be said where systemd knows no quotes."""
    if (name := str(folder)) != name.strip().rstrip("\\") or "\n" in name:
        raise JazzdError(f"{name!r} cannot be a service's folder: rename it, or install from another one")
    return name
