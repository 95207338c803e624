"""What the human plays is passed on, and none of it can be left sounding."""

from collections.abc import Callable
from pathlib import Path

import mido
import pytest

from jazzd.errors import MidiError
from jazzd.player.ledger import Ledger
from jazzd.player.thru import Thru


class Wire:
    def __init__(self) -> None:
        self.sent: list[mido.Message] = []
        self.cut = False

    def __call__(self, message: mido.Message) -> None:
        if self.cut:
            raise MidiError("unplugged")
        self.sent.append(message)


@pytest.fixture
def wire() -> Wire:
    return Wire()


def on(pitch: int, velocity: int = 70) -> mido.Message:
    return mido.Message("note_on", note=pitch, velocity=velocity)


OFF = mido.Message("note_off", note=60)
PEDAL = mido.Message("control_change", control=64, value=127)
BEND = mido.Message("pitchwheel", pitch=100)


def test_a_key_that_could_not_go_up_goes_up_later(wire: Wire) -> None:
    owed: list[bool] = []
    ledger = Ledger(wire)
    thru = Thru(ledger, lambda: owed.append(True))
    thru.on = True
    thru.pass_on(on(60))
    wire.cut = True
    thru.pass_on(OFF)
    assert owed
    with pytest.raises(MidiError):
        ledger.settle()
    wire.cut = False
    ledger.settle()
    ledger.settle()
    assert [(message.type, message.note) for message in wire.sent] == [("note_on", 60), ("note_off", 60)]
    assert not ledger.sounding


SOSTENUTO, MODULATION = PEDAL.copy(control=66), PEDAL.copy(control=1, value=3)
PRESSURE = mido.Message("aftertouch", value=90)


@pytest.mark.parametrize(
    ("there", "back"),
    [(BEND, BEND.copy(pitch=0))] + [(m, m.copy(value=0)) for m in (PEDAL, SOSTENUTO, MODULATION, PRESSURE)],
)
def test_what_was_moved_comes_back_although_it_is_switched_off(
    there: mido.Message, back: mido.Message, wire: Wire
) -> None:
    thru = Thru(Ledger(wire))
    thru.pass_on(back)
    thru.on = True
    thru.pass_on(there)
    thru.on = False
    for message in (there, back, back):
        thru.pass_on(message)
    assert wire.sent == [there, back]


def test_a_volume_of_nothing_is_no_wheel_at_rest(wire: Wire) -> None:
    thru, volume = Thru(Ledger(wire)), mido.Message("control_change", control=7, value=90)
    thru.on = True
    thru.pass_on(volume)
    thru.on = False
    thru.pass_on(volume.copy(value=0))
    assert wire.sent == [volume]


@pytest.mark.parametrize("let_go", [Ledger.release_all, Ledger.rest])
def test_pedals_and_wheels_are_put_at_rest_once_also_where_no_key_was_struck(
    wire: Wire, let_go: Callable[[Ledger], None]
) -> None:
    ledger = Ledger(wire)
    thru = Thru(ledger)
    thru.on = True
    for message in (PEDAL, SOSTENUTO, MODULATION, BEND.copy(channel=4), PRESSURE.copy(channel=4)):
        thru.pass_on(message)
    wire.sent.clear()
    wire.cut = True
    with pytest.raises(MidiError):
        let_go(ledger)
    wire.cut = False
    let_go(ledger)
    for channel in (0, 4):
        for moved in (PEDAL, SOSTENUTO, MODULATION, PRESSURE):
            assert moved.copy(channel=channel, value=0) in wire.sent
        assert BEND.copy(channel=channel, pitch=0) in wire.sent
    wire.sent.clear()
    ledger.rest()
    assert wire.sent == []


def test_nothing_is_passed_on_unless_it_is_wanted(wire: Wire) -> None:
    thru = Thru(Ledger(wire))
    for message in (on(60), OFF, PEDAL):
        thru.pass_on(message)
    assert wire.sent == []


def test_keys_pedals_and_bends_are_passed_on(wire: Wire) -> None:
    ledger = Ledger(wire)
    thru = Thru(ledger)
    thru.on = True
    for message in (on(60), PEDAL, BEND, on(60, 0)):
        thru.pass_on(message)
    assert wire.sent == [on(60), PEDAL, BEND, OFF.copy(velocity=64)]
    assert ledger.sounding == []


def test_a_key_that_is_down_goes_up_also_when_it_is_not_wanted_any_more(wire: Wire) -> None:
    ledger = Ledger(wire)
    thru = Thru(ledger)
    thru.on = True
    thru.pass_on(on(60))
    thru.on = False
    thru.pass_on(OFF)
    assert ledger.sounding == []


def test_what_is_held_survives_in_the_ledger_like_all_else(wire: Wire, tmp_path: Path) -> None:
    ledger = Ledger(wire, tmp_path / "ledger")
    thru = Thru(ledger)
    thru.on = True
    thru.pass_on(on(60))
    ledger.close()
    assert Ledger(wire, tmp_path / "ledger").sounding == [(0, 60)]


def test_a_cut_wire_is_no_trouble_of_the_players(wire: Wire) -> None:
    ledger = Ledger(wire)
    thru = Thru(ledger)
    thru.on = wire.cut = True
    for message in (on(60), PEDAL, OFF):
        thru.pass_on(message)
    assert ledger.sounding == [(0, 60)], "it may have been heard"
    wire.cut = False
    ledger.release_all()
    assert ledger.sounding == []
