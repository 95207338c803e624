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

    def __init__(self, ledger: Ledger, owe: Callable[[], None] = lambda: None) -> None:
        """`owe` is called when a key could not go up."""
        self.on = False
        self._ledger, self._owe = ledger, owe
        self._moved: set[tuple[int, str]] = set()
        """Pedals that went down through here, and wheels that left their centre: channel and kind."""

    def pass_on(self, message: mido.Message) -> None:
        """Sends the message on if that is wanted; what an output cannot take now is lost, as on a cable.

        What went down or was bent through here also comes back when it is off by then.
        """
        try:
            if message.type == "note_off" or (message.type == "note_on" and not message.velocity):
                self._ledger.release(THRU, message.channel, message.note)
            elif message.type == "note_on":
                if self.on:
                    self._ledger.strike(THRU, message.channel, message.note, message.velocity)
            elif message.type in PASSED:
                self._pass_move(message)
        except MidiError:
            self._owe()

    def _pass_move(self, message: mido.Message) -> None:
        place = (message.channel, message.type)
        pedal = message.is_cc(SUSTAIN)
        back = message.value < SUSTAIN_DOWN if pedal else message.type == "pitchwheel" and not message.pitch
        if not (self.on or (back and place in self._moved)):
            return
        self._ledger.pass_on(message)
        if back:
            self._moved.discard(place)
        elif pedal or message.type == "pitchwheel":
            self._moved.add(place)
