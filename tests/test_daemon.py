"""The daemon from outside, over TCP MIDI, with an engine that needs no model."""

import fcntl
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import mido
import pytest
from stage import Stage, alive, lift, staged, strike

from jazzd.rehearsal import Heard, TcpLine

pytestmark = pytest.mark.in_time

TCP_ONLY = {"JAZZD_MIDI__BACKEND": "tcp", "JAZZD_MIDI__TCP_LISTEN": "127.0.0.1:0"}
DM7, G7, CMAJ7 = (50, 53, 57, 60), (55, 59, 62, 65), (48, 52, 55, 59)


@pytest.fixture
def stage(private_user: Path) -> Iterator[Stage]:
    with staged(private_user, TCP_ONLY) as running:
        running.ready()
        yield running


@pytest.fixture
def line(stage: Stage) -> Iterator[TcpLine]:
    with TcpLine(stage.status()["midi"]["tcp"]) as connection:
        yield connection


def play(line: TcpLine, messages: list[mido.Message]) -> float:
    for message in messages:
        line.send(message)
    return time.perf_counter()


def ons(heard: list[Heard], since: float = 0.0) -> list[Heard]:
    return [each for each in heard if each.message.type == "note_on" and each.at >= since]


def sounding(heard: list[Heard]) -> set[int]:
    down: set[int] = set()
    for each in heard:
        if each.message.type == "note_on":
            down.add(each.message.note)
        elif each.message.type == "note_off":
            down.discard(each.message.note)
    return down


def silences(heard: list[Heard], since: float) -> list[float]:
    """The moments at which the last note that sounded ended."""
    return [each.at for n, each in enumerate(heard) if each.at >= since and not sounding(heard[: n + 1])]


def wait_until(condition: Callable[[], object], timeout_s: float = 5.0) -> None:
    deadline = time.perf_counter() + timeout_s
    while not condition():
        assert time.perf_counter() < deadline, "it did not happen"
        time.sleep(0.005)


def test_every_chord_is_answered_and_everything_is_released(stage: Stage, line: TcpLine) -> None:
    for chord in (DM7, G7, CMAJ7) * 10:
        struck = play(line, strike(*chord))
        wait_until(lambda struck=struck: ons(line.heard, struck))
        time.sleep(0.1)
        play(line, lift(*chord))
    assert stage.status()["chord_to_note_ms"]["n"] == 30
    wait_until(lambda: stage.status()["notes"]["sounding"] == 0 and not sounding(line.heard))
    assert {each.message.note % 12 for each in ons(line.heard)} == {note % 12 for note in DM7 + G7 + CMAJ7}
    assert stage.status()["chord"] == "Cmaj7"


def test_the_solo_goes_on_while_the_chord_is_held_and_ends_after_it(stage: Stage, line: TcpLine) -> None:
    play(line, strike(*DM7))
    time.sleep(1.5)
    assert len(ons(line.heard)) >= 8
    up = play(line, lift(*DM7))
    time.sleep(1.3)
    assert not sounding(line.heard)
    last = line.heard[-1].at
    assert last - up < 1.1
    time.sleep(0.3)
    assert line.heard[-1].at == last


def test_sigterm_in_mid_phrase_leaves_nothing_sounding_and_nobody_behind(stage: Stage, line: TcpLine) -> None:
    engine = stage.status()["engine"]["pid"]
    play(line, strike(*DM7))
    wait_until(lambda: len(ons(line.heard)) >= 3)
    stage.stop()
    wait_until(lambda: not sounding(line.heard))
    assert not alive(engine)
    assert not stage.socket.exists()


def test_ctrl_c_ends_it_as_well(stage: Stage) -> None:
    stage.process.send_signal(signal.SIGINT)
    assert stage.process.wait(5) == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_impatience_changes_nothing_about_a_clean_end(stage: Stage, line: TcpLine, number: int) -> None:
    engine = stage.status()["engine"]["pid"]
    play(line, strike(*DM7))
    wait_until(lambda: len(ons(line.heard)) >= 3)
    deadline = time.monotonic() + 5
    while stage.process.poll() is None:
        assert time.monotonic() < deadline
        stage.process.send_signal(number)
        time.sleep(0.005)
    assert stage.process.returncode == 0, stage.said
    wait_until(lambda: not sounding(line.heard))
    assert not alive(engine)
    assert stage.events[-1]["event"] == "stopped"


