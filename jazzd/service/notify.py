"""Tells systemd how the daemon is: the protocol of sd_notify(3), without its library."""

import contextlib
import os
import socket
from collections.abc import MutableMapping


class Notifier:
    """Says nothing where nobody listens."""

    def __init__(self, address: str = "", watchdog_s: float | None = None) -> None:
        self.watchdog_s = watchdog_s
        """How long systemd waits for a sign of life; None where it does not."""
        self._address = "\0" + address[1:] if address.startswith("@") else address

    @classmethod
    def of(cls, environment: MutableMapping[str, str]) -> "Notifier":
        """What systemd asks for in the variables of this process; its children are not to hear of it."""
        watchdog_s = None
        with contextlib.suppress(ValueError):
            microseconds = int(environment.get("WATCHDOG_USEC", ""))
            ours = environment.get("WATCHDOG_PID", "") in ("", str(os.getpid()))
            watchdog_s = microseconds / 1e6 if ours and microseconds > 0 else None
        return cls(environment.pop("NOTIFY_SOCKET", ""), watchdog_s)

    def ready(self) -> None:
        self._say("READY=1")

    def status(self, text: str) -> None:
        """One line for people."""
        self._say(f"STATUS={' '.join(text.split())}")

    def alive(self) -> None:
        """A sign of life for the watchdog."""
        self._say("WATCHDOG=1")

    def stopping(self) -> None:
        self._say("STOPPING=1")

    def _say(self, state: str) -> None:
        if not self._address or not hasattr(socket, "AF_UNIX"):
            return
        # Whoever is not there, or does not read, must not keep a musician waiting.
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as door:
            door.setblocking(False)
            door.sendto(state.encode(), self._address)
