from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mido import Message

from jazzd.errors import MidiError
from jazzd.player.ledger import Ledger


class Synth:
    """What is heard: a key that is struck while it sounds would be a mistake of the ledger."""

    def __init__(self) -> None:
        self.down: dict[tuple[int, int], int] = {}
        self.messages: list[Message] = []
        self.broken = False

    def send(self, message: Message) -> None:
        if self.broken:
            raise MidiError("unplugged")
        self.messages.append(message)
        if message.type == "note_on":
            assert (message.channel, message.note) not in self.down
            self.down[message.channel, message.note] = message.velocity
        elif message.type == "note_off":
            del self.down[message.channel, message.note]


@pytest.fixture
def synth() -> Synth:
    return Synth()


def test_a_note_goes_on_and_off(synth: Synth) -> None:
    ledger = Ledger(synth.send)
    ledger.strike(7, channel=2, pitch=60, velocity=90)
    assert synth.down == {(2, 60): 90}
    assert ledger.sounding == [(2, 60)]
    ledger.release(7, channel=2, pitch=60)
    assert synth.down == {}
    assert ledger.sounding == []


def test_a_mark_stays_for_as_long_as_the_last_note_off_may_be_under_way(tmp_path: Path, synth: Synth) -> None:
    at = [10.0]
    killed = Ledger(synth.send, tmp_path / "ledger", lambda: at[0])
    for lifted in (10.0, 10.95):
        at[0] = lifted
        killed.strike(1, 0, 60, 80)
        killed.release(1, 0, 60)
    at[0] = 11.01
    killed.strike(2, 0, 72, 80)
    assert Ledger(synth.send, tmp_path / "ledger").sounding == [(0, 60), (0, 72)]
    at[0] = 12.0
    killed.strike(3, 0, 74, 80)
    assert (0, 60) not in Ledger(synth.send, tmp_path / "ledger").sounding


def test_keys_that_are_up_can_be_lifted_again_and_those_that_are_down_are_left_alone(synth: Synth) -> None:
    ledger = Ledger(synth.send)
    ledger.strike(1, 0, 60, 80)
    synth.down[0, 61] = 80  # its note-off was lost
    ledger.lift_again([(0, 60), (0, 61)])
    assert synth.down == {(0, 60): 80}
    assert ledger.sounding == [(0, 60)]


def test_an_old_note_does_not_cut_a_new_one(synth: Synth) -> None:
    ledger = Ledger(synth.send)
    ledger.strike(1, 0, 60, 80)
    ledger.strike(2, 0, 60, 81)
    ledger.release(1, 0, 60)
    assert synth.down == {(0, 60): 81}
    ledger.release(2, 0, 60)
    assert [message.type for message in synth.messages] == ["note_on", "note_off", "note_on", "note_off"]


def test_release_all_resets_every_channel_that_was_used(synth: Synth) -> None:
    ledger = Ledger(synth.send)
    ledger.strike(1, 0, 60, 80)
    ledger.strike(2, 5, 61, 80)
    ledger.release(2, 5, 61)
    synth.messages.clear()
    ledger.release_all()
    assert synth.down == {}
    assert [(m.channel, m.control, m.value) for m in synth.messages if m.type == "control_change"] == [
        (channel, control, 0) for channel in (0, 5) for control in (64, 123, 120)
    ]


def test_what_was_left_sounding_is_found_again(synth: Synth, tmp_path: Path) -> None:
    path = tmp_path / "sounding"
    killed = Ledger(synth.send, path)
    killed.strike(1, 0, 60, 80)
    killed.strike(2, 15, 127, 80)
    killed.release(1, 0, 60)
    # `killed` is never closed: as after kill -9, and the driver had not sent the note-off yet.
    synth.down[0, 60] = 80
    restarted = Ledger(synth.send, path)
    assert restarted.sounding == [(0, 60), (15, 127)]
    restarted.release_all()
    assert synth.down == {}
    restarted.close()
    assert Ledger(synth.send, path).sounding == [(0, 60), (15, 127)], "nobody says that they were heard"


