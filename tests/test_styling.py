"""Which style sounds: by knob, by number, by name, with files that come and go."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jazzd.engine.protocol import MOST_STYLES, Revise, Style, StyleSettings
from jazzd.errors import JazzdError
from jazzd.player.styling import PLAIN, Styling

FILES = (
    Style(name="cool", status="ready", program=3, settings=StyleSettings(temperature=0.5)),
    Style(name="bebop", status="ready", program=1),
    Style(name="alien", status="incompatible", reason="it was made for another base", program=9),
    Style(name="swing", status="ready"),
)


@pytest.fixture
def styling() -> Styling:
    made = Styling()
    made.records = FILES
    return made


@pytest.mark.parametrize(
    ("value", "style"),
    [(0, PLAIN), (1, "bebop"), (42, "bebop"), (43, "cool"), (84, "cool"), (85, "swing"), (127, "swing")],
)
def test_the_knob_is_spread_over_the_ready_styles(styling: Styling, value: int, style: str) -> None:
    styling.pick(value)
    assert styling.style == style
    assert styling.mix == ({style: 1.0} if style else {})


def test_without_styles_every_place_of_the_knob_is_the_plain_base() -> None:
    made = Styling()
    made.pick(127)
    assert (made.style, made.mix) == (PLAIN, {})


def test_a_program_change_picks_the_style_of_that_number(styling: Styling) -> None:
    assert styling.pick_program(3)
    assert styling.style == "cool"
    assert not styling.pick_program(9)
    assert not styling.pick_program(77)
    assert styling.style == "cool"


def test_a_mix_by_name(styling: Styling) -> None:
    styling.use({"bebop": 0.3, "cool": 0.7})
    assert (styling.style, styling.mix) == ("cool", {"bebop": 0.3, "cool": 0.7})
    styling.use({})
    assert (styling.style, styling.mix) == (PLAIN, {})


@pytest.mark.parametrize(
    ("shares", "words"),
    [
        ({"nobody": 1.0}, "no style 'nobody'; ready are: bebop, cool, swing; the base alone is ''"),
        ({"alien": 1.0}, "another base"),
        ({"cool": 1.5}, "no share"),
    ],
)
def test_what_cannot_sound_is_refused_and_changes_nothing(
    styling: Styling, shares: dict[str, float], words: str
) -> None:
    styling.use({"cool": 1.0})
    with pytest.raises(JazzdError, match=words):
        styling.use(shares)
    assert styling.mix == {"cool": 1.0}


def test_the_blend_goes_towards_the_next_style_and_from_the_last_to_the_plain_base(styling: Styling) -> None:
    styling.blend = 0.25
    assert styling.mix == {"bebop": 0.25}
    styling.pick(1)
    assert styling.mix == {"bebop": 0.75, "cool": 0.25}
    styling.pick(127)
    assert styling.mix == {"swing": 0.75}
    styling.use({"cool": 1.0})
    assert styling.mix == {"cool": 1.0}


def test_a_blend_of_the_most_styles_is_no_more_than_an_engine_takes() -> None:
    styling = Styling()
    styling.records = tuple(Style(name=f"s{number}", status="ready") for number in range(10))
    styling.use({f"s{number}": (number + 1) / 10 for number in range(MOST_STYLES)})
    styling.blend = 0.5
    assert len(styling.mix) == MOST_STYLES
    Revise(epoch=1, now=0, floor=0, mix=tuple(styling.mix.items()))


def test_a_style_that_goes_falls_silent_and_comes_back(styling: Styling) -> None:
    styling.use({"cool": 1.0})
    styling.records = tuple(file for file in FILES if file.name != "cool")
    assert (styling.style, styling.mix, styling.settings) == (PLAIN, {}, {})
    assert "no such file" in styling.missing["cool"]
    styling.records = FILES
    assert (styling.style, styling.mix, styling.settings) == ("cool", {"cool": 1.0}, {"temperature": 0.5})
    assert not styling.missing


def test_the_default_is_taken_up_when_it_is_there() -> None:
    made = Styling("cool")
    assert made.mix == {}
    made.records = FILES
    assert made.mix == {"cool": 1.0}


@given(
    st.lists(st.sampled_from("abcdef"), unique=True),
    st.lists(st.tuples(st.sampled_from(["pick", "blend", "drop"]), st.integers(0, 127)), max_size=10),
)
def test_what_sounds_is_ready_and_one_whole_at_most(names: list[str], turns: list[tuple[str, int]]) -> None:
    made = Styling("a")
    made.records = tuple(Style(name=name, status="ready") for name in names)
    for what, value in turns:
        match what:
            case "pick":
                made.pick(value)
            case "blend":
                made.blend = value / 127
            case "drop":
                made.records = made.records[: value % 7]
        assert set(made.mix) <= set(made.ready)
        assert sum(made.mix.values()) <= 1.0001
        assert made.style in (PLAIN, *made.ready)
