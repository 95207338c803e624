import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar
from unittest.mock import Mock

import jack
import pytest
import rtmidi
from jack import JackClient
from mido import Message
from structlog.testing import capture_logs

from jazzd.errors import MidiError
from jazzd.player import drivers
from jazzd.player import port as port_module
from jazzd.player import ports as ports_module
from jazzd.player.clock import MonotonicClock
from jazzd.player.drivers import NOTICE_S, YOUNG_S, PortList, end_orphans, list_ports
from jazzd.player.ledger import Ledger
from jazzd.player.ports import SETTLE_S, Change, Output, Ports, open_ports

pytestmark = pytest.mark.in_time

INPUT, OUTPUT = "loopMIDI Port 1", "loopMIDI Port 2"


class Ear:
    def __init__(self) -> None:
        self.heard: list[Message] = []
        self.stamps: list[float] = []

    def __call__(self, message: Message, stamp: float) -> None:
        self.heard.append(message)
        self.stamps.append(stamp)


def open_jack(ear: Ear, input_name: str = INPUT, output_name: str = OUTPUT) -> Ports:
    ports = open_ports("jack", input_name, output_name, ear, MonotonicClock())
    time.sleep(SETTLE_S)
    return ports


@pytest.fixture
def no_midi(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rtmidi, "get_compiled_api", list)


@pytest.mark.usefixtures("no_midi")
def test_without_a_midi_system_there_is_a_reason_and_a_port_that_does_nothing() -> None:
    found = list_ports()
    assert (found.backend, found.inputs, found.outputs) == ("none", (), ())
    assert "does not exist on this system" in found.reason
    assert "\n" not in found.reason
    ports = open_ports("auto", INPUT, OUTPUT, Ear(), MonotonicClock())
    assert (ports.backend, ports.input, ports.output, ports.reason) == ("none", "", "", found.reason)
    ports.send(Message("note_on"))
    ports.close()


class Renumbering:
    """A client of a system in which a port comes, before the others, while one is being opened."""

    there: ClassVar[list[str]] = ["keyboard", "synth"]
    opened: ClassVar[list[str]] = []
    hung_up = False

    def __init__(self, kind: type, backend: str) -> None:
        self.backend, self.midi = backend, Mock()
        self.midi.open_port, self.midi.get_message.return_value = self._open, None

    def ports(self) -> list[str]:
        return list(self.there)

    def end(self) -> None:
        pass

    def _open(self, number: int, name: str) -> None:
        if len(self.there) == 2:
            self.there.insert(0, "newcomer")
        self.opened.append(self.there[number])


def test_a_port_that_was_given_another_number_meanwhile_is_opened_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(port_module, "Client", Renumbering)
    monkeypatch.setattr(ports_module, "list_ports", lambda wanted: PortList("jack", (), ()))
    ports = open_ports("auto", "keyboard", "synth", Ear(), MonotonicClock())
    assert (ports.input, ports.output, ports.connected) == ("", "synth", False)
    assert ports.look().found == ("keyboard",)
    assert Renumbering.opened == ["newcomer", "synth", "keyboard"]
    ports.close()


@pytest.mark.usefixtures("no_midi")
def test_a_backend_that_was_named_must_be_there() -> None:
    with pytest.raises(MidiError, match="winmm does not exist on this system"):
        open_ports("winmm", INPUT, OUTPUT, Ear(), MonotonicClock())


@pytest.mark.parametrize("backend", ["tcp", "none"])
def test_backends_that_have_no_ports(backend: str) -> None:
    assert list_ports(backend).reason == f"midi.backend is {backend}"
    assert open_ports(backend, INPUT, OUTPUT, Ear(), MonotonicClock()).backend == "none"


def test_a_jack_server_that_does_not_run_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("JACK_DEFAULT_SERVER", "nobody")
    assert list_ports("jack").reason == "no JACK server runs under the name 'nobody'"
    assert capfd.readouterr() == ("", "")


@pytest.mark.usefixtures("jack_server")
def test_a_jack_server_is_left_to_itself_while_it_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    door, slept = Path(f"/dev/shm/jack_{os.environ['JACK_DEFAULT_SERVER']}_{os.getuid()}_0"), list[float]()
    monkeypatch.setattr("jazzd.player.drivers.time", SimpleNamespace(time=lambda: 1e9, sleep=slept.append))
    for age_s, waits_s in ((0.0, YOUNG_S), (0.1, YOUNG_S - 0.1), (YOUNG_S, 0.0), (-3600.0, 0.0)):
        os.utime(door, times=(1e9 - age_s,) * 2)
        drivers._connect_jack().close()
        assert sum(slept) == pytest.approx(waits_s)
        slept.clear()


