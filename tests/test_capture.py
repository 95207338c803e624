import random

import mido
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jazzd.music.notes import Seconds
from jazzd.player.capture import (
    LONGEST_GESTURE,
    LONGEST_SETTLE,
    SHORTEST_SETTLE,
    Capture,
    ChordCaptured,
    Released,
)

DM7, G7 = (50, 53, 57, 60), (55, 59, 62, 65)


class Hands:
    """Plays into a capture, and keeps what comes out."""

    def __init__(self) -> None:
        self.capture = Capture()
        self.now = 100.0
        self.events: list[ChordCaptured | Released] = []

    def send(self, message: mido.Message) -> None:
        self.events += self.capture.feed(message, Seconds(self.now))

    def strike(self, *pitches: int, gap: float = 0.002, channel: int = 0) -> None:
        for number, pitch in enumerate(pitches):
            self.wait(gap if number else 0.0)
            self.send(mido.Message("note_on", note=pitch, velocity=80, channel=channel))

    def lift(self, *pitches: int, channel: int = 0) -> None:
        for pitch in pitches:
            self.send(mido.Message("note_off", note=pitch, channel=channel))

    def pedal(self, value: int, channel: int = 0) -> None:
        self.send(mido.Message("control_change", control=64, value=value, channel=channel))

    def wait(self, seconds: float) -> None:
        """Lets time pass, polling exactly when asked to."""
        end = self.now + seconds
        while (due := self.capture.deadline()) is not None and due <= end:
            self.now = due
            self.events += self.capture.poll(due)
        self.now = end

    @property
    def chords(self) -> list[ChordCaptured]:
        return [event for event in self.events if isinstance(event, ChordCaptured)]

    @property
    def releases(self) -> list[Released]:
        return [event for event in self.events if isinstance(event, Released)]


@pytest.fixture
def hands() -> Hands:
    return Hands()


def test_notes_struck_together_are_one_chord_25_ms_after_the_last(hands: Hands) -> None:
    hands.strike(*DM7)
    hands.wait(1)
    (chord,) = hands.chords
    assert chord.pitches == set(DM7)
    assert [key.pitch for key in chord.struck] == list(DM7)
    assert chord.last_note_on == pytest.approx(100.006)
    assert chord.at - chord.last_note_on <= 0.0251


def test_the_settle_window_follows_the_player(hands: Hands) -> None:
    assert hands.capture.settle == LONGEST_SETTLE
    for _ in range(8):
        hands.strike(*DM7, gap=0.001)
        hands.wait(1)
        hands.lift(*DM7)
    assert hands.capture.settle == SHORTEST_SETTLE
    hands.strike(*DM7, gap=0.015)
    hands.wait(1)
    assert hands.capture.settle == pytest.approx(0.0225)


def test_a_straggler_makes_a_second_capture_with_all_keys(hands: Hands) -> None:
    hands.strike(*DM7)
    hands.wait(0.03)
    hands.strike(64)
    hands.wait(1)
    first, second = hands.chords
    assert first.pitches == set(DM7)
    assert second.pitches == {*DM7, 64}
    assert [key.pitch for key in second.struck] == [64]


def test_a_single_key_is_a_chord_of_one(hands: Hands) -> None:
    hands.strike(60)
    hands.wait(0.1)
    assert hands.chords[0].pitches == {60}


def test_released_once_when_the_last_key_is_up(hands: Hands) -> None:
    hands.strike(*DM7)
    hands.wait(1)
    hands.lift(*DM7[:3])
    assert not hands.releases
    hands.lift(DM7[3])
    hands.lift(DM7[3])
    assert [release.at for release in hands.releases] == [hands.now]


def test_note_on_without_velocity_is_a_note_off(hands: Hands) -> None:
    hands.strike(60)
    hands.wait(1)
    hands.send(mido.Message("note_on", note=60, velocity=0))
    assert len(hands.releases) == 1


def test_a_chord_shorter_than_its_window_is_captured_then_released(hands: Hands) -> None:
    hands.strike(*DM7)
    hands.lift(*DM7)
    up = hands.now
    assert not hands.events
    hands.wait(0.1)
    assert [type(event) for event in hands.events] == [ChordCaptured, Released]
    assert hands.chords[0].pitches == set(DM7)
    assert hands.releases[0].at == up


