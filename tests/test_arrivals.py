"""When messages came, from what a driver says of the time between them."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jazzd.player.arrivals import MOST_S, WINDOW_S, Arrivals

BEGAN_S = 1000.0
"""Our clock when the driver's begins."""
passages = st.lists(st.tuples(st.floats(0.0, 0.5), st.floats(0.0, 0.9 * MOST_S)), min_size=1, max_size=200)
"""Seconds since the message before, and how late a message is read."""


def told(passages: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """When each came, and when it is said to have come."""
    arrivals, came, found = Arrivals(), 0.0, []
    for number, (since, delay) in enumerate(passages):
        since = since if number else 0.0  # what RtMidi says of the first message
        came += since
        found.append((BEGAN_S + came, arrivals.at(since, BEGAN_S + came + delay)))
    return found


@given(passages)
def test_a_message_came_between_its_moment_and_its_reading(passages: list[tuple[float, float]]) -> None:
    for (came, said), (_, delay) in zip(told(passages), passages, strict=True):
        assert came - 1e-6 <= said <= came + delay + 1e-6


@given(passages)
def test_it_is_as_exact_as_the_quickest_reading_of_late(passages: list[tuple[float, float]]) -> None:
    found = told(passages)
    for number, (came, said) in enumerate(found):
        late = [passages[k][1] for k in range(number + 1) if found[k][0] > came - 0.9 * WINDOW_S]
        assert said <= came + min(late) + 1e-6


def test_a_clock_that_is_read_every_millisecond_is_heard_as_it_was_sent() -> None:
    found = told([(1 / 48, (7 * k % 10) / 10_000) for k in range(500)])
    assert [said for _, said in found[10:]] == pytest.approx([came for came, _ in found[10:]], abs=1e-6)


@given(passages, st.floats(1.5 * MOST_S, 10.0), passages)
def test_time_that_the_driver_has_kept_to_itself_makes_nothing_early_for_long(
    before: list[tuple[float, float]], lost: float, after: list[tuple[float, float]]
) -> None:
    arrivals, now = Arrivals(), BEGAN_S
    for since, _ in before:
        now += since
        arrivals.at(since, now)
    now += lost
    for since, delay in after:
        now += since
        said = arrivals.at(since, now + delay)
        assert now - MOST_S - 1e-6 <= said <= now + delay + 1e-6
