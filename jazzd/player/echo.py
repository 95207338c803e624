"""An output that is wired back to the input: what comes back is not music."""

import threading
from collections import deque

import mido
import structlog

from jazzd.player.clock import Clock

WITHIN_S = 0.25
"""What comes back does so sooner than this."""
WARN_AFTER, WARN_AGAIN_S = 4, 60.0
"""So many notes have come back when that is worth a word, and how long until the next."""
MOST = 512


class EchoGuard:
    """Knows what was sent, and so what is heard again. `sent` and `heard` may be called from any thread."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._sent: deque[tuple[float, tuple[int, int, int]]] = deque(maxlen=MOST)
        self._lock = threading.Lock()
        self._echoes = 0
        self._warned_at = float("-inf")

    def sent(self, message: mido.Message) -> None:
        """This goes out now. Call it before it does: some wires are short."""
        if message.type == "note_on" and message.velocity:
            with self._lock:
                self._sent.append((self._clock.now(), _note(message)))

    def heard(self, message: mido.Message, at: float) -> bool:
        """Whether a message that came at `at` (seconds of the clock) is one of our own, and to be ignored.

        A human may strike what the solo has just played, but hardly as hard, on that channel, so soon.
        """
        if message.type != "note_on" or not message.velocity:
            return False
        with self._lock:
            while self._sent and self._sent[0][0] < at - WITHIN_S:
                self._sent.popleft()
            echo = next((entry for entry in self._sent if entry[1] == _note(message)), None)
            if echo is None:
                self._echoes = 0
                return False
            self._sent.remove(echo)
            self._echoes += 1
        if self._echoes >= WARN_AFTER and at - self._warned_at > WARN_AGAIN_S:
            self._warned_at = at
            structlog.get_logger().warning(
                "output_heard_again",
                reason="what jazzd plays comes back to its input and is ignored; undo that connection",
            )
        return True


def _note(message: mido.Message) -> tuple[int, int, int]:
    return message.channel, message.note, message.velocity
