"""What the human plays, passed on to the output."""

from collections.abc import Callable

import mido

from jazzd.errors import MidiError
from jazzd.player.ledger import Ledger
from jazzd.player.messages import MODULATION, PEDALS, SUSTAIN_DOWN

THRU = -2
"""Owner of the keys that the human holds: the scheduler's own owners count from 0."""
PASSED = ("control_change", "pitchwheel", "aftertouch", "polytouch")


class Thru:
    """Keys go through the ledger like the solo's own, so that none of them can be left sounding."""

    def __init__(self, ledger: Ledger, owe: Callable[[], None] = lambda: None) -> None:
        """`owe` is called when a key could not go up."""
        self.on = False
        self._ledger, self._owe = ledger, owe
        self._moved: set[tuple[int, str, int]] = set()
        """What went down or was bent through here: channel, kind and control."""

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
        place = (message.channel, message.type, getattr(message, "control", 0))
        back = _is_at_rest(message)
        if not (self.on or (back and place in self._moved)):
            return
        self._ledger.pass_on(message)
        if back:
            self._moved.discard(place)
        elif message.type != "control_change" or message.control in (*PEDALS, MODULATION):
            self._moved.add(place)


def _is_at_rest(message: mido.Message) -> bool:
    """Whether this lets go of a pedal or a wheel, or of the pressure on the keys."""
    if message.type == "pitchwheel":
        return not message.pitch
    if message.type == "control_change" and message.control in PEDALS:
        return bool(message.value < SUSTAIN_DOWN)
    return not message.value
