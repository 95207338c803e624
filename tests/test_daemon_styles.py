"""Styles while the real daemon plays through JACK: files that come and go, knobs, names, a lesson."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mido
import pytest
import tiny
from jack import JackClient
from stage import lift, strike

from jazzd.moonbeam import weights
from jazzd.rehearsal import Daemon, daemon

pytestmark = pytest.mark.in_time

INPUT, OUTPUT = "loopMIDI Port 1", "loopMIDI Port 2"
DM7 = (50, 53, 57, 60)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "styles").mkdir()
    return tmp_path / "styles"


@pytest.fixture
def playing(jack_server: object, tiny_base: Path, folder: Path) -> Iterator[Daemon]:
    options = ["--base", str(tiny_base), "--styles", str(folder)]
    with daemon(options, {"JAZZD_MIDI__BACKEND": "jack"}) as started:
        started.wait_until_ready()
        yield started
        started.stop()


@pytest.fixture
def musician(playing: Daemon) -> Iterator[JackClient]:
    with JackClient(INPUT, OUTPUT) as client:
        yield client


def wait_for(playing: Daemon, condition: Callable[[dict[str, Any]], bool], timeout_s: float = 10) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition(playing.status() | {"styles": playing.styles()}):
        assert time.monotonic() < deadline, playing.status() | {"styles": playing.styles()}
        time.sleep(0.02)


def knob(number: int, value: int) -> mido.Message:
    return mido.Message("control_change", control=number, value=value)


def jazzd(playing: Daemon, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "jazzd", *words],
        env=os.environ | {"JAZZD_SOCKET": str(playing.socket)},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_files_come_and_go_while_the_music_goes_on(
    playing: Daemon, musician: JackClient, folder: Path, tiny_base: Path
) -> None:
    base = weights.identify(tiny_base)[1]
    # Dense: of itself music of random weights may have five notes in five seconds.
    musician.play(knob(22, 127))
    musician.play(*strike(*DM7))
    musician.wait_for(lambda heard: len(heard) > 4)
    cool, hot = folder / "cool.safetensors", folder / "hot.safetensors"
    tiny.write_style(cool, 1, base=base, program=5, temperature=0.4)
    (folder / "noise.safetensors").write_bytes(b"no style at all" * 9)
    tiny.write_style(hot, 2, base=base)
    known = {"cool": "ready", "hot": "ready", "noise": "rejected"}
    wait_for(playing, lambda status: status["styles"] == known)

    musician.play(knob(20, 127))
    wait_for(playing, lambda status: (status["style"], status["mix"]) == ("hot", {"hot": 1.0}))
    musician.play(mido.Message("program_change", program=5))
    wait_for(playing, lambda status: (status["style"], status["temperature"]) == ("cool", 0.4))
    musician.play(knob(24, 127))
    wait_for(playing, lambda status: status["mix"] == {"hot": 1.0})
    musician.play(knob(24, 0))
    wait_for(playing, lambda status: status["mix"] == {"cool": 1.0})

    held = cool.read_bytes()
    cool.unlink()
    wait_for(playing, lambda status: (status["style"], status["mix"]) == ("", {}))
    (folder / ".half").write_bytes(held)
    (folder / ".half").rename(cool)
    wait_for(playing, lambda status: (status["style"], status["mix"]) == ("cool", {"cool": 1.0}))

    heard = len(musician.heard)
    musician.wait_for(lambda messages: len(messages) > heard + 6)
    musician.play(*lift(*DM7))
    musician.wait_for(lambda _: not musician.sounding)
    notes = playing.status()["notes"]
    assert (notes["dropped"], playing.status()["engine"]["restarts"]) == (0, 0)


def test_a_shell_does_what_the_knobs_do(playing: Daemon, folder: Path, tiny_base: Path) -> None:
    for name in ("cool", "hot"):
        tiny.write_style(folder / f"{name}.safetensors", len(name), base=weights.identify(tiny_base)[1])
    wait_for(playing, lambda status: status["styles"] == {"cool": "ready", "hot": "ready"})
    assert jazzd(playing, "styles", "use", "cool:0.7,hot:0.3").returncode == 0
    assert playing.status()["mix"] == {"cool": 0.7, "hot": 0.3}
    assert jazzd(playing, "set", "temperature", "1.25").returncode == 0
    assert playing.status()["temperature"] == 1.25
    assert jazzd(playing, "set", "style", "hot").returncode == 0
    assert playing.status()["style"] == "hot"
    for words, code in (
        (("styles", "use", "nobody"), 1),
        (("set", "volume", "1"), 2),
        (("set", "low", "90"), 1),
        (("set", "low", "60.5"), 1),
        (("set", "blend", "x"), 2),
    ):
        refused = jazzd(playing, *map(str, words))
        assert (refused.returncode, refused.stdout, refused.stderr.count("\n")) == (code, "", 1), words


def test_nothing_is_learnt_while_the_file_has_a_mistake_in_it(playing: Daemon) -> None:
    file = playing.socket.with_name("daemon.toml")
    for text in ("[solo\n", "[solo]\nfoo = 1\n"):
        file.write_text(text)
        refused = jazzd(playing, "learn", "swing")
        assert (refused.returncode, refused.stdout) == (2, "")
        assert str(file) in refused.stderr
        assert file.read_text() == text
    file.write_text("")


def test_nothing_is_learnt_over_a_change_of_the_file_that_does_not_hold_yet(playing: Daemon) -> None:
    file = playing.socket.with_name("daemon.toml")
    file.write_text("[control]\nswing = 40\n")
    refused = jazzd(playing, "learn", "density")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "jazzd reload" in refused.stderr
    assert file.read_text() == "[control]\nswing = 40\n"


def learning(playing: Daemon, control: str) -> "subprocess.Popen[str]":
    """One who waits for a knob to move."""
    process = subprocess.Popen(
        [sys.executable, "-m", "jazzd", "learn", control],
        env=os.environ | {"JAZZD_SOCKET": str(playing.socket)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    assert "move the knob" in process.stdout.readline()
    return process


def test_of_two_who_learn_at_once_the_second_does(playing: Daemon, musician: JackClient) -> None:
    first = learning(playing, "swing")
    second = learning(playing, "density")
    out, said = first.communicate(timeout=30)
    assert (first.returncode, out) == (1, "")
    assert "another `jazzd learn` came in between" in said
    musician.play(knob(90, 5))
    assert "density is CC 90 now" in second.communicate(timeout=30)[0]


def test_a_control_learns_a_knob_and_keeps_it(playing: Daemon, musician: JackClient) -> None:
    file = playing.socket.with_name("daemon.toml")
    file.write_text("# as it was\n")
    process = learning(playing, "temperature")
    musician.play(knob(64, 127), knob(22, 127))
    rest = process.communicate(timeout=30)[0]
    assert process.returncode == 0
    assert "CC 22" in rest
    assert "density had that one; it is CC 21 now" in rest
    assert file.read_text() == "# as it was\n\n[control]\ntemperature = 22\ndensity = 21\n"
    musician.play(knob(21, 0))
    musician.play(knob(22, 0))
    wait_for(playing, lambda status: (status["temperature"], status["density"]) == (0.2, -1.0))