def test_what_was_left_sounding_is_told_until_somebody_was_there_to_hear_it(
    synth: Synth, tmp_path: Path
) -> None:
    path = tmp_path / "sounding"
    Ledger(synth.send, path).strike(1, 0, 60, 80)
    for _ in range(2):
        ledger = Ledger(lambda message: None, path)
        ledger.release_all()
        ledger.strike(1, 0, 62, 80)
        ledger.release(1, 0, 62)
        ledger.close()
    ledger = Ledger(synth.send, path)
    assert ledger.sounding == [(0, 60)]
    ledger.release_all()
    ledger.let_go()
    assert synth.down == {}
    ledger.close()
    assert Ledger(synth.send, path).sounding == []


def test_what_was_left_sounding_goes_up_again_whenever_all_does(synth: Synth, tmp_path: Path) -> None:
    """At the start its synth may not be there yet, and nobody could tell."""
    killed = Ledger(synth.send, tmp_path / "sounding")
    killed.strike(1, 0, 60, 80)
    ledger = Ledger(lambda message: None, tmp_path / "sounding")
    ledger.release_all()
    ledger._send = synth.send
    ledger.release_all()
    assert synth.down == {}


def test_a_key_counts_as_down_before_its_note_on_is_sent_and_until_its_note_off_has_left(
    tmp_path: Path,
) -> None:
    path = tmp_path / "sounding"
    seen = []

    def send(message: Message) -> None:
        seen.append((message.type, path.read_bytes()[60]))

    clock = [100.0]
    ledger = Ledger(send, path, now=lambda: clock[0])
    ledger.strike(1, 0, 60, 80)
    ledger.release(1, 0, 60)
    assert seen == [("note_on", 1), ("note_off", 1)]
    for wait_s, left in ((0.5, 1), (0.6, 0)):
        clock[0] += wait_s
        ledger.strike(2, 0, 61, 80)
        assert path.read_bytes()[60:62] == bytes((left, 1))
    ledger.release(2, 0, 61)
    ledger.close()
    assert path.read_bytes()[60:62] == bytes((0, 0))


def test_a_file_that_is_none_of_ours_is_begun_anew(synth: Synth, tmp_path: Path) -> None:
    path = tmp_path / "sounding"
    path.write_bytes(b"\x01" * 17)
    assert Ledger(synth.send, path).sounding == []
    assert path.stat().st_size == 2048


def test_a_file_that_cannot_be_written_is_one_sentence(synth: Synth, tmp_path: Path) -> None:
    with pytest.raises(MidiError, match=r"cannot keep .* in .*nowhere.*; make that folder writable"):
        Ledger(synth.send, tmp_path / "nowhere" / "sounding")


def test_what_could_not_be_released_is_still_known(synth: Synth) -> None:
    ledger = Ledger(synth.send)
    ledger.strike(1, 0, 60, 80)
    ledger.strike(2, 0, 61, 80)
    synth.broken = True
    with pytest.raises(MidiError):
        ledger.release(1, 0, 60)
    with pytest.raises(MidiError):
        ledger.release_all()
    synth.broken = False
    assert ledger.sounding == [(0, 60), (0, 61)]
    ledger.release_all()
    assert synth.down == {}


def test_one_key_that_cannot_be_released_keeps_no_other_down(synth: Synth) -> None:
    def send(message: Message) -> None:
        if message.type == "note_off" and message.note == 60:
            raise MidiError("stuck")
        synth.send(message)

    ledger = Ledger(send)
    for pitch in (59, 60, 61):
        ledger.strike(pitch, 0, pitch, 80)
    with pytest.raises(MidiError, match="stuck"):
        ledger.release_all()
    assert ledger.sounding == [(0, 60)]


Steps = st.lists(st.tuples(st.sampled_from("sra"), st.integers(0, 5), st.integers(0, 1), st.integers(60, 62)))


@given(steps=Steps)
def test_any_order_of_events_agrees_with_a_model(steps: list[tuple[str, int, int, int]]) -> None:
    synth = Synth()
    ledger = Ledger(synth.send)
    model: dict[tuple[int, int], int] = {}
    for step, owner, channel, pitch in steps:
        if step == "s":
            ledger.strike(owner, channel, pitch, velocity=owner + 1)
            model[channel, pitch] = owner
        elif step == "r":
            ledger.release(owner, channel, pitch)
            if model.get((channel, pitch)) == owner:
                del model[channel, pitch]
        else:
            ledger.release_all()
            model.clear()
        assert synth.down == {key: owner + 1 for key, owner in model.items()}
        assert ledger.sounding == sorted(model)