def test_all_senders_have_the_message_even_if_one_fails() -> None:
    def fail(message: Message) -> None:
        raise MidiError("unplugged")

    heard: list[Message] = []
    with pytest.raises(MidiError, match="unplugged"):
        Output(fail, heard.append).send(Message("note_on"))
    assert heard == [Message("note_on")]


@pytest.mark.usefixtures("jack_server")
def test_virtual_ports_hear_and_play() -> None:
    ear = Ear()
    ports = open_jack(ear)
    assert (ports.backend, ports.input, ports.output) == (
        "jack",
        "jazzd:loopMIDI Port 1",
        "jazzd-01:loopMIDI Port 2",
    )
    assert list_ports("jack").inputs == (ports.output,)
    assert list_ports("jack").outputs == (ports.input,)
    with JackClient(into=ports.input, listen_to=ports.output) as musician:
        sent_at = musician.play(*(Message("note_on", note=note) for note in range(128)))
        # What is not for us, or not MIDI, and must not stop what comes after it.
        for data in (b"\xf0" + bytes(range(100)) + b"\xf7", b"\xfe", b"\x90\x3c", b"\xf4"):
            musician.play_bytes(data)
        musician.play(Message("clock"), Message("note_off", note=60))
        ports.send(Message("note_on", channel=3, note=1, velocity=2))
        ports.send(Message("note_off", channel=3, note=1, velocity=0))
        musician.wait_for(lambda heard: len(heard) == 2)
        for _ in range(500):
            if len(ear.heard) == 130:
                break
            time.sleep(0.01)
    assert [message.note for message in ear.heard[:128]] == list(range(128))
    assert ear.heard[128:] == [Message("clock"), Message("note_off", note=60)]
    assert ear.stamps == sorted(ear.stamps)
    assert 0 < ear.stamps[0] - sent_at + 1 < 5
    assert musician.messages == [
        Message("note_on", channel=3, note=1, velocity=2),
        Message("note_off", channel=3, note=1, velocity=0),
    ]
    ports.close()
    assert list_ports("jack").inputs == ()
    ports.send(Message("note_on"))  # of no effect, and no crash


@pytest.mark.usefixtures("jack_server")
def test_what_was_sent_before_closing_arrives() -> None:
    ports = open_jack(Ear())
    with JackClient(listen_to=OUTPUT) as musician:
        for note in range(128):
            ports.send(Message("note_on", note=note))
        for note in range(128):
            ports.send(Message("note_off", note=note))
        ports.close()
        musician.wait_for(lambda heard: len(heard) == 256)
        assert musician.sounding == set()


@pytest.mark.usefixtures("jack_server")
def test_existing_ports_are_found_by_part_of_their_name_and_never_our_own() -> None:
    ear, other_ear = Ear(), Ear()
    theirs = open_jack(other_ear, "Piano in", "Piano out")
    ours = open_jack(ear, "Piano", "Piano")
    # What the others play is what we hear.
    assert (ours.input, ours.output) == (theirs.output, theirs.input)
    ours.send(Message("note_on", note=1))
    theirs.send(Message("note_on", note=2))
    time.sleep(0.3)
    assert [message.note for message in ear.heard] == [2]
    assert [message.note for message in other_ear.heard] == [1]
    ours.close()
    theirs.close()


@pytest.mark.usefixtures("jack_server")
def test_two_virtual_ports_of_one_name_are_not_joined() -> None:
    ear = Ear()
    ports = open_jack(ear, "jazz", "jazz")
    ports.send(Message("note_on"))
    time.sleep(0.2)
    assert ear.heard == []
    assert "jazz" in ports.output
    ports.close()


@pytest.mark.usefixtures("jack_server")
def test_keys_are_let_go_of_when_nobody_is_left_who_could_hold_them() -> None:
    ear = Ear()
    ports = open_jack(ear)
    with JackClient(into=INPUT):
        with JackClient(into=INPUT) as musician:
            musician.play(
                Message("note_on", note=60), Message("note_on", note=64), Message("note_off", note=64)
            )
            musician.play(Message("control_change", control=64, value=127))
            time.sleep(0.3)
            ports.look()
        assert ports.look() == Change()
        played = len(ear.heard)
        assert played == 4
    assert ports.look() == Change()
    assert ear.heard[played:] == [
        Message("note_off", note=60),
        Message("control_change", control=64, value=0),
    ]
    assert ports.look() == Change()
    assert len(ear.heard) == played + 2
    ports.close()


GUESTS = """
import time, rtmidi
for number in range(60):
    guests = [kind(rtapi=rtmidi.API_UNIX_JACK, name="guest") for kind in (rtmidi.MidiIn, rtmidi.MidiOut)]
    for guest in guests:
        guest.open_virtual_port("guest")
        time.sleep(0.02)
    for guest in guests:
        guest.close_port()
        guest.delete()
        time.sleep(0.02)
"""


