from hypothesis import given
from hypothesis import strategies as st

from jazzd.music.tempo import beats_to_seconds, to_seconds, to_ticks


@given(st.integers(0, 2**31 - 1))
def test_ticks_survive_seconds(ticks: int) -> None:
    assert to_ticks(to_seconds(ticks)) == ticks


def test_a_beat_at_120_is_half_a_second() -> None:
    assert beats_to_seconds(1.0, bpm=120.0) == 0.5
