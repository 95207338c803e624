"""Follow mode, on a clock that only the test moves: the real scheduler and ledger, the fake engine."""

from collections.abc import Callable

import mido
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from room import Room
from structlog.testing import capture_logs

from jazzd.engine import protocol
from jazzd.engine.protocol import Advance, Begin, Revise
from jazzd.player.styling import Styling

DM7, G7 = (50, 53, 57, 60), (55, 59, 62, 65)


@pytest.fixture
def room() -> Room:
    return Room()


def test_a_chord_begins_a_timeline_and_asks_for_an_answer(room: Room) -> None:
    room.strike(*DM7)
    room.wait(0.03)
    begin, revise, advance = room.asked[:3]
    assert isinstance(begin, Begin)
    assert isinstance(revise, Revise)
    assert (revise.answer, revise.playing, revise.keep) == (True, True, -1)
    assert [(key.onset, key.pitch) for key in revise.keys] == [(0, pitch) for pitch in DM7]
    assert revise.floor > revise.now
    assert isinstance(advance, Advance)
    assert advance.until - advance.now == 100


def test_the_answer_sounds_when_it_is_here(room: Room) -> None:
    room.strike(*DM7)
    room.wait(1)
    assert room.struck[0][0] == pytest.approx(1000.0 + 0.025 + 0.030)
    assert room.session.latency.summary()["p50"] == pytest.approx(55.0)
    assert room.scheduler.figures().late == 0


def test_of_a_forearm_on_the_keys_the_latest_are_told(room: Room) -> None:
    """The engine reads what it is told before it answers."""
    room.strike(*range(30, 100))
    room.wait(1)
    (revise,) = (told for told in room.revisions if told.keys)
    assert [key.pitch for key in revise.keys] == list(range(68, 100))
    assert room.struck


def test_nothing_of_the_old_chord_is_struck_after_the_new_one(room: Room) -> None:
    room.strike(*DM7)
    room.wait(1)
    room.lift(*DM7)
    room.strike(54, 58, 61)
    room.wait(0.025)
    captured = room.time
    room.wait(1)
    assert {pitch % 12 for at, pitch in room.struck if at > captured} == {6, 10, 1}


def test_what_was_sent_stays_in_the_timeline_and_nothing_else(room: Room) -> None:
    room.strike(*DM7)
    room.wait(1)
    sent = len(room.struck)
    room.lift(*DM7)
    room.strike(*G7)
    room.wait(0.025)
    assert room.revisions[-1].keep == sent - 1
    assert [key.pitch for key in room.revisions[-1].keys] == list(G7)
    assert room.revisions[-1].keys[0].onset == 100


def test_notes_of_an_older_question_are_not_heard(room: Room) -> None:
    room.strike(*DM7)
    room.wait(0.03)
    room.lift(*DM7)
    room.strike(*G7)
    room.wait(0.03)
    room.wait(0.5)
    assert {pitch % 12 for _, pitch in room.struck} <= {pitch % 12 for pitch in G7}


def test_the_phrase_ends_within_a_second_of_the_hands(room: Room) -> None:
    room.strike(*DM7)
    room.wait(2)
    room.lift(*DM7)
    up = room.time
    room.wait(3)
    assert not room.sounding
    assert 0.3 < room.heard[-1][0] - up < 1.0
    assert not room.revisions[-1].playing
    last = room.struck[-1]
    assert last[1] % 12 in {pitch % 12 for pitch in DM7}
    assert room.session.deadline() is None


def test_the_ending_is_softer_than_the_phrase(room: Room) -> None:
    room.strike(*DM7)
    room.wait(2)
    room.lift(*DM7)
    room.wait(2)
    velocities = [message.velocity for _, message in room.heard if message.type == "note_on"]
    assert velocities[0] == 80
    assert velocities[-1] < 80


def test_a_chord_within_the_ending_carries_the_phrase_on(room: Room) -> None:
    for _ in range(4):
        room.strike(*DM7)
        room.wait(0.3)
        room.lift(*DM7)
        room.wait(0.6)
    assert sum(isinstance(message, Begin) for message in room.asked) == 1
    assert len(room.struck) > 4
    with capture_logs() as events:
        room.wait(2)
    assert [event["event"] for event in events] == ["phrase_ended"]


@pytest.mark.parametrize("delay_s", [0.03, 0.4, 0.8])
def test_a_chord_that_is_only_tapped_is_answered(delay_s: float) -> None:
    room = Room(delay_s)
    room.strike(*DM7)
    room.wait(0.01)
    room.lift(*DM7)
    room.wait(3)
    assert room.struck
    assert not room.sounding
    assert room.heard[-1][0] < 1001.1


