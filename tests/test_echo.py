"""What comes back is not music."""

import mido
from structlog.testing import capture_logs

from jazzd.player.echo import EchoGuard


class Clock:
    time = 10.0

    def now(self) -> float:
        return self.time


def on(pitch: int, velocity: int = 80, channel: int = 0) -> mido.Message:
    return mido.Message("note_on", note=pitch, velocity=velocity, channel=channel)


def test_what_was_sent_is_known_again_and_once_only() -> None:
    guard = EchoGuard(Clock())
    guard.sent(on(60))
    assert not guard.heard(on(61), 10.01)
    assert not guard.heard(on(60, velocity=79), 10.01)
    assert not guard.heard(on(60, channel=1), 10.01)
    assert guard.heard(on(60), 10.02)
    assert not guard.heard(on(60), 10.03)


def test_later_it_is_the_humans() -> None:
    guard = EchoGuard(Clock())
    guard.sent(on(60))
    assert not guard.heard(on(60), 10.3)


def test_nothing_but_note_ons_is_an_echo() -> None:
    guard = EchoGuard(Clock())
    for message in (mido.Message("note_off", note=60), mido.Message("clock"), on(60, velocity=0)):
        guard.sent(message)
        assert not guard.heard(message, 10.0)


def test_a_loop_is_told_once_a_minute() -> None:
    clock = Clock()
    guard = EchoGuard(clock)
    with capture_logs() as logged:
        for number in range(300):
            clock.time += 0.1
            guard.sent(on(60 + number % 12))
            assert guard.heard(on(60 + number % 12), clock.time + 0.002)
    assert [event["event"] for event in logged] == ["output_heard_again"]
    with capture_logs() as logged:
        for number in range(400):
            clock.time += 0.1
            guard.sent(on(60 + number % 12))
            guard.heard(on(60 + number % 12), clock.time + 0.002)
    assert len(logged) == 1