LISTENS = """
import asyncio
from jazzd.player.daemon import _new_event_loop
from jazzd.player.signals import stop_signals

async def until_stopped():
    with stop_signals(asyncio.get_running_loop()) as stop:
        print("ready", flush=True)
        await stop.wait()

with asyncio.Runner(loop_factory=_new_event_loop) as runner:
    runner.run(until_stopped())
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_no_moment_of_the_end_leaves_a_signal_to_the_system(number: int) -> None:
    with subprocess.Popen([sys.executable, "-c", LISTENS], stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdout.readline() == b"ready\n"
        while process.poll() is None:
            process.send_signal(number)
        assert process.returncode == 0


def test_a_log_that_nobody_reads_stops_neither_music_nor_the_end(private_user: Path) -> None:
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    with os.fdopen(reading, "rb") as log, os.fdopen(writing, "wb") as stderr:
        with (
            staged(private_user, TCP_ONLY, stderr=stderr.fileno()) as stage,
            TcpLine(stage.ready()["midi"]["tcp"]) as line,
        ):
            for chord in (DM7, G7, CMAJ7) * 10:
                struck = play(line, strike(*chord))
                wait_until(lambda struck=struck: ons(line.heard, struck))
                play(line, lift(*chord))
            play(line, strike(*DM7))
            wait_until(lambda: sounding(line.heard))
            stage.stop()
            wait_until(lambda: not sounding(line.heard))
        os.set_blocking(log.fileno(), False)
        assert len(log.read()) > 3500  # it was full


def test_a_killed_engine_leaves_nothing_sounding_and_music_comes_back(stage: Stage, line: TcpLine) -> None:
    engine = stage.status()["engine"]["pid"]
    play(line, strike(*DM7))
    wait_until(lambda: len(ons(line.heard)) >= 3)
    os.kill(engine, signal.SIGKILL)
    killed = time.perf_counter()
    wait_until(lambda: ons(line.heard, killed + 0.1), 10)
    assert min(silences(line.heard, killed)) < killed + 0.1, "the next engine's notes may begin at once"
    assert stage.status()["engine"]["restarts"] == 1
    assert stage.status()["engine"]["pid"] != engine


def test_a_folder_of_styles_that_is_not_there_is_told(private_user: Path) -> None:
    missing = private_user / "late"
    with staged(private_user, TCP_ONLY | {"JAZZD_STYLES__FOLDER": str(missing)}) as stage:
        engine = stage.ready()["engine"]
        stage.stop()
        told = [event for event in stage.events if event["event"] == "no_styles_folder"]
    assert [event["folder"] for event in told] == [str(missing)]
    assert (engine["address"], engine["trouble"]) == ("", "")


def test_an_engine_that_stops_answering_counts_as_dead(private_user: Path) -> None:
    with staged(private_user, TCP_ONLY, "silent") as stage:
        engine = stage.ready()["engine"]["pid"]
        with TcpLine(stage.status()["midi"]["tcp"]) as line:
            play(line, strike(*DM7))
            stage.wait_for(lambda status: status["engine"]["restarts"] >= 1)
        assert not alive(engine)
        stage.stop()


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="only Linux tells whether it works")
def test_an_engine_that_is_at_work_is_left_alone_for_longer(private_user: Path) -> None:
    with staged(private_user, TCP_ONLY, "toiling") as stage:
        engine = stage.ready()["engine"]["pid"]
        with TcpLine(stage.status()["midi"]["tcp"]) as line:
            play(line, strike(*DM7))
            wait_until(lambda: ons(line.heard), 15)
        assert stage.status()["engine"]["pid"] == engine
        assert stage.status()["engine"]["restarts"] == 0
        stage.stop()


def test_an_engine_that_talks_nonsense_is_replaced(private_user: Path) -> None:
    with staged(private_user, TCP_ONLY, "babbling") as stage:
        stage.ready()
        with TcpLine(stage.status()["midi"]["tcp"]) as line:
            play(line, strike(*DM7))
            stage.wait_for(lambda status: status["engine"]["restarts"] >= 1)
        stage.stop()


@pytest.mark.parametrize(
    ("mode", "said"), [("failing", "there is no base in /nowhere"), ("crashing", "exit code 3")]
)
def test_an_engine_that_cannot_start_is_one_sentence(private_user: Path, mode: str, said: str) -> None:
    stage = Stage(private_user, TCP_ONLY, mode)
    try:
        assert stage.process.wait(10) == 1
    finally:
        stage.process.kill()
        stage.process.wait()
    assert "ModelError" in stage.said
    assert said in stage.said


def test_no_engine_outlives_its_player(stage: Stage) -> None:
    engine = stage.status()["engine"]["pid"]
    stage.process.kill()
    stage.process.wait()
    wait_until(lambda: not alive(engine))


def test_what_a_killed_player_left_sounding_is_released_by_the_next(private_user: Path) -> None:
    with staged(private_user, TCP_ONLY) as stage, TcpLine(stage.ready()["midi"]["tcp"]) as line:
        play(line, strike(*DM7))
        wait_until(lambda: sounding(line.heard))
        stage.process.kill()
        stage.process.wait()
    told = b"".join(mido.Message("note_off", note=pitch).bin() for pitch in sorted(sounding(line.heard)))
    # Nobody was there to hear it; somebody was; it needs no saying any more.
    for greeting in (None, told, b""):
        with staged(private_user, TCP_ONLY) as stage:
            host, _, port = stage.ready()["midi"]["tcp"].rpartition(":")
            assert stage.status()["notes"]["sounding"] == 0
            if greeting is not None:
                with socket.create_connection((host, int(port)), 0.5) as client:
                    assert _first_of(client)[: len(told)] == greeting
            stage.stop()


def _first_of(client: socket.socket) -> bytes:
    """What comes first; nothing if nothing comes."""
    try:
        return client.recv(4096)
    except TimeoutError:
        return b""


def test_panic_silences_until_the_next_chord(stage: Stage, line: TcpLine) -> None:
    for control in (120, 123):
        play(line, strike(*DM7))
        wait_until(lambda: len(ons(line.heard)) >= 3)
        play(line, [mido.Message("control_change", control=control)])
        wait_until(lambda: stage.status()["notes"]["sounding"] == 0)
        count = len(ons(line.heard))
        time.sleep(0.3)
        assert len(ons(line.heard)) == count
    struck = play(line, strike(*G7))
    wait_until(lambda: ons(line.heard, struck))


def test_only_one_daemon_a_user(stage: Stage, private_user: Path) -> None:
    second = Stage(private_user, TCP_ONLY)
    try:
        assert second.process.wait(10) == 1
    finally:
        second.process.kill()
        second.process.wait()
    assert f"jazzd is already running (pid {stage.process.pid})" in second.said
    assert stage.status()["player"]["pid"] == stage.process.pid


def test_it_runs_on_without_any_midi_and_says_so(private_user: Path) -> None:
    with staged(private_user, {"JAZZD_MIDI__BACKEND": "none"}) as stage:
        nothing = {"backend": "none", "input": "", "output": "", "connected": False, "tcp": ""}
        assert stage.ready()["midi"] == nothing
        stage.stop()
        (said,) = [event for event in stage.events if event["level"] == "error"]
        assert "nobody can play" in said["event"]
        assert "set midi.tcp_listen" in said["event"]


NUISANCES = {
    "sysex_flood": b"\xf0" + bytes(200_000) + b"\xf7" + b"\xf0\x01\xf7" * 5000,
    "unclosed_sysex": b"\xf0" + bytes(70_000),
    "running_status": b"\x90" + bytes([60, 80, 64, 80, 67, 80, 60, 0, 64, 0, 67, 0]) * 50,
    "active_sensing": b"\xfe" * 5000 + b"\xf8" * 5000,
    "note_on_velocity_0": bytes([0x90, 60, 0]) * 2000,
    "every_key_at_once": b"".join(bytes([0x90, note, 90]) for note in range(128)),
    "every_key_everywhere": b"".join(bytes([0x90 | c, n, 90]) for c in range(16) for n in range(128)),
    "knobs_turned": b"".join(bytes([0xB0, control, value]) for control in (21, 23) for value in range(128)),
    "noise": random.Random(1).randbytes(50_000),
    "midi_noise": bytes(random.Random(2).choices([0x80, 0x90, 0x91, 0xB0, *range(128)], k=50_000)),
}


def test_noise_on_one_line_does_not_keep_the_others_waiting(stage: Stage, line: TcpLine) -> None:
    host, _, port = stage.status()["midi"]["tcp"].rpartition(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(random.Random(0).randbytes(200_000))
        struck = play(line, strike(*DM7))
        wait_until(lambda: ons(line.heard, struck), 2.5)
    play(line, lift(*DM7))
    wait_until(lambda: stage.status()["notes"]["sounding"] == 0)
    assert len(stage.events) < 600


def test_silencing_what_is_silent_is_no_event(stage: Stage, line: TcpLine) -> None:
    said = len(stage.events)
    stop, off = mido.Message("stop"), mido.Message("control_change", control=123)
    play(line, [stop, off, mido.Message("control_change", control=120)] * 100)
    struck = play(line, strike(*DM7))
    wait_until(lambda: ons(line.heard, struck))
    assert not [each for each in line.heard if each.at < struck]
    assert "silenced" not in {event["event"] for event in stage.events[said:]}


def test_nothing_that_comes_in_stops_the_music(stage: Stage, line: TcpLine) -> None:
    host, _, port = stage.status()["midi"]["tcp"].rpartition(":")
    for nuisance, data in NUISANCES.items():
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(4096):  # until all of it has been heard, and the daemon hangs up
                pass
        # Noise may have switched to trade, too.
        play(line, [mido.Message("control_change", control=control) for control in (25, 123)])
        time.sleep(0.1)
        for chord in (DM7, G7):
            struck = play(line, strike(*chord))
            wait_until(lambda struck=struck: ons(line.heard, struck))
            play(line, lift(*chord))
        assert stage.status()["engine"]["restarts"] == 0, nuisance
    wait_until(lambda: stage.status()["notes"]["sounding"] == 0 and not sounding(line.heard))
    stage.stop()