def test_a_new_timeline_after_a_long_silence_only(room: Room) -> None:
    def begun() -> int:
        return sum(isinstance(message, Begin) for message in room.asked)

    for silence, timelines in ((2, 1), (4, 1), (9.5, 1), (1, 2)):
        room.strike(*DM7)
        room.wait(1)
        room.lift(*DM7)
        assert begun() == timelines
        room.wait(silence)
    assert begun() == 2


def test_a_held_chord_outlives_the_long_silence_rule(room: Room) -> None:
    room.strike(*DM7)
    room.wait(30)
    room.strike(64)
    room.wait(0.1)
    assert sum(isinstance(message, Begin) for message in room.asked) == 1


def test_a_knob_is_heard_within_a_tenth_and_takes_back_what_comes_later(room: Room) -> None:
    room.strike(*DM7)
    room.wait(1)
    room.turn(21, 127)
    revise = room.revisions[-1]
    assert revise.sampling.temperature == pytest.approx(1.6)
    assert not revise.answer
    assert not revise.keys
    assert revise.floor >= revise.now + 10
    room.wait(1)
    gaps = [later[0] - earlier[0] for earlier, later in zip(room.struck, room.struck[1:], strict=False)]
    assert max(gaps) < 0.3


def test_a_knob_that_sweeps_is_asked_ten_times_a_second(room: Room) -> None:
    room.strike(*DM7)
    room.wait(1)
    before = len(room.revisions)
    for value in range(100):
        room.turn(21, value)
        room.wait(0.01)
    assert 9 <= len(room.revisions) - before <= 11
    room.wait(0.2)
    assert room.revisions[-1].sampling.temperature == pytest.approx(0.2 + 1.4 * 99 / 127)


def test_at_the_top_of_the_harmony_knob_only_chord_tones_are_left(room: Room) -> None:
    room.turn(23, 127)
    room.strike(*DM7)
    room.wait(0.03)
    weights = room.revisions[-1].sampling.weights
    assert [pitch for pitch, weight in enumerate(weights) if weight > 0] == [0, 2, 5, 9]
    room.turn(23, 0)
    room.wait(0.2)
    assert room.revisions[-1].sampling.weights == (1.0,) * 12


@pytest.mark.parametrize(
    "quiet",
    [
        lambda room: room.turn(120),
        lambda room: room.turn(123),
        lambda room: room.play(mido.Message("stop")),
        lambda room: room.session.silence("command"),
    ],
)
def test_panic_silences_at_once_and_until_the_next_chord(room: Room, quiet: Callable[[Room], None]) -> None:
    room.strike(*DM7)
    room.wait(1)
    quiet(room)
    room.wait(0)
    assert not room.sounding
    count = len(room.struck)
    room.wait(2)
    room.lift(*DM7)
    room.wait(2)
    assert len(room.struck) == count
    room.strike(*G7)
    room.wait(1)
    assert len(room.struck) > count


def test_a_stop_and_a_dead_engine_take_the_solo_and_leave_what_the_human_plays(room: Room) -> None:
    room.thru.on = True
    low = (26, 29, 33, 36)  # where no solo is
    for quiet in (lambda: room.play(mido.Message("stop")), room.kill_engine):
        room.strike(*low)
        room.wait(1)
        assert room.sounding > set(low)
        quiet()
        room.wait(0)
        assert room.sounding == set(low)
        room.lift(*low)
    room.strike(*low)
    room.turn(123)
    room.wait(0)
    assert not room.sounding


def test_a_silence_is_no_work_when_nothing_sounds(room: Room) -> None:
    with capture_logs() as logged:
        for control in (120, 123):
            room.turn(control)
        room.play(mido.Message("stop"))
        room.wait(1)
    assert (logged, room.asked, room.heard) == ([], [], [])


def test_a_silence_puts_the_humans_pedals_at_rest_although_nothing_sounds(room: Room) -> None:
    pedal = mido.Message("control_change", channel=15, control=64, value=127)
    room.thru.on = True
    room.play(pedal)
    room.turn(123)
    assert pedal.copy(value=0) in [message for _, message in room.heard]


def test_a_silence_takes_a_chord_that_is_just_being_struck_but_on_its_channel_only(room: Room) -> None:
    room.strike(*DM7)
    room.play(mido.Message("control_change", control=123, channel=5), mido.Message("stop"))
    room.wait(0.5)
    assert room.struck
    room.lift(*DM7)
    room.wait(3)
    count = len(room.struck)
    room.strike(*DM7)
    room.turn(123)
    room.wait(1)
    assert len(room.struck) == count


