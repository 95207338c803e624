"""Scenes and changed settings: what is chosen by name, by number, and by a changed file."""

import itertools
from collections.abc import Callable
from pathlib import Path

import mido
import pytest
from room import Room
from structlog.testing import capture_logs

from jazzd.config import load
from jazzd.engine import protocol
from jazzd.errors import ConfigError, JazzdError
from jazzd.player import setup
from jazzd.settings import Scene, Settings

DM7 = (50, 53, 57, 60)
BALLAD = Scene(
    name="ballad", program=10, style="cool", density=-0.4, low=50, high=80, quantize=80, mode="trade"
)
PLAIN = Scene(name="plain", program=11, style="", mode="follow")


def style(name: str, program: int) -> protocol.Style:
    return protocol.Style(name=name, status="ready", program=program)


@pytest.fixture
def room() -> Room:
    room = Room()
    room.session.scenes.known = (BALLAD, PLAIN)
    room.session.on_styles((style("cool", 3), style("hot", 10)))
    return room


def test_a_scene_sets_what_it_names_and_leaves_the_rest(room: Room) -> None:
    room.session.turn("temperature", 1.3)
    room.session.play_scene("ballad")
    session = room.session
    assert session.styling.mix == {"cool": 1.0}
    assert session.manner.mode == "trade"
    knobs = session.knobs
    assert (knobs["density"], knobs["low"], knobs["high"], knobs["quantize"]) == (-0.4, 50, 80, 80)
    session.play_scene("plain")
    assert (session.styling.mix, session.manner.mode) == ({}, "follow")
    assert (session.scenes.chosen, session.knobs["density"]) == ("plain", -0.4)


def test_knobs_that_would_leave_too_few_pitches_are_refused_as_a_whole(room: Room) -> None:
    room.session.scenes.known = (Scene(name="high", high=50, density=0.5),)
    before = room.session.knobs
    with pytest.raises(JazzdError, match="48 to 50"):
        room.session.play_scene("high")
    for changes in ({"low": 60.5}, {"low": 90}, {"low": 90, "high": 100}):
        with pytest.raises(JazzdError, match="low"):
            room.session.check_knobs(changes)
    room.session.check_knobs({"low": 90, "high": 101})
    assert (room.session.knobs, room.session.scenes.chosen) == (before, "")


def test_a_scene_is_heard_in_the_next_notes(room: Room) -> None:
    room.strike(*DM7)
    room.wait(1)
    room.session.turn("density", 0.5)
    room.session.play_scene("plain")
    room.session.use({"hot": 1.0})
    room.wait(0.5)
    assert room.revisions[-1].mix == (("hot", 1.0),)
    assert room.revisions[-1].sampling.density == 0.5


def test_a_program_change_prefers_a_scene_to_a_style(room: Room) -> None:
    room.play(mido.Message("program_change", program=10))
    assert room.session.scenes.chosen == "ballad"
    room.play(mido.Message("program_change", program=3))
    assert room.session.styling.style == "cool"
    assert room.session.scenes.chosen == "ballad"


def test_a_scene_whose_style_is_not_there_is_refused_with_the_reason(room: Room) -> None:
    room.session.on_styles(())
    with pytest.raises(JazzdError, match="cool"):
        room.session.play_scene("ballad")
    assert room.session.manner.mode == "follow"
    with capture_logs() as logged:
        room.play(mido.Message("program_change", program=10))
    assert [event["event"] for event in logged] == ["scene_refused"]
    with pytest.raises(JazzdError, match="ballad, plain"):
        room.session.play_scene("nothing")


@pytest.fixture
def settings(tmp_path: Path) -> Callable[[str], Settings]:
    def read(text: str) -> Settings:
        file = tmp_path / "daemon.toml"
        file.write_text(text)
        return load(file)

    return read


def test_scenes_are_read_and_checked(settings: Callable[[str], Settings]) -> None:
    read = settings('[[scene]]\nname = "a"\nprogram = 1\nstyle = "cool:0.5,hot:0.5"\n[[scene]]\nname = "b"\n')
    assert [scene.name for scene in read.scene] == ["a", "b"]
    for wrong, words in (
        ('[[scene]]\nname = "a"\n[[scene]]\nname = "a"\n', "two scenes have the name 'a'"),
        ('[[scene]]\nname = "a"\nprogram = 1\n[[scene]]\nname = "b"\nprogram = 1\n', "two scenes"),
        ('[[scene]]\nname = "a"\nvolume = 3\n', "volume.*no such key.*temperature"),
        ('[[scene]]\nname = "a"\nstyle = "cool:x"\n', "NAME:SHARE"),
        ('[[scene]]\nname = "a"\nstyle = "cool:0,hot:0"\n', "no style has a share"),
        ('[[scene]]\nname = "a"\nlow = 60\nhigh = 65\n', "semitones"),
        ('[[scene]]\nname = "a b"\n', "1 to 64 letters, digits"),
        ('[[scene]]\nname = "a"\ndensity = true\n', "scene#1.density: True is not allowed: true and false"),
        ("[[scene]]\nprogram = 1\n", "name"),
    ):
        with pytest.raises(ConfigError, match=words):
            settings(wrong)


