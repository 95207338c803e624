"""A JACK server that is restarted, and a client that goes and comes back: the daemon goes on by itself."""

import json
import signal
import subprocess
import time
from pathlib import Path

import jack
import pytest
import rtmidi
from jack import JackClient
from stage import lift, staged, strike

pytestmark = pytest.mark.in_time

JACK = {"JAZZD_MIDI__BACKEND": "jack"}
JACK_API = rtmidi.API_UNIX_JACK
INPUT, OUTPUT = "loopMIDI Port 1", "loopMIDI Port 2"
DM7, G7 = (50, 53, 57, 60), (55, 59, 62, 65)


def played(musician: JackClient, since: float) -> list[float]:
    return [at for at, m in list(musician.heard) if m.type == "note_on" and m.velocity and at >= since]


def test_a_restarted_server_is_found_again_and_nothing_hangs(
    jack_server: subprocess.Popen[bytes], private_user: Path
) -> None:
    server, log = jack_server, private_user / "jackd.log"
    with staged(private_user, JACK, "sustaining") as stage:
        stage.ready()
        for _ in range(3):
            with JackClient(INPUT, OUTPUT) as musician:
                struck = musician.play(*strike(*DM7))
                musician.wait_for(lambda _, struck=struck: played(musician, struck))
                musician.play(*lift(*DM7))
            server.terminate()
            server.wait()
            stage.wait_for(lambda status: not status["midi"]["connected"], 3)
            server = jack.start(log)
            back = time.perf_counter()
            stage.wait_for(lambda status: status["midi"]["connected"], 3)
            assert time.perf_counter() - back < 1.5
        with JackClient(INPUT, OUTPUT) as musician:
            stage.wait_for(lambda status: status["notes"]["sounding"] == 0)
            struck = musician.play(*strike(*G7))
            musician.wait_for(lambda _: played(musician, struck))
        stage.stop()
        # Between our own lines are those of the JACK library. A server may go, or come, while it is looked at
        # them: then one is told of after the other.
        told = [json.loads(line) for line in stage.said.splitlines() if line.startswith("{")]
        for event in ("ports_lost", "ports_found"):
            names = [name for each in told if each["event"] == event for name in each["ports"]]
            assert [sum(port in name for name in names) for port in (INPUT, OUTPUT)] == [3, 3]
    jack.end(server, log)


def test_somebody_elses_ports_may_go_and_come_back(
    jack_server: subprocess.Popen[bytes], private_user: Path
) -> None:
    with staged(private_user, JACK | {"JAZZD_MIDI__INPUT": "Keys", "JAZZD_MIDI__OUTPUT": "Synth"}) as stage:
        # At login the keyboard may still be off: until it comes, ports of ours stand for it.
        stage.wait_for(lambda status: status["midi"]["input"] == "jazzd:Keys")
        for name in ("Keys", "Synth"):
            assert f'"wanted": "{name}"' in stage.said
        for absence_s in (0.0, 2.0, 0.0):
            time.sleep(absence_s)
            keys = rtmidi.MidiOut(rtapi=JACK_API, name="keys")
            synth = rtmidi.MidiIn(rtapi=JACK_API, name="synth")
            keys.open_virtual_port("Keys")
            synth.open_virtual_port("Synth")
            stage.wait_for(
                lambda status: (
                    (status["midi"]["input"], status["midi"]["output"]) == ("keys:Keys", "synth:Synth")
                ),
                2,
            )
            stage.wait_for(lambda status: status["midi"]["connected"], 2)
            time.sleep(0.3)
            keys.send_message(strike(60)[0].bytes())
            stage.wait_for(lambda _, synth=synth: synth.get_message(), 3)
            for port in (keys, synth):
                port.close_port()
                port.delete()
            stage.wait_for(lambda status: not status["midi"]["connected"], 3)
        stage.stop()


def test_a_keyboard_that_goes_leaves_nothing_hanging_and_the_synth_as_it_is(
    jack_server: subprocess.Popen[bytes], private_user: Path
) -> None:
    variables = JACK | {"JAZZD_MIDI__INPUT": "Keys", "JAZZD_INPUT__THRU": "true"}
    keys = rtmidi.MidiOut(rtapi=JACK_API, name="keys")
    keys.open_virtual_port("Keys")
    with staged(private_user, variables, "sustaining") as stage:
        stage.ready()
        # The output is ours, and what listens to it must not have to be connected again.
        with JackClient(None, OUTPUT) as musician:
            for message in strike(*DM7):
                keys.send_message(message.bytes())
            musician.wait_for(lambda _: len(musician.sounding) == len(DM7))
            keys.close_port()
            keys.delete()
            stage.wait_for(lambda status: not status["midi"]["connected"], 3)
            musician.wait_for(lambda _: not musician.sounding)
            keys = rtmidi.MidiOut(rtapi=JACK_API, name="keys")
            keys.open_virtual_port("Keys")
            stage.wait_for(lambda status: status["midi"]["connected"], 3)
            back = time.perf_counter()
            for message in strike(*G7):
                keys.send_message(message.bytes())
            musician.wait_for(lambda _: played(musician, back))
        stage.stop()
        assert '"ports": ["keys:Keys"]' in stage.said
    keys.close_port()
    keys.delete()


def test_a_server_that_stands_still_does_not_keep_the_daemon(
    jack_server: subprocess.Popen[bytes], private_user: Path
) -> None:
    with staged(private_user, JACK, "sustaining") as stage:
        stage.ready()
        jack_server.send_signal(signal.SIGSTOP)
        try:
            stage.process.send_signal(signal.SIGTERM)
            # RtMidi waits for the server with the interpreter lock in its hands: no Python thread can end us.
            assert stage.process.wait(8) == 1
        finally:
            jack_server.send_signal(signal.SIGCONT)
        assert "in end" in stage.said  # the log says where it was held up
