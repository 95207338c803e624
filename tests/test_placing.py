"""Where in time single notes go."""

import pytest

from jazzd.engine.protocol import Sampling
from jazzd.music.grid import POSITIONS, Feel
from jazzd.music.notes import Seconds
from jazzd.player.knobs import Knobs
from jazzd.player.placing import Placing
from jazzd.player.scheduler import PlannedNote
from jazzd.player.styling import Styling
from jazzd.player.tempo import Tempo


def placing(quantize: float, swing: float = 50) -> Placing:
    """By a beat of half a second whose first is at 100 s."""
    tempo = Tempo("bpm")
    tempo.struck(Seconds(100))
    return Placing(tempo, Knobs(Sampling(temperature=0.8), Styling(), Feel(quantize, swing)))


def at(seconds: float) -> Seconds:
    return Seconds(100 + seconds)


@pytest.mark.parametrize(("quantize", "first"), [(100, 0.25), (50, 0.245), (0, 0.24)])
def test_what_is_struck_together_stays_together(quantize: float, first: float) -> None:
    place = placing(quantize, swing=50 if quantize else 51)
    struck = [place.due(24, at(0.24), at(0)), place.due(25, at(0.25), at(0))]
    assert struck[0] == pytest.approx(at(first), abs=0.006)
    assert struck[1] - struck[0] == pytest.approx(0.0 if quantize else 0.01)


def test_two_notes_do_not_share_a_position() -> None:
    place = placing(100)
    assert place.due(24, at(0.24), at(0)) == pytest.approx(at(0.25))
    assert place.due(27, at(0.27), at(0)) == pytest.approx(at(1 / 3))


def test_a_line_that_is_faster_than_the_grid_loses_notes_and_keeps_its_time() -> None:
    place, beats = placing(100), [n / 11 for n in range(88)]
    placed = [place.due(round(50 * beat), at(beat / 2), at(0)) for beat in beats]
    heard = [(beat, (due - 100) * 2) for beat, due in zip(beats, placed, strict=True) if due is not None]
    for beat, due in heard:
        assert abs(due - beat) < 0.42, "a quarter of a beat from its own place, which is at most 1/6 away"
        assert min(abs(due % 1 - p) for p in (*POSITIONS, 1.0)) < 1e-6
    assert len(heard) == pytest.approx(8 * len(POSITIONS), abs=2), "there is a note at every position"
    assert [due for _, due in heard] == sorted({due for _, due in heard})


def test_what_is_hardly_quantized_loses_nothing() -> None:
    place = placing(0, swing=62)
    assert None not in [place.due(5 * n, at(n / 20), at(0)) for n in range(100)]


def test_nothing_is_placed_in_the_past() -> None:
    place = placing(100)
    assert place.due(24, at(0.26), at(0.2)) == pytest.approx(at(0.25))
    assert place.due(25, at(0.27), at(0.262)) == pytest.approx(at(0.262)), "the other was sent by now"
    assert place.due(40, at(0.40), at(0.39)) > at(0.39)


def test_places_that_were_taken_back_are_free() -> None:
    place = placing(100)
    first = place.due(24, at(0.24), at(0))
    second = place.due(33, at(0.33), at(0))
    place.take_back([PlannedNote(2, second, 60, 80, 0.1)])
    assert place.due(34, at(0.34), at(0)) == second
    place.take_back([PlannedNote(1, first, 60, 80, 0.1), PlannedNote(2, second, 60, 80, 0.1)])
    assert place.due(26, at(0.26), at(0)) == first


def test_what_is_to_come_moves_with_the_beats() -> None:
    place = placing(60)
    first, second = place.due(24, at(0.24), at(0)), place.due(73, at(0.73), at(0))
    assert not place.moved(at(0.1))
    place._tempo.bpm = 121
    assert place.moved(at(0.4))
    move = place.follow(at(0.4))
    assert move
    assert move(second) - at(0) == pytest.approx((second - at(0)) * 120 / 121), "at the same beat"
    assert move(first) == at(0.4), "not before now"
    assert not place.moved(at(0.4))
    assert place.due(76, at(0.76), at(0.4)) > move(second) + 0.02, "its position is taken"


def test_other_beats_are_not_followed_but_kept_to() -> None:
    place = placing(100)
    place.due(24, at(0.24), at(0))
    place._tempo._origin = at(0.1)
    assert place.moved(at(0.15))
    assert place.follow(at(0.15)) is None
    assert place.due(36, at(0.36), at(0.15)) == pytest.approx(at(0.35))


def test_a_chord_that_is_held_for_hours_takes_no_more_memory() -> None:
    place = placing(100)
    for number in range(3000):
        place.due(25 * number, at(0.25 * number), at(0.25 * number - 0.5))
    assert len(place._placed) < 500
