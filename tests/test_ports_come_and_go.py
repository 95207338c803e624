"""A JACK server that is restarted, and a client that goes and comes back: the daemon goes on by itself."""

import os
import subprocess
import time
from pathlib import Path

import jack
from jack import JackClient
from stage import lift, staged, strike

from jazzd.player.clock import MonotonicClock
from jazzd.player.ports import open_ports

JACK = {"JAZZD_MIDI__BACKEND": "jack"}
INPUT, OUTPUT = "loopMIDI Port 1", "loopMIDI Port 2"
DM7, G7 = (50, 53, 57, 60), (55, 59, 62, 65)


def played(musician: JackClient, since: float) -> list[float]:
    return [at for at, m in list(musician.heard) if m.type == "note_on" and m.velocity and at >= since]


def test_a_restarted_server_is_found_again_and_nothing_hangs(
    jack_server: subprocess.Popen[bytes], private_user: Path
) -> None:
    name, server = os.environ["JACK_DEFAULT_SERVER"], jack_server
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
            server = jack._start(name, jack._EXACT, private_user / "jackd.log")
            back = time.perf_counter()
            stage.wait_for(lambda status: status["midi"]["connected"], 3)
            assert time.perf_counter() - back < 1.5
        with JackClient(INPUT, OUTPUT) as musician:
            stage.wait_for(lambda status: status["notes"]["sounding"] == 0)
            struck = musician.play(*strike(*G7))
            musician.wait_for(lambda _: played(musician, struck))
        stage.stop()
        # Between our own lines are those of the JACK library.
        for event in ("ports_lost", "ports_found"):
            assert stage.said.count(f'"event": "{event}"') == 3
    jack._ended_well(server)


def test_somebody_elses_ports_may_go_and_come_back(
    jack_server: subprocess.Popen[bytes], private_user: Path
) -> None:
    variables = JACK | {"JAZZD_MIDI__INPUT": "Keys", "JAZZD_MIDI__OUTPUT": "Synth"}

    def rig() -> object:
        return open_ports(
            "jack", "Synth", "Keys", lambda message, at: heard.append(message), MonotonicClock()
        )

    heard: list[object] = []
    device = rig()
    with staged(private_user, variables) as stage:
        stage.ready()
        assert "Keys" in stage.status()["midi"]["input"]
        for _ in range(2):
            time.sleep(0.3)
            device.send(strike(60)[0])
            stage.wait_for(lambda status: status["notes"]["sent"] > 0)
            device.close()
            stage.wait_for(lambda status: not status["midi"]["connected"], 3)
            heard.clear()
            device = rig()
            stage.wait_for(lambda status: status["midi"]["connected"], 3)
        time.sleep(0.3)
        device.send(strike(62)[0])
        stage.wait_for(lambda status: status["chord"])
        for _ in range(100):
            if heard:
                break
            time.sleep(0.02)
        assert heard
        stage.stop()
    device.close()
