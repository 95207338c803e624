"""What the human plays, passed on to the output."""

from collections.abc import Callable

import mido

from jazzd.errors import MidiError
from jazzd.player.ledger import Ledger
from jazzd.player.messages import SUSTAIN, SUSTAIN_DOWN

THRU = -2
"""Owner of the keys that the human holds: the scheduler's own owners count from 0."""
PASSED = ("control_change", "pitchwheel", "aftertouch", "polytouch")


class Thru:
    """Keys go through the ledger like the solo's own, so that none of them can be left sounding."""

    def __init__(
        self, ledger: Ledger, send: Callable[[mido.Message], None], owe: Callable[[], None] = lambda: None
    ) -> None:
        """`owe` is called when a key could not go up."""
        self.on = False
        self._ledger, self._send, self._owe = ledger, send, owe
        self._pedals: set[int] = set()
        """Channels whose pedal went down through here."""

    def pass_on(self, message: mido.Message) -> None:
        """Sends the message on if that is wanted; what an output cannot take now is lost, as on a cable."""
        try:
            if message.type in ("note_on", "note_off") and (
                message.type == "note_off" or not message.velocity
            ):
                self._ledger.release(THRU, message.channel, message.note)  # also when it is off by now
            elif message.is_cc(SUSTAIN) and message.value < SUSTAIN_DOWN and message.channel in self._pedals:
                self._send(message)  # also when it is off by now
                self._pedals.discard(message.channel)
            elif not self.on:
                return
            elif message.type == "note_on":
                self._ledger.strike(THRU, message.channel, message.note, message.velocity)
            elif message.type in PASSED:
                if message.is_cc(SUSTAIN) and message.value >= SUSTAIN_DOWN:
                    self._pedals.add(message.channel)
                self._send(message)
        except MidiError:
            self._owe()
