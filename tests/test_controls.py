import mido
import pytest
from pydantic import TypeAdapter

from jazzd.errors import JazzdError
from jazzd.player.controls import Controls, Lesson, Moded, Picked, Programmed, Silenced, Stopped, Turned
from jazzd.settings import RESERVED_CONTROLS, Control


@pytest.fixture
def controls() -> Controls:
    return Controls({"style": 20, "temperature": 21, "density": 22, "harmony": 30, "blend": 24, "mode": 25})


def control(number: int, value: int) -> mido.Message:
    return mido.Message("control_change", control=number, value=value)


@pytest.mark.parametrize(
    ("message", "meaning"),
    [
        (control(21, 0), Turned("temperature", 0.2)),
        (control(21, 127), Turned("temperature", pytest.approx(1.6))),
        (control(30, 0), Turned("harmony", 0.0)),
        (control(30, 127), Turned("harmony", 1.0)),
        (control(120, 0), Silenced("all_sound_off")),
        (control(123, 0), Silenced("all_notes_off")),
        (mido.Message("stop"), Stopped()),
        (control(23, 64), None),
        (control(24, 127), Turned("blend", 1.0)),
        (control(22, 0), Turned("density", -1.0)),
        (control(20, 77), Picked(77)),
        (control(25, 64), Moded("trade")),
        (control(25, 63), Moded("follow")),
        (control(64, 127), None),
        (mido.Message("note_on", note=21, velocity=21), None),
        (mido.Message("program_change", program=21), Programmed(21)),
    ],
)
def test_what_a_message_means(controls: Controls, message: mido.Message, meaning: object) -> None:
    assert controls.read(message) == meaning


def test_a_control_learns_the_next_knob_that_moves() -> None:
    controls = Controls({"style": 20, "temperature": 21}, reserved={64})
    controls.learn("style")
    assert controls.read(control(64, 127)) is None
    assert controls.lesson
    assert "CC 64" in controls.lesson.refused
    assert controls.read(control(120, 0)) == Silenced("all_sound_off")
    assert controls.read(control(74, 10)) == Picked(10)
    assert (controls.lesson.control, controls.lesson.number) == ("style", 74)
    assert controls.read(control(20, 10)) is None
    assert controls.read(control(75, 10)) is None, "one knob a lesson"


def test_no_control_learns_what_the_settings_would_refuse() -> None:
    controls = Controls({"style": 20}, reserved=RESERVED_CONTROLS)
    for number in range(128):
        controls.learn("style")
        controls.read(control(number, 10))
        learnt = controls.numbers["style"] == number
        try:
            TypeAdapter(Control).validate_python(number)
        except ValueError:
            assert not learnt, number
        else:
            assert learnt, number


def test_a_number_that_is_taken_is_swapped() -> None:
    controls = Controls({"style": 20, "temperature": 21})
    controls.learn("style")
    assert controls.read(control(21, 5)) == Picked(5)
    assert controls.numbers == {"style": 21, "temperature": 20}
    assert controls.lesson == Lesson("style", 21, gave_way="temperature")
    controls.learn("style")
    controls.read(control(21, 5))
    assert controls.lesson == Lesson("style", 21), "it had it already"
    with pytest.raises(JazzdError, match="there are style, temperature"):
        controls.learn("volume")