def test_a_silence_counts_before_there_is_an_engine(room: Room) -> None:
    room.kill_engine()
    room.strike(*DM7)
    room.wait(0.1)
    room.turn(123)
    room.start_engine()
    room.wait(1)
    assert not room.struck


def test_a_knob_that_repeats_itself_does_nothing(room: Room) -> None:
    room.turn(21, 100)
    room.strike(*DM7)
    room.wait(0.5)
    count = len(room.revisions)
    with capture_logs() as logged:
        for _ in range(20):
            room.turn(21, 100)
            room.wait(0.05)
    assert "knob_turned" not in {event["event"] for event in logged}
    assert len(room.revisions) == count


def test_a_lost_engine_is_silence_at_once_and_music_comes_back(room: Room) -> None:
    room.strike(*DM7)
    room.wait(1)
    room.kill_engine()
    assert not room.sounding
    count = len(room.struck)
    room.wait(20)
    assert len(room.struck) == count
    room.start_engine()
    begin, revise = room.asked[-3:-1]
    assert isinstance(begin, Begin)
    assert isinstance(revise, Revise)
    assert [(key.onset, key.pitch) for key in revise.keys] == [(0, pitch) for pitch in DM7]
    room.wait(1)
    assert len(room.struck) > count


@pytest.mark.parametrize("quiet", [lambda room: room.lift(*DM7), lambda room: room.turn(123)])
def test_no_music_comes_back_that_nobody_wants(room: Room, quiet: Callable[[Room], None]) -> None:
    room.strike(*DM7)
    room.wait(1)
    room.kill_engine()
    quiet(room)
    count = len(room.struck)
    room.start_engine()
    room.wait(2)
    assert len(room.struck) == count


def test_a_chord_struck_while_there_is_no_engine_is_answered_when_there_is(room: Room) -> None:
    room.kill_engine()
    room.strike(*DM7)
    room.wait(1)
    room.start_engine()
    room.wait(1)
    assert room.struck


def test_an_engine_that_falls_behind_goes_on_from_the_play_head(room: Room) -> None:
    room.strike(*DM7)
    room.wait(1)
    room.delay_s = 1.3
    room.wait(6)
    room.delay_s = 0.03
    room.wait(3)
    assert room.scheduler.figures().late == 0
    room.lift(*DM7)
    count = len(room.struck)
    assert len([at for at, _ in room.struck if at > room.time - 1]) >= 6
    room.wait(2)
    assert len(room.struck) >= count
    assert not room.sounding


def test_an_engine_that_cannot_keep_up_is_asked_for_less(room: Room) -> None:
    room.strike(*DM7)
    room.wait(1)
    assert room.session.strain == 0
    room.delay_s = 1.3
    room.wait(6)
    assert room.session.strain > 0.4
    asked = [message for message in room.asked if isinstance(message, Advance)][-1]
    assert asked.until - asked.now < 90
    assert room.revisions[-1].sampling.density < 0
    room.delay_s = 0.03
    room.wait(30)
    assert room.session.strain == 0


def test_the_facts_are_logged(room: Room) -> None:
    with capture_logs() as events:
        room.strike(*DM7)
        room.wait(1)
        room.lift(*DM7)
        room.wait(2)
    assert [event["event"] for event in events] == [
        "chord_captured",
        "phrase_started",
        "chord_answered",
        "phrase_ended",
    ]
    assert events[0]["chord"] == "Dm7"
    assert events[2]["chord_to_note_ms"] == pytest.approx(55.0)
    assert events[3]["notes"] == len(room.struck)


class Timeline:
    """What a perfect engine would know: the notes that stay, by their numbers."""

    def __init__(self) -> None:
        self.notes: list[protocol.Note] = []

    def hear(self, message: protocol.Message) -> None:
        if isinstance(message, Begin):
            self.notes = []
        if isinstance(message, Revise):
            assert message.keep < len(self.notes)
            del self.notes[message.keep + 1 :]
            onsets = [note.onset for note in self.notes]
            assert onsets == sorted(onsets)
            assert not message.playing or all(onset <= message.floor for onset in onsets)


moves = st.lists(
    st.tuples(
        st.sampled_from(["strike", "lift", "pedal", "knob", "panic", "kill", "start"]),
        st.integers(0, 3),
        st.sampled_from([0.0, 0.004, 0.03, 0.1, 0.35, 0.8]),
    ),
    max_size=25,
)