def test_a_reload_changes_what_the_file_changed_and_nothing_else(
    room: Room, settings: Callable[[str], Settings]
) -> None:
    before = settings("[solo]\nlow = 50\n")
    room.session.turn("temperature", 1.2)
    room.session.play_scene("ballad")
    after = settings(
        '[solo]\nlow = 55\nstart = "bar"\nchannel = 3\n[feel]\nswing = 60\n[control]\nstyle = 70\n'
        '[midi]\ninput = "Keys"\n[input]\nsplit = 60\n[tempo]\nbpm = 90\n[[scene]]\nname = "new"\n'
    )
    assert set(setup.change(room.session, before, after)) == {
        "solo.low", "solo.start", "feel.swing", "control.style", "input.split", "tempo.bpm", "scene",
    }  # fmt: skip
    assert set(setup.pending(before, after)) == {"solo.channel", "midi.input"}
    session = room.session
    assert session.knobs["temperature"] == 1.2
    assert (session.knobs["low"], session.knobs["swing"]) == (55, 60)
    assert (session.manner.mode, session.manner.start) == ("trade", "bar")
    assert (session.hands.split, session.tempo.bpm) == (60, 90)
    assert [scene.name for scene in session.scenes.known] == ["new"]
    room.play(mido.Message("control_change", control=70, value=127))
    assert session.styling.style == "hot"
    assert setup.change(session, after, after) == []


def test_a_reload_takes_the_files_numbers_also_after_a_lesson(
    room: Room, settings: Callable[[str], Settings]
) -> None:
    """Learning writes into the file: what the file says later is newer."""
    started, session = settings(""), room.session
    session.controls.learn("tap")
    room.turn(71, 127)
    assert session.controls.numbers["tap"] == 71
    learnt = settings("[control]\ntap = 71\n")
    assert setup.change(session, started, learnt) == []
    assert setup.change(session, started, settings("")) == ["control.tap"]
    assert session.controls.numbers["tap"] == 26


def test_a_reload_in_mid_phrase_leaves_no_gap(room: Room, settings: Callable[[str], Settings]) -> None:
    before = settings("")
    room.strike(*DM7)
    room.wait(2)
    setup.change(room.session, before, settings("[solo]\ntemperature = 1.5\n[feel]\nlayback_ms = 10\n"))
    room.wait(2)
    times = [at for at, _ in room.struck]
    assert max(b - a for a, b in itertools.pairwise(times)) < 0.3
    assert room.revisions[-1].sampling.temperature == 1.5


def test_a_chart_can_come_with_a_reload_and_a_broken_one_changes_nothing(
    room: Room, settings: Callable[[str], Settings], tmp_path: Path
) -> None:
    before = settings("")
    missing = settings('[solo]\nchart = "none.json"\nlow = 60\n')
    with pytest.raises(ConfigError, match="cannot be read"):
        setup.change(room.session, before, missing)
    assert room.session.knobs["low"] == 48
    setup.change(room.session, before, settings('[solo]\nchart = "C7 | F7"\n'))
    room.strike(*DM7)
    room.wait(2)
    assert room.revisions[-1].ahead


def test_a_scene_can_be_a_waltz(room: Room, settings: Callable[[str], Settings]) -> None:
    scene = '[[scene]]\nname = "waltz"\nbeats_per_bar = 3\n'
    before, tuned = settings(scene), settings('[solo]\nchart = "C7 | F7"\n' + scene)
    room.session.scenes.known = before.scene
    room.session.play_scene("waltz")
    assert room.session.tempo.bar == 3
    setup.change(room.session, before, settings("[solo]\nlow = 50\n" + scene))
    assert room.session.tempo.bar == 3, "what was chosen stays"
    setup.change(room.session, before, tuned)
    room.session.play_scene("waltz")
    assert room.session.tempo.bar == 4, "a tune knows its own"


def test_a_reload_can_make_a_waltz_of_it(
    room: Room, settings: Callable[[str], Settings], tmp_path: Path
) -> None:
    """Of a tune that is written out, too; a tune's file knows better."""
    plain, three = settings(""), "[tempo]\nbeats_per_bar = 3\n"
    assert setup.change(room.session, plain, settings(three)) == ["tempo.beats_per_bar"]
    assert room.session.tempo.bar == 3
    tune = '[solo]\nchart = "C7 | F7"\n'
    setup.change(room.session, settings(three), settings(tune))
    assert room.session.tempo.bar == 4
    setup.change(room.session, settings(tune), settings(tune + three))
    assert room.session.tempo.bar == 3
    file = tmp_path / "five.json"
    file.write_text('{"time_signature": "5/4", "bars": [[{"beat": 1, "chord": "C"}]]}')
    five = settings(f'[solo]\nchart = "{file}"\n' + three)
    setup.change(room.session, settings(tune + three), five)
    assert room.session.tempo.bar == 5
    setup.change(room.session, five, settings(""))
    assert room.session.tempo.bar == 4


def test_a_scene_whose_style_is_not_there_is_told_before_it_is_chosen(
    room: Room, settings: Callable[[str], Settings]
) -> None:
    before, after = settings(""), settings('[[scene]]\nname = "blue"\nstyle = "cool:0.5,nope:0.5"\n')
    with capture_logs() as logged:
        setup.change(room.session, before, after)
        room.session.on_styles(room.session.styling.records)
    told = [(event["scene"], event["style"]) for event in logged if event["event"] == "style_missing"]
    assert told == [("blue", "nope")]
