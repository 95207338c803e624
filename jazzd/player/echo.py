"""An output that is wired back to the input: what comes back is not music."""

import itertools
import threading
from collections import deque
from dataclasses import dataclass

import mido
import structlog

from jazzd.player.clock import Clock

WITHIN_S = 0.25
"""What comes back does so sooner than this."""
LOOPED, ALIKE_S = 3, 0.04
"""So many notes running that have all come back, after the same time give or take, are a loop. One or two may
be a coincidence, and so are the keys of a chord of which all were played just then, one after another."""
WARN_AGAIN_S = 60.0
MOST = 512

Key = tuple[int, int]
"""Channel and pitch."""


@dataclass
class _Sent:
    at: float
    key: Key
    velocity: int
    passed_on: bool
    """The human holds this key: it was theirs (thru), and they may well strike it again."""
    back_after_s: float | None = None


class EchoGuard:
    """Knows what was sent, and so what is heard again. `sent` and `heard` may be called from any thread."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._sent: deque[_Sent] = deque(maxlen=MOST)
        self._held: set[Key] = set()
        self._lock = threading.Lock()
        self._warned_at = float("-inf")

    def sent(self, message: mido.Message) -> None:
        """This goes out now. Call it before it does: some wires are short."""
        if message.type == "note_on" and message.velocity:
            with self._lock:
                key = message.channel, message.note
                self._sent.append(_Sent(self._clock.now(), key, message.velocity, key in self._held))

    def heard(self, message: mido.Message, at: float) -> bool:
        """Whether a message that came at `at` (seconds of the clock) is one of our own, and to be ignored."""
        if message.type not in ("note_on", "note_off"):
            return False
        key, velocity = (message.channel, message.note), message.velocity
        with self._lock:
            if message.type == "note_off" or not velocity:
                self._held.discard(key)
                return False
            echo = self._echo(key, velocity, at)
            if echo and self._looped(echo):
                self._warn(at)
                return True
            self._held.add(key)
            return False

    def _echo(self, key: Key, velocity: int, at: float) -> _Sent | None:
        """What was sent just now and may be this; a key that is not held can be struck by a human."""
        for sent in self._sent:
            fresh = sent.back_after_s is None and at - sent.at <= WITHIN_S
            if fresh and (sent.key, sent.velocity) == (key, velocity):
                if sent.passed_on and key not in self._held:
                    continue
                sent.back_after_s = at - sent.at
                return sent
        return None

    def _looped(self, echo: _Sent) -> bool:
        """Whether this note and those that were sent before it have all come back. Those of one moment do not
        tell: a human may play the same chord."""
        delays: list[float] = []
        for sent in itertools.dropwhile(lambda sent: sent is not echo, reversed(self._sent)):
            if sent.back_after_s is None:
                return False
            delays.append(sent.back_after_s)
            if len(delays) >= LOOPED and echo.at - sent.at > ALIKE_S:
                return max(delays) - min(delays) <= ALIKE_S
        return False

    def _warn(self, at: float) -> None:
        if at - self._warned_at > WARN_AGAIN_S:
            self._warned_at = at
            structlog.get_logger().warning(
                "output_heard_again",
                reason="what jazzd plays comes back to its input and is ignored; undo that connection",
            )