@settings(max_examples=60)
@given(moves, st.sampled_from([0.01, 0.06, 0.3]))
def test_whatever_happens_every_note_ends_and_silence_comes(
    happenings: list[tuple[str, int, float]], delay_s: float
) -> None:
    room = Room(delay_s)
    alive = True
    for what, which, pause_s in happenings:
        match what:
            case "strike":
                room.strike(*(DM7, G7, (60,), (48, 52, 55))[which])
            case "lift":
                room.lift(*(DM7, G7, (60,), (48, 52, 55))[which])
            case "pedal":
                room.turn(64, 127 if which % 2 else 0)
            case "knob":
                room.turn(21 + 2 * (which % 2), 40 * which)
            case "panic":
                room.turn(123)
            case "kill" if alive:
                room.kill_engine()
                alive = False
            case "start" if not alive:
                room.start_engine()
                alive = True
        room.wait(pause_s)
    room.turn(64, 0)
    room.lift(*range(128))
    up = room.time
    room.wait(5)
    assert not room.sounding
    assert room.session.deadline() is None
    assert not room.struck or room.struck[-1][0] < up + 1.1
    check = Timeline()
    made = {(note.epoch, note.number): note for note in room.made}
    for message in room.asked:
        check.hear(message)
        if isinstance(message, Revise):
            fresh = [note for (epoch, _), note in sorted(made.items()) if epoch == message.epoch]
            check.notes += fresh


def style(name: str, **settings: float) -> protocol.Style:
    wishes = protocol.StyleSettings.model_validate(settings)
    return protocol.Style(name=name, status="ready", program=len(name), settings=wishes)


def test_a_style_is_heard_from_the_next_note_that_was_not_sent(room: Room) -> None:
    room.session.on_styles((style("bebop"), style("cool")))
    room.strike(*DM7)
    room.wait(1.0)
    before, at = len(room.struck), room.time
    room.turn(20, 127)
    room.wait(0.5)
    last = room.revisions[-1]
    assert last.mix == (("cool", 1.0),)
    assert [r.mix for r in room.revisions[:-1]] == [()] * (len(room.revisions) - 1)
    assert last.floor >= room.revisions[0].floor + 100
    assert len(room.struck) > before
    kept = [n for n in room.made if n.epoch < last.epoch and n.number <= last.keep]
    assert all(10 * n.onset / 1000 <= at + 0.11 - 1000.0 for n in kept), "more than a tenth was kept"


def test_a_styles_own_settings_hold_until_the_knob_is_turned(room: Room) -> None:
    room.session.on_styles((style("bebop", temperature=0.5, low=60, top_p=0.7), style("cool")))
    room.play(mido.Message("program_change", program=5))
    room.strike(*DM7)
    room.wait(0.5)
    asked = room.revisions[-1].sampling
    assert (asked.temperature, asked.low, asked.top_p) == (0.5, 60, 0.7)
    assert room.session.knobs["temperature"] == 0.5
    room.turn(21, 127)
    room.wait(0.5)
    assert room.revisions[-1].sampling.temperature == pytest.approx(1.6)
    room.session.on_styles((style("cool"),))  # the file is taken away
    room.wait(0.5)
    assert room.revisions[-1].mix == ()
    room.session.on_styles((style("bebop", temperature=0.5), style("cool")))
    room.wait(0.5)
    assert room.revisions[-1].mix == (("bebop", 1.0),)
    assert room.revisions[-1].sampling.temperature == pytest.approx(1.6)
    room.turn(20, 127)  # cool, which has no wishes
    room.wait(0.5)
    assert room.revisions[-1].sampling.temperature == pytest.approx(1.6)
    room.play(mido.Message("program_change", program=5))
    room.wait(0.5)
    assert room.revisions[-1].sampling.temperature == 0.5


def test_a_folder_that_changes_elsewhere_disturbs_nothing(room: Room) -> None:
    room.session.on_styles((style("cool"),))
    room.session.use({"cool": 1.0})
    room.strike(*DM7)
    room.wait(0.5)
    asked = len(room.revisions)
    room.session.on_styles((style("bebop"), style("cool")))
    room.wait(0.5)
    assert len(room.revisions) == asked


def test_a_style_that_is_taken_away_is_reported(room: Room) -> None:
    room.session.on_styles((style("cool"),))
    room.session.use({"cool": 1.0})
    with capture_logs() as logged:
        room.session.on_styles(())
    assert [event["style"] for event in logged if event["event"] == "style_missing"] == ["cool"]


def test_a_default_style_that_is_not_there_is_reported_once() -> None:
    room = Room(styling=Styling("nope"))
    with capture_logs() as logged:
        room.session.on_styles((style("cool"),))
        room.session.on_styles((style("cool"), style("hot")))
        room.session.on_styles((style("nope"),))
        room.session.on_styles(())
    missing = [event["style"] for event in logged if event["event"] == "style_missing"]
    assert missing == ["nope", "nope"]  # at the start, and when it has gone again
