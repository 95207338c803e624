import pytest

from jazzd.music.notes import Seconds
from jazzd.player.pace import Pace


def test_a_chord_is_thought_to_last_as_long_as_the_last_ones() -> None:
    pace = Pace()
    assert pace.chord_ticks == 200
    for at in (0.0, 1.0, 2.0, 9.0, 10.0):
        pace.struck(Seconds(at))
    assert pace.chord_ticks == 100


@pytest.mark.parametrize(("interval", "ticks"), [(0.01, 50), (60.0, 400)])
def test_but_neither_very_short_nor_very_long(interval: float, ticks: int) -> None:
    pace = Pace()
    pace.struck(Seconds(0.0))
    pace.struck(Seconds(interval))
    assert pace.chord_ticks == ticks


def test_the_lead_is_the_slowest_of_the_last_answers_up_to_a_limit() -> None:
    pace = Pace()
    assert pace.lead_s == 0.05
    pace.answered(0.2)
    pace.answered(0.02)
    assert pace.lead_s == 0.2
    pace.answered(30.0)
    assert pace.lead_s == 0.5
    for _ in range(8):
        pace.answered(0.02)
    assert pace.lead_s == 0.02
    pace.fell_behind(0.1)
    assert pace.lead_s == pytest.approx(0.12)
