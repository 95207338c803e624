"""What comes back is not music, and what the human plays is."""

import mido
import pytest
from structlog.testing import capture_logs

from jazzd.player.echo import LOOPED, EchoGuard


class Clock:
    time = 10.0

    def now(self) -> float:
        return self.time


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def guard(clock: Clock) -> EchoGuard:
    return EchoGuard(clock)


def on(pitch: int, velocity: int = 80, channel: int = 0) -> mido.Message:
    return mido.Message("note_on", note=pitch, velocity=velocity, channel=channel)


def off(pitch: int) -> mido.Message:
    return mido.Message("note_off", note=pitch)


def looped(guard: EchoGuard, clock: Clock, count: int = LOOPED) -> list[bool]:
    """So many notes sent, each heard again 2 ms later."""
    found = []
    for number in range(count):
        clock.time += 0.1
        guard.sent(on(60 + number % 12))
        found.append(guard.heard(on(60 + number % 12), clock.time + 0.002))
    return found


def test_one_or_two_may_be_a_coincidence_and_more_are_a_loop(guard: EchoGuard, clock: Clock) -> None:
    assert looped(guard, clock, 10) == [False] * (LOOPED - 1) + [True] * (11 - LOOPED)


def test_a_chord_of_what_was_just_played_is_the_humans(guard: EchoGuard, clock: Clock) -> None:
    """The solo runs up the chord, and then the human strikes it, just as hard."""
    for pitch in (48, 52, 55, 59):
        guard.sent(on(pitch))
        clock.time += 0.06
    assert not any([guard.heard(on(pitch), clock.time) for pitch in (48, 52, 55, 59)])
    clock.time += 1.0
    for pitch in (48, 52, 55, 59):  # both at once, as with a chordal style
        guard.sent(on(pitch))
    assert not any([guard.heard(on(pitch), clock.time + 0.01) for pitch in (48, 52, 55, 59)])


def test_chords_in_a_loop_are_found_from_the_second_on(guard: EchoGuard, clock: Clock) -> None:
    found = []
    for _ in range(3):
        clock.time += 0.5
        for pitch in (48, 52, 55):
            guard.sent(on(pitch))
        found.append([guard.heard(on(pitch), clock.time + 0.01) for pitch in (48, 52, 55)])
    assert found == [[False] * 3, [True] * 3, [True] * 3]


def test_in_a_loop_what_the_human_plays_is_still_theirs(guard: EchoGuard, clock: Clock) -> None:
    looped(guard, clock)
    guard.sent(on(70))
    at = clock.time
    assert not guard.heard(on(71), at + 0.001)
    assert not guard.heard(on(70, velocity=79), at + 0.001)
    assert not guard.heard(on(70, channel=1), at + 0.001)
    assert guard.heard(on(70), at + 0.002)
    assert not guard.heard(on(70), at + 0.003), "it comes back once"


def test_a_loop_that_is_undone_is_forgotten(guard: EchoGuard, clock: Clock) -> None:
    looped(guard, clock, 6)
    for pitch in range(40, 44):
        clock.time += 0.1
        guard.sent(on(pitch))
    assert not guard.heard(on(43), clock.time + 0.01), "three before it did not come back"


def test_what_comes_late_is_the_humans(guard: EchoGuard, clock: Clock) -> None:
    looped(guard, clock)
    guard.sent(on(70))
    assert not guard.heard(on(70), clock.time + 0.3)


def test_nothing_but_note_ons_is_an_echo(guard: EchoGuard, clock: Clock) -> None:
    looped(guard, clock)
    for message in (off(60), mido.Message("clock"), on(60, velocity=0)):
        guard.sent(message)
        assert not guard.heard(message, clock.time)


def test_with_thru_the_same_key_may_be_struck_again_and_again(guard: EchoGuard, clock: Clock) -> None:
    """A DAW plays sixteenths of one pitch, all as hard."""
    for _ in range(20):
        assert not guard.heard(on(60, 100), clock.time)
        guard.sent(on(60, 100))  # thru
        clock.time += 0.06
        assert not guard.heard(off(60), clock.time)
        clock.time += 0.065


def test_with_thru_a_loop_is_found_too(guard: EchoGuard, clock: Clock) -> None:
    found = []
    for pitch in range(60, 70):
        assert not guard.heard(on(pitch), clock.time)
        guard.sent(on(pitch))  # thru
        found.append(guard.heard(on(pitch), clock.time + 0.002))
        guard.heard(off(pitch), clock.time + 0.1)
        clock.time += 0.2
    assert found[LOOPED:] == [True] * (10 - LOOPED)


def test_a_loop_is_told_once_a_minute(guard: EchoGuard, clock: Clock) -> None:
    with capture_logs() as logged:
        looped(guard, clock, 300)
    assert [event["event"] for event in logged] == ["output_heard_again"]
    with capture_logs() as logged:
        looped(guard, clock, 400)
    assert len(logged) == 1
