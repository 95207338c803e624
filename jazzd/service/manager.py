"""Puts the service in force and takes it out again, on whichever system this is."""

import contextlib
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from jazzd.errors import JazzdError
from jazzd.files import replacing
from jazzd.service import launchd, systemd, windows
from jazzd.service.definition import Definition

SYSTEMS = {"linux": systemd.define, "darwin": launchd.define, "win32": windows.define}
TIMEOUT_S = 120
ANY = "ANY"
NO_BUS = "connect to bus"
NO_BUS_HINT = "no systemd of yours runs in this session: log in at the machine or by ssh, not by su or sudo"
RUN = (sys.executable, "-m", "jazzd", "run")


def definition(command: Sequence[str], folder: Path | None = None) -> Definition:
    """How this system starts `command` at login, in the folder where we are if no other is named.

    Raises JazzdError where it has none of the three ways.
    """
    define = SYSTEMS.get(sys.platform)
    if define is None:
        raise JazzdError(f"{sys.platform} has no login service that jazzd knows; start `jazzd run` yourself")
    return define(command, Path.home(), folder or Path.cwd())


def install(service: Definition) -> None:
    """Writes the file and puts it in force, in the place of what was. Raises JazzdError, with nothing half
    done left behind."""
    tool = service.enable[0][0]
    if shutil.which(tool) is None:
        raise JazzdError(f"there is no {tool} here: this system does not start services; start `jazzd run`")
    before = service.path.read_bytes() if service.path.exists() else None
    try:
        service.path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(service.path) as partial:
            partial.write_text(service.text, encoding=service.encoding)
    except OSError as error:
        raise JazzdError(f"cannot write {service.path}: {error.strerror}") from None
    if before is not None:
        _disable(service)  # an older jazzd, or one with other settings, may run
    try:
        _enable(service)
    except JazzdError:
        _disable(service)
        if before is None:
            service.path.unlink(missing_ok=True)
        else:
            service.path.write_bytes(before)
            with contextlib.suppress(JazzdError):
                _enable(service)
        raise


def uninstall(service: Definition) -> bool:
    """Takes it out and the file away; False where there was none. Raises JazzdError."""
    if not service.path.exists():
        return False
    _disable(service)
    service.path.unlink()
    return True


def status(command: Sequence[str]) -> dict[str, object]:
    """Whether the file is there and is ours of today, whatever settings and folder it names, and what the
    system says."""
    named = [definition(words, Path(ANY)) for words in (command, [*command, "--config", ANY])]
    service = named[0]
    installed = service.path.exists()
    text = service.path.read_text(encoding=service.encoding, errors="replace") if installed else ""
    current = any(re.fullmatch(re.escape(each.text).replace(ANY, ".*"), text) for each in named)
    said = ""
    if installed:
        try:
            said = _run(service.query) or "running"
        except JazzdError as error:
            said = str(error)
    return {
        "system": service.system,
        "file": str(service.path),
        "installed": installed,
        "current": current,
        "state": said,
        "log": service.log,
    }


def _enable(service: Definition) -> None:
    for command in service.enable:
        _run(command)


def _disable(service: Definition) -> None:
    for command in service.disable:
        with contextlib.suppress(JazzdError):  # what is not in force cannot be taken out
            _run(command)


def _run(command: Sequence[str]) -> str:
    """What it printed. Raises JazzdError with what it complained about."""
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise JazzdError(f"`{' '.join(command)}`: {error}") from None
    if ended.returncode:
        said = (ended.stderr or ended.stdout).strip().splitlines() or [f"exit code {ended.returncode}"]
        hint = f" ({NO_BUS_HINT})" if NO_BUS in said[0] else ""
        raise JazzdError(f"`{' '.join(command)}`: {said[0]}{hint}")
    return ended.stdout.strip()