@pytest.mark.usefixtures("jack_server")
def test_ports_stay_open_whoever_comes_and_goes() -> None:
    theirs, ours = open_jack(Ear(), "Keys in", "Keys out"), open_jack(Ear())
    joined = open_jack(Ear(), "Keys out", "Keys in")
    assert joined.made == ()
    looks = 0
    with subprocess.Popen([sys.executable, "-c", GUESTS]) as guests:
        while guests.poll() is None:  # so one leaves in the middle of a look again and again
            assert (ours.look(), joined.look()) == (Change(), Change())
            looks += 1
    assert looks > 500
    for ports in (joined, ours, theirs):
        ports.close()


@pytest.mark.usefixtures("jack_server")
def test_closing_in_a_flood_and_an_ear_that_fails() -> None:
    def fail(message: Message, stamp: float) -> None:
        heard.set()
        raise RuntimeError("a bug")

    heard, over = threading.Event(), threading.Event()
    ports = open_ports("jack", INPUT, OUTPUT, fail, MonotonicClock())
    with JackClient(into=INPUT) as musician, capture_logs() as logs:

        def flood() -> None:
            while not over.is_set():
                musician.play(*[Message("clock")] * 20)
                time.sleep(0.001)

        thread = threading.Thread(target=flood)
        thread.start()
        assert heard.wait(5)
        began = time.perf_counter()
        ports.close()
        took_s = time.perf_counter() - began
        over.set()
        thread.join()
    assert took_s < 3
    assert {entry["event"] for entry in logs} == {"message_not_handled"}


def test_a_jack_server_that_dies_is_an_error_and_not_the_end(jack_server: subprocess.Popen[bytes]) -> None:
    ports = open_jack(Ear())
    ports.send(Message("note_on"))
    jack_server.kill()
    jack_server.wait()
    for _ in range(3000):  # RtMidi's buffer holds two thousand
        with pytest.raises(MidiError, match="the JACK server is gone"):
            ports.send(Message("note_on"))
    ports.close()


def test_nothing_is_opened_beside_a_client_that_outlived_its_server(
    jack_server: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    ports, log = open_jack(Ear()), tmp_path / "second.log"
    jack_server.terminate()
    jack_server.wait()
    second = jack.start(log)
    assert "first jazzd lets go" in list_ports("jack").reason
    with ThreadPoolExecutor(1) as other_thread:
        look = partial(other_thread.submit, ports.look)
        assert look().result().lost == ("jazzd:" + INPUT, "jazzd-01:" + OUTPUT)
        assert look().result() == Change(), "what is left of the first server is in the way"
        end_orphans()
        assert look().result() == Change(), "libjack may not have heard of it yet"
        time.sleep(NOTICE_S)
    began = time.perf_counter()
    end_orphans()
    assert time.perf_counter() - began < 0.5, "RtMidi's own wait is a second"
    assert ports.look().found
    time.sleep(SETTLE_S)
    with JackClient(listen_to=OUTPUT) as musician:
        ports.send(Message("note_on"))
        musician.wait_for(bool)
    ports.close()
    jack.end(second, log)


KILLED = """
import os, sys, time
from pathlib import Path
from jazzd.player.clock import MonotonicClock
from jazzd.player.drivers import PortList, list_ports
from jazzd.player.ledger import Ledger
from jazzd.player.ports import SETTLE_S, open_ports

ports = open_ports("jack", "loopMIDI Port 1", "loopMIDI Port 2", print, MonotonicClock())
sys.stdin.readline()
time.sleep(SETTLE_S)
ledger = Ledger(ports.send, Path(sys.argv[1]))
for pitch in (60, 64, 67):
    ledger.strike(pitch, 0, pitch, 80)
time.sleep(0.1)
os.kill(os.getpid(), 9)
"""


@pytest.mark.usefixtures("jack_server")
def test_what_sounds_when_the_player_is_killed_is_released_at_the_next_start(tmp_path: Path) -> None:
    path = tmp_path / "sounding"
    child = subprocess.Popen([sys.executable, "-c", KILLED, str(path)], stdin=subprocess.PIPE, text=True)
    with JackClient(listen_to=OUTPUT) as musician:
        child.communicate("play\n", timeout=20)
        musician.wait_for(lambda heard: len(heard) == 3)
        assert musician.sounding == {(0, 60), (0, 64), (0, 67)}
    ports = open_jack(Ear())
    with JackClient(listen_to=OUTPUT) as musician:
        Ledger(ports.send, path).release_all()
        musician.wait_for(lambda heard: len(heard) == 6)
        assert [m.note for m in musician.messages if m.type == "note_off"] == [60, 64, 67]
    ports.close()
