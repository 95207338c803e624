"""In the band, from outside: a DAW's process sends the clock, a musician plays through real ports."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import mido
import pytest
from jack import JackClient
from stage import Stage, lift, staged, strike

from jazzd.music.grid import POSITIONS
from jazzd.player import control

pytestmark = pytest.mark.in_time

JACK = {"JAZZD_MIDI__BACKEND": "jack"}
INPUT, OUTPUT = "loopMIDI Port 1", "loopMIDI Port 2"
DM7, G7, CMAJ7 = (50, 53, 57, 58), (43, 47, 50, 53), (48, 52, 55, 59)
BEAT_S = 0.5
SLACK_S = 0.05
"""The cores may be busy with other tests."""


@contextlib.contextmanager
def playing(folder: Path, **variables: str) -> Iterator[tuple[Stage, JackClient]]:
    with staged(folder, JACK | {f"JAZZD_{key}": value for key, value in variables.items()}) as stage:
        stage.ready()
        with JackClient(INPUT, OUTPUT) as musician:
            yield stage, musician
        stage.stop()  # a client that is killed stops this server for 10 s


@contextlib.contextmanager
def daw(seconds: float, *options: str) -> Iterator[float]:
    """A clock at 120 for so long; when its beat 0 was."""
    command = [sys.executable, "-m", "jazzd.bench.daw", INPUT, "--seconds", str(seconds), *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        yield json.loads(process.stdout.readline())["began"]


def ons(musician: JackClient, since: float = 0.0) -> list[float]:
    heard = list(musician.heard)
    return [at for at, m in heard if m.type == "note_on" and m.velocity and at >= since]


def knows(stage: Stage, musician: JackClient) -> str:
    """What the daemon and the wire know of keys that hang."""
    heard = [(round(at, 3), message.hex()) for at, message in musician.heard[-12:]]
    return f"heard {heard}; {stage.status()['notes']}; said {stage.said}"


def sleep_until(at: float) -> None:
    time.sleep(max(0.0, at - time.perf_counter()))


def test_notes_are_on_the_grid_of_a_clock_that_jitters_and_stop_with_it(
    jack_server: object, private_user: Path
) -> None:
    with (
        playing(private_user, FEEL__QUANTIZE="100") as (stage, musician),
        daw(6, "--jitter-ms", "5") as began,
    ):
        sleep_until(began + 4 * BEAT_S)
        struck = musician.play(*strike(*DM7))
        sleep_until(began + 11 * BEAT_S)
        tempo = stage.status()["tempo"]
        assert tempo["source"] == "clock"
        assert tempo["bpm"] == pytest.approx(120, abs=2)
        sleep_until(began + 6.6)  # the DAW has sent Stop
        assert not musician.sounding, knows(stage, musician)
        times = ons(musician, struck)[1:]
        assert len(times) > 8
        near = 0
        for at in times:
            beat = (at - began) / BEAT_S
            near += BEAT_S * min(abs(beat % 1 - position) for position in (*POSITIONS, 1.0)) < 0.01
        assert near >= 0.8 * len(times)


def test_a_clock_that_dies_in_mid_bar_ends_the_phrase(jack_server: object, private_user: Path) -> None:
    with playing(private_user) as (stage, musician), daw(3.3, "--break-off") as began:
        sleep_until(began + 1)
        musician.play(*strike(*DM7))
        sleep_until(began + 3.3)
        assert ons(musician)
        sleep_until(began + 5.3)
        assert not musician.sounding, knows(stage, musician)
        assert not ons(musician, began + 5)
        musician.play(*lift(*DM7))
        struck = musician.play(*strike(*G7))
        musician.wait_for(lambda _: ons(musician, struck))
        assert "clock_lost" in {event["event"] for event in stage.events}


def test_an_answer_waits_for_the_bar(jack_server: object, private_user: Path) -> None:
    with playing(private_user, SOLO__START="bar") as (_, musician), daw(6) as began:
        sleep_until(began + 5.2 * BEAT_S)
        musician.play(*strike(*DM7))
        musician.wait_for(lambda _: ons(musician))
        assert ons(musician)[0] == pytest.approx(began + 8 * BEAT_S, abs=SLACK_S)
        musician.play(*lift(*DM7))


def test_four_chords_are_traded(jack_server: object, private_user: Path) -> None:
    with playing(private_user, SOLO__MODE="trade") as (stage, musician):
        began = time.perf_counter()
        for number, chord in enumerate((DM7, G7, CMAJ7, CMAJ7)):
            sleep_until(began + 0.6 * number)
            musician.play(*strike(*chord))
            time.sleep(0.5)
            musician.play(*lift(*chord))
        assert not ons(musician)
        assert stage.status()["mode"] == "trade"
        sleep_until(began + 5.0)
        times = ons(musician)
        assert times[0] == pytest.approx(began + 2.4, abs=SLACK_S)
        assert times[-1] < began + 4.8
        assert not musician.sounding, knows(stage, musician)
        cut = musician.play(*strike(*DM7))  # and it listens again
        time.sleep(0.4)
        assert not ons(musician, cut)
        musician.play(*lift(*DM7))


def test_the_right_hand_has_the_floor_and_thru_passes_it_on(jack_server: object, private_user: Path) -> None:
    variables = {"INPUT__SPLIT": "60", "INPUT__THRU": "true", "SOLO__CHANNEL": "2"}
    with playing(private_user, **variables) as (stage, musician):
        musician.play(*strike(*DM7))
        musician.wait_for(lambda _: [m for m in musician.messages if m.type == "note_on" and m.channel == 1])
        passed = {m.note for m in musician.messages if m.type == "note_on" and m.channel == 0}
        assert passed == set(DM7)
        led = musician.play(*strike(72))
        time.sleep(0.5)
        solo = [at for at, m in musician.heard if m.type == "note_on" and m.channel == 1 and at > led + 0.05]
        assert not solo
        up = musician.play(*lift(72))
        musician.wait_for(
            lambda _: [
                at for at, m in musician.heard if m.type == "note_on" and m.channel == 1 and at > up + 0.5
            ]
        )
        musician.play(*lift(*DM7))
        stage.wait_for(lambda status: status["notes"]["sounding"] == 0)
        musician.wait_for(lambda _: not musician.sounding)


SCENES = '[solo]\ntemperature = 1.0\n[[scene]]\nname = "late"\nprogram = 9\ndensity = -0.5\nmode = "trade"\n'


def test_scenes_and_a_changed_file_reach_the_music(jack_server: object, private_user: Path) -> None:
    file = private_user / "daemon.toml"
    file.write_text(SCENES)
    with playing(private_user) as (stage, musician):
        assert stage.status()["temperature"] == 1.0
        musician.play(mido.Message("program_change", program=9))
        status = stage.wait_for(lambda status: status["scene"] == "late")
        assert (status["density"], status["mode"]) == (-0.5, "trade")
        file.write_text(SCENES.replace("1.0", "1.5"))
        stage.process.send_signal(signal.SIGHUP)
        stage.wait_for(lambda status: status["temperature"] == 1.5)
        file.write_text(SCENES.replace("1.0", "0.5") + "volume = 3\n")
        with pytest.raises(Exception, match="volume"):
            control.ask({"do": "reload"}, stage.socket)
        stage.process.send_signal(signal.SIGHUP)
        time.sleep(0.3)
        assert stage.status()["temperature"] == 1.5
        file.write_text(SCENES.replace("9", "8") + 'style = "sax"\n')
        told = control.ask({"do": "reload"}, stage.socket)
        lacks = {"scene": "late", "style": "sax", "reason": "there is no such file in the styles folder"}
        assert told == {"applied": ["solo.temperature", "scene"], "at_next_start": [], "missing": [lacks]}
        said = subprocess.run(
            [sys.executable, "-m", "jazzd", "reload"],
            env=os.environ | {"JAZZD_SOCKET": str(stage.socket)},
            capture_output=True,
            text=True,
        ).stdout
        assert "changed: nothing\nthe style sax of the scene late is missing: there is no such file" in said
        file.write_text(SCENES.replace("9", "8"))
        assert control.ask({"do": "reload"}, stage.socket)["missing"] == []
        assert control.ask({"do": "scene", "name": "late"}, stage.socket) == {}


def test_taps_tell_the_tempo(jack_server: object, private_user: Path) -> None:
    with playing(private_user, TEMPO__TAP_KEY="21") as (stage, musician):
        taps = []
        for number in range(4):
            tap = (
                mido.Message("control_change", control=26, value=127)
                if number % 2
                else mido.Message("note_on", note=21)
            )
            taps.append(musician.play(tap))
            musician.play(mido.Message("control_change", control=26, value=0))
            time.sleep(0.4)  # about: how long it was is in `taps`
        tempo = stage.status()["tempo"]
        assert tempo["source"] == "taps"
        assert tempo["bpm"] == pytest.approx(60 * 3 / (taps[-1] - taps[0]), abs=8)
        assert stage.status()["chord"] == ""
