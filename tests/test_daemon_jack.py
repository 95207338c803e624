"""The daemon through real MIDI ports: a musician's client on a JACK server of its own."""

import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import mido
import pytest
from jack import JackClient
from stage import Stage, alive, lift, staged, strike

pytestmark = pytest.mark.in_time

pytest_plugins = ["jack"]

JACK = {"JAZZD_MIDI__BACKEND": "jack"}
INPUT, OUTPUT = "loopMIDI Port 1", "loopMIDI Port 2"
DM7, G7, CMAJ7 = (50, 53, 57, 60), (55, 59, 62, 65), (48, 52, 55, 59)


@pytest.fixture
def stage(jack_server: str, private_user: Path) -> Iterator[Stage]:
    with staged(private_user, JACK) as running:
        running.ready()
        yield running
        running.stop()  # a client that is killed stops this server for 10 s


@pytest.fixture
def musician(stage: Stage) -> Iterator[JackClient]:
    with JackClient(INPUT, OUTPUT) as client:
        yield client


def ons(client: JackClient, since: float = 0.0) -> list[int]:
    return [
        message.note
        for at, message in list(client.heard)
        if message.type == "note_on" and message.velocity and at >= since
    ]


def test_thirty_chords_are_answered_and_all_is_released(stage: Stage, musician: JackClient) -> None:
    for chord in (DM7, G7, CMAJ7) * 10:
        struck = musician.play(*strike(*chord))
        musician.wait_for(lambda _, struck=struck: ons(musician, struck))
        time.sleep(0.1)
        musician.play(*lift(*chord))
    assert stage.status()["chord_to_note_ms"]["n"] == 30
    assert stage.status()["midi"]["output"].endswith(OUTPUT)
    stage.wait_for(lambda status: status["notes"]["sounding"] == 0)
    musician.wait_for(lambda _: not musician.sounding)


def test_after_a_new_chord_no_note_of_the_old_one_is_struck(stage: Stage, musician: JackClient) -> None:
    musician.play(*strike(*DM7))
    musician.wait_for(lambda _: len(ons(musician)) >= 4)
    musician.play(*lift(*DM7))
    struck = musician.play(*strike(54, 58, 61))
    musician.wait_for(lambda _: ons(musician, struck + 0.1))
    time.sleep(0.5)
    assert {note % 12 for note in ons(musician, struck + 0.07)} <= {6, 10, 1}


def test_sigterm_in_mid_phrase_leaves_nothing_sounding(stage: Stage, musician: JackClient) -> None:
    musician.play(*strike(*DM7))
    musician.wait_for(lambda _: len(ons(musician)) >= 3)
    stage.stop()
    assert not musician.sounding


def test_a_killed_engine_leaves_nothing_sounding_and_music_comes_back(
    stage: Stage, musician: JackClient
) -> None:
    musician.play(*strike(*DM7))
    musician.wait_for(lambda _: len(ons(musician)) >= 3)
    engine = stage.status()["engine"]["pid"]
    looked, left = time.perf_counter(), musician.sounding
    os.kill(engine, signal.SIGKILL)
    killed = time.perf_counter()
    time.sleep(0.1)
    assert left <= {(m.channel, m.note) for at, m in musician.heard if at > looked and m.type == "note_off"}
    # The next engine may be playing by then: it stood in reserve.
    assert not {note for _, note in musician.sounding}.difference(ons(musician, killed))
    musician.wait_for(lambda _: ons(musician, killed + 0.1), 10)
    assert not alive(engine)


def test_what_a_killed_player_left_sounding_is_released_by_the_next(
    jack_server: str, private_user: Path
) -> None:
    with staged(private_user, JACK, "sustaining") as stage:
        stage.ready()
        with JackClient(INPUT, OUTPUT) as musician:
            musician.play(*strike(*DM7))
            musician.wait_for(lambda _: musician.sounding)
            stage.process.kill()
            stage.process.wait()
            left = musician.sounding
    with staged(private_user, JACK) as stage, JackClient(listen_to=OUTPUT) as musician:
        musician.wait_for(
            lambda heard: left <= {(each.channel, each.note) for each in heard if "note" in each.type}
        )
        assert all(message.type in ("note_off", "control_change") for message in musician.messages)
        assert stage.ready()["notes"]["sounding"] == 0
        stage.stop()


def test_it_is_released_where_it_sounds_however_many_runs_later_that_is(
    jack_server: str, private_user: Path
) -> None:
    """Until then a port of ours stands for the synthesizer's."""
    named = JACK | {"JAZZD_MIDI__OUTPUT": "Synth"}
    with JackClient(made="Synth") as synth, staged(private_user, named, "sustaining") as stage:
        stage.wait_for(lambda status: "musician" in status["midi"]["output"])
        stage.ready()
        with JackClient(INPUT) as musician:
            musician.play(*strike(*DM7))
            synth.wait_for(lambda _: synth.sounding)
        stage.process.kill()
        stage.process.wait()
        left = synth.sounding
    nowhere = {
        "JAZZD_MIDI__BACKEND": "auto",
        "JACK_DEFAULT_SERVER": "none",
        "JAZZD_MIDI__TCP_LISTEN": "127.0.0.1:0",
    }
    for variables in (named, named | nowhere, named):
        with staged(private_user, variables) as stage:
            stage.ready()
            stage.stop()
    with staged(private_user, named) as stage:
        stage.ready()
        with JackClient(made="Synth") as synth:
            synth.wait_for(
                lambda heard: left <= {(each.channel, each.note) for each in heard if each.type == "note_off"}
            )
        stage.stop()


def test_nothing_that_comes_in_stops_the_music(stage: Stage, musician: JackClient) -> None:
    chance = random.Random(3)
    for nuisance in (
        [mido.Message("sysex", data=[1] * 200)] * 200,
        [mido.Message("active_sensing"), mido.Message("clock")] * 500,
        [mido.Message("note_on", note=60, velocity=0)] * 500,
        strike(*range(128)) + lift(*range(128)),
        [mido.Message("polytouch"), mido.Message("pitchwheel", pitch=-5), mido.Message("program_change")]
        * 100,
        [mido.Message.from_bytes([0xB0, chance.randrange(128), chance.randrange(128)]) for _ in range(500)],
    ):
        musician.play(*nuisance)
        time.sleep(0.2)
        musician.play(
            *(mido.Message("control_change", control=control, value=0) for control in (25, 64, 123))
        )
        time.sleep(0.1)
        struck = musician.play(*strike(*G7))
        musician.wait_for(lambda _, struck=struck: ons(musician, struck))
        musician.play(*lift(*G7))
    assert stage.status()["engine"]["restarts"] == 0
    stage.wait_for(lambda status: status["notes"]["sounding"] == 0)
    musician.wait_for(lambda _: not musician.sounding)


@pytest.mark.parametrize("still_s", [1.0, 3.0])
def test_after_standing_still_keys_count_as_lifted(
    stage: Stage, musician: JackClient, still_s: float
) -> None:
    """Their note-offs may have been lost: JACK does not keep them for who does not come for them."""
    musician.play(*strike(*DM7))
    musician.wait_for(lambda _: musician.sounding)
    stage.process.send_signal(signal.SIGSTOP)
    time.sleep(still_s)
    stage.process.send_signal(signal.SIGCONT)
    stage.wait_for(lambda status: status["notes"]["sounding"] == 0)
    time.sleep(1.5)
    assert not musician.sounding
    assert "stood_still" in {event["event"] for event in stage.events}
    struck = musician.play(*strike(*G7))
    musician.wait_for(lambda _: ons(musician, struck))
    musician.play(*lift(*DM7), *lift(*G7))