def test_the_pedal_holds_the_chord(hands: Hands) -> None:
    hands.strike(*DM7)
    hands.pedal(127)
    hands.wait(1)
    hands.lift(*DM7)
    hands.wait(1)
    assert not hands.releases
    hands.strike(64)
    hands.wait(1)
    assert hands.chords[-1].pitches == {*DM7, 64}
    hands.lift(64)
    hands.pedal(0)
    assert len(hands.releases) == 1
    assert not hands.capture.sounding


def test_over_the_pedal_a_fresh_handful_is_a_new_chord(hands: Hands) -> None:
    hands.pedal(127)
    hands.strike(*DM7)
    hands.wait(1)
    hands.lift(*DM7)
    hands.strike(*G7)
    hands.wait(1)
    assert hands.chords[-1].pitches == set(G7)
    hands.strike(69)
    hands.wait(1)
    assert hands.chords[-1].pitches == {*G7, 69}


def test_a_changed_key_keeps_the_held_ones(hands: Hands) -> None:
    hands.strike(*DM7)
    hands.wait(1)
    hands.lift(60)
    hands.strike(59)
    hands.wait(1)
    assert hands.chords[-1].pitches == {50, 53, 57, 59}


def test_a_restruck_chord_is_captured_again(hands: Hands) -> None:
    for _ in range(3):
        hands.strike(*DM7)
        hands.wait(0.3)
        hands.lift(*DM7)
    assert [chord.pitches for chord in hands.chords] == [frozenset(DM7)] * 3


def test_the_same_key_on_two_channels_is_up_when_both_are(hands: Hands) -> None:
    hands.strike(60, channel=0)
    hands.strike(60, channel=1)
    hands.wait(1)
    hands.lift(60, channel=0)
    assert not hands.releases
    hands.lift(60, channel=1)
    assert len(hands.releases) == 1


def test_every_key_of_the_keyboard_at_once_is_one_chord(hands: Hands) -> None:
    hands.strike(*range(128), gap=0.0)
    hands.wait(1)
    assert [len(chord.pitches) for chord in hands.chords] == [128]


def test_a_flood_of_notes_is_captured_as_it_goes(hands: Hands) -> None:
    for _ in range(300):
        hands.strike(random.Random(hands.now).randrange(128))
        hands.wait(0.002)
    assert len(hands.chords) >= 5
    assert all(chord.at - chord.struck[0].at <= LONGEST_GESTURE + 0.003 for chord in hands.chords)


def test_what_was_struck_and_lifted_just_before_a_channel_is_forgotten_is_no_chord(hands: Hands) -> None:
    hands.strike(*DM7)
    hands.lift(DM7[0])
    hands.capture.forget(0)
    hands.wait(1)
    assert not hands.events
    assert not hands.capture.sounding


def test_reset_forgets_keys_and_pedal(hands: Hands) -> None:
    hands.pedal(127)
    hands.strike(*DM7)
    hands.capture.reset()
    hands.wait(1)
    hands.lift(*DM7)
    assert not hands.events
    assert not hands.capture.sounding


@given(
    st.lists(
        st.tuples(
            st.floats(0, 0.2),
            st.one_of(
                st.builds(
                    mido.Message,
                    st.sampled_from(["note_on", "note_off"]),
                    note=st.integers(40, 44),
                    velocity=st.sampled_from([0, 80]),
                    channel=st.integers(0, 1),
                ),
                st.builds(
                    mido.Message,
                    st.just("control_change"),
                    control=st.sampled_from([1, 64, 121]),
                    value=st.sampled_from([0, 127]),
                ),
                st.just(mido.Message("clock")),
            ),
        ),
        max_size=60,
    )
)
def test_whatever_is_played_silence_is_told_exactly_when_it_comes(
    moves: list[tuple[float, mido.Message]],
) -> None:
    hands = Hands()
    for pause, message in moves:
        hands.wait(pause)
        hands.send(message)
    hands.wait(1)
    told = "silent"
    for event in hands.events:
        if isinstance(event, Released):
            assert told == "sounding"
        told = "silent" if isinstance(event, Released) else "sounding"
    assert (told == "sounding") == bool(hands.capture.sounding)
