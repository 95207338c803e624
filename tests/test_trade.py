"""Trading: listen, answer over the same progression, stop with the form, give way."""

import bisect

import mido
import pytest
from room import Room

from jazzd.music.grid import Feel
from jazzd.player.manner import Manner
from jazzd.player.tempo import Tempo

CHORDS = ((50, 53, 57, 60), (55, 59, 62, 65), (48, 52, 55, 59), (45, 52, 55, 60))
TRADE = Manner(mode="trade")


def comp(room: Room, beats: float) -> None:
    """The chords, each for so many beats of the clock."""
    for chord in CHORDS:
        room.strike(*chord)
        room.tick(beats - 0.2)
        room.lift(*chord)
        room.tick(0.2)


def play(room: Room, seconds: float = 1.0, chords: tuple[tuple[int, ...], ...] = CHORDS) -> None:
    for chord in chords:
        room.strike(*chord)
        room.wait(0.9 * seconds)
        room.lift(*chord)
        room.wait(0.1 * seconds)


@pytest.mark.parametrize("choruses", [1, 2])
def test_the_answer_has_the_length_of_what_was_heard(choruses: int) -> None:
    room = Room(manner=Manner(mode="trade", choruses=choruses))
    began = room.time
    play(room)
    assert not [at for at, _ in room.struck if at < began + 3.99], "it listens"
    room.wait(10)
    times = [at - began for at, _ in room.struck]
    assert times[0] == pytest.approx(4.0, abs=0.02)
    ends = [at - began for at, message in room.heard if message.type == "note_off"]
    assert 4 + 4 * choruses - 0.5 < ends[-1] <= 4 + 4 * choruses
    assert not room.sounding
    assert room.scheduler.figures().late == 0


def test_every_chord_comes_back_at_its_time_in_the_form() -> None:
    room = Room(manner=TRADE)
    began = room.time
    for chord, seconds in zip(CHORDS, (1.0, 0.5, 0.5, 1.0), strict=True):
        play(room, seconds, (chord,))
    room.wait(5)
    revise = room.revisions[-2] if not room.revisions[-1].ahead else room.revisions[-1]
    asked = next(message for message in room.revisions if message.ahead)
    assert revise is not None
    first = asked.ahead[0].at
    assert [change.at - first for change in asked.ahead] == [0, 100, 150, 200]
    assert [{key.pitch for key in change.keys} for change in asked.ahead] == [set(c) for c in CHORDS]
    assert asked.end is not None
    assert asked.end - first == pytest.approx(250, abs=1)  # the last lasts as long as the others did
    for (begin, end), chord in zip(((3, 3.9), (4, 4.4)), CHORDS, strict=False):
        heard = {p % 12 for at, p in room.struck if began + begin - 0.5 < at < began + end - 0.5}
        assert heard <= {pitch % 12 for pitch in chord}


def test_a_long_line_over_a_chord_does_not_lose_the_answer() -> None:
    room = Room(manner=TRADE)
    play(room, chords=CHORDS[:1])
    for pitch in range(60, 100):
        room.strike(pitch)
        room.wait(0.2)
        room.lift(pitch)
    play(room, chords=CHORDS[1:])
    room.wait(3)
    assert next(message for message in room.revisions if message.ahead)


def test_the_human_interrupts_at_once_and_is_listened_to_again() -> None:
    room = Room(manner=TRADE)
    play(room)
    room.wait(1.5)
    assert room.sounding or room.struck
    cut = room.time
    play(room)
    assert not [at for at, _ in room.struck if cut + 0.001 < at < cut + 3.99]
    offs = [at for at, message in room.heard if message.type == "note_off" and at > cut]
    assert not offs or offs[0] <= cut + 0.03
    room.wait(6)
    again = [at for at, _ in room.struck if at > cut + 3.9]
    assert again[0] == pytest.approx(cut + 4.0, abs=0.05)


def test_who_goes_on_is_not_interrupted() -> None:
    room = Room(manner=TRADE)
    for _ in range(3):
        play(room, 1.0, CHORDS[:3])
    assert len(room.struck) <= 2, "at most a note where the fourth chord would have been over"


def test_a_rolled_chord_and_a_single_key_are_no_chords_more() -> None:
    room = Room(manner=TRADE)
    began = room.time
    for chord in CHORDS:
        room.strike(*chord[:2])
        room.wait(0.05)
        room.strike(*chord[2:])
        room.wait(0.4)
        room.strike(76)
        room.wait(0.45)
        room.lift(76, *chord)
        room.wait(0.1)
    room.wait(5)
    assert room.struck[0][0] == pytest.approx(began + 4.0, abs=0.05)


def test_one_chord_is_answered_when_it_is_over() -> None:
    room = Room(manner=Manner(mode="trade", chords=1))
    room.strike(*CHORDS[0])
    room.wait(1.5)
    assert not room.struck
    room.lift(*CHORDS[0])
    up = room.time
    room.wait(4)
    assert room.struck[0][0] < up + 0.2
    assert room.heard[-1][0] < up + 1.7


def test_fours_with_a_clock() -> None:
    room = Room(manner=Manner(mode="trade", bars=4))
    room.tick(3)
    room.play(mido.Message("start"))
    began = room.time
    room.tick(0.1)
    comp(room, 4)
    room.tick(20)
    beats = [(at - began) / 0.5 for at, _ in room.struck]
    assert beats[0] == pytest.approx(16, abs=0.05)
    assert max(beats) < 32
    ends = [(at - began) / 0.5 for at, message in room.heard if message.type == "note_off"]
    assert max(ends) <= 32.01


@pytest.mark.parametrize("feel", [Feel(), Feel(100)])
@pytest.mark.parametrize("bpm", [60, 100, 140, 240])
def test_an_answer_ends_with_its_form_whatever_the_tempo_becomes(bpm: float, feel: Feel) -> None:
    room = Room(manner=Manner(mode="trade", bars=4), feel=feel)
    room.play(mido.Message("start"))
    comp(room, 4)
    room.tick(4)
    changed = room.time
    room.tick(18, bpm)
    beats = [4 + (at - changed) * bpm / 60 for at, m in room.heard if m.type == "note_off"]
    assert 15.6 < max(beats) < 16.3, "the clock takes a beat to be believed"
    assert not room.sounding
    told = room.revisions[-1].beats
    assert told
    assert told.length == pytest.approx(100 * 2 * 60 / bpm, rel=0.02)


@pytest.mark.parametrize("bars", [0, 4])
@pytest.mark.parametrize(("change_at", "bpm"), [(14, 126), (8, 130), (4, 140), (12, 60)])
def test_an_answer_begins_where_it_should_although_the_tempo_changes_while_it_listens(
    bars: int, change_at: int, bpm: float
) -> None:
    room = Room(manner=Manner(mode="trade", bars=bars))
    room.play(mido.Message("start"))
    ticks: list[float] = []
    for beat in range(34):
        if beat % 4 == 0 and beat < 16:
            room.strike(*CHORDS[beat // 4])
        for _ in range(24):
            ticks.append(room.time)
            room.tick(1 / 24, bpm if beat >= change_at else 120)
        if beat % 4 == 3 and beat < 16:
            room.lift(*CHORDS[beat // 4])
    first, last = min(at for at, _ in room.struck), max(at for at, _ in room.struck)
    assert bisect.bisect(ticks, first) / 24 == pytest.approx(16, abs=0.1)
    assert 31 < bisect.bisect(ticks, last) / 24 < 32.05


def test_an_answer_keeps_to_its_form_when_the_clock_holds_its_breath() -> None:
    room = Room(manner=Manner(mode="trade", bars=4))
    room.play(mido.Message("start"))
    comp(room, 4)
    room.tick(4)
    room.wait(0.2)
    held = room.time
    room.tick(16)
    ends = [4 + (at - held) * 2 for at, m in room.heard if m.type == "note_off"]
    assert 15.5 < max(ends) < 16.1


@pytest.mark.parametrize("beat_s", [60 / 200, 60 / 90, 1.0])
def test_who_taps_another_tempo_into_an_answer_is_followed(beat_s: float) -> None:
    room = Room(manner=Manner(mode="trade", bars=4))
    for wait_s in (0.5, 1.5):  # a bar
        room.turn(26, 127)
        room.wait(wait_s)
    comp_began = room.time
    play(room, 2.0)
    room.wait(1.0)
    assert room.struck[0][0] == pytest.approx(comp_began + 8, abs=0.05)
    tapped = room.time  # beat 2 of the answer
    for _ in range(3):
        room.turn(26, 127)
        room.wait(beat_s)
    room.wait(20)
    ends = [2 + (at - tapped) / beat_s for at, m in room.heard if m.type == "note_off"]
    assert 15.5 < max(ends) < 16.3


def test_the_rest_of_an_answer_is_at_the_tempo_that_there_is_by_then() -> None:
    room = Room(manner=Manner(mode="trade", bars=4))
    room.play(mido.Message("start"))
    comp(room, 4)
    room.tick(4)
    room.kill_engine()
    changed = room.time
    room.tick(2, 90)
    room.start_engine()
    room.tick(14, 90)
    ends = [4 + (at - changed) * 1.5 for at, m in room.heard if m.type == "note_off"]
    assert 15.5 < max(ends) < 16.1


@pytest.mark.parametrize("changes", [{"start": "beat"}, {"choruses": 2}])
def test_what_was_heard_counts_whatever_else_is_changed(changes: dict[str, object]) -> None:
    room = Room(manner=Manner(mode="trade", bars=4))
    room.play(mido.Message("start"))
    began = room.time
    room.strike(*CHORDS[0])
    room.tick(6)
    room.lift(*CHORDS[0])
    room.session.set_manner(**changes)
    room.tick(11)
    assert room.struck[0][0] - began == pytest.approx(8, abs=0.05)
    room.kill_engine()
    room.session.set_manner(start="bar")
    room.wait(0.1)
    room.start_engine()
    back = room.time
    room.tick(4)
    assert [at for at, _ in room.struck if at > back]


def test_a_clock_that_hiccups_does_not_move_the_answer() -> None:
    """At 60, where others would count at 120: the four bars would be over by then."""
    room = Room(manner=Manner(mode="trade", bars=4))
    room.play(mido.Message("start"))
    began = room.time
    room.tick(1, 60)
    room.strike(*CHORDS[0])
    room.tick(11, 60)
    room.lift(*CHORDS[0])
    room.wait(1)
    room.play(*24 * [mido.Message("clock")])  # they were held up
    room.tick(5, 60)
    assert room.struck[0][0] == pytest.approx(began + 16, abs=0.1)


def test_in_a_waltz_bars_have_three_beats() -> None:
    room = Room(manner=Manner(mode="trade", bars=4), tempo=Tempo(bar=3))
    room.tick(3)
    room.play(mido.Message("start"))
    began = room.time
    comp(room, 3)
    room.tick(15)
    beats = [(at - began) / 0.5 for at, _ in room.struck]
    assert beats[0] == pytest.approx(12, abs=0.05)
    assert max(beats) < 24


def test_a_switch_changes_the_mode_and_ends_what_plays() -> None:
    room = Room()
    room.strike(*CHORDS[0])
    room.wait(1)
    room.turn(25, 127)
    assert room.session.manner.mode == "trade"
    room.wait(2)
    assert not room.sounding
    room.turn(25, 0)
    room.lift(*CHORDS[0])
    room.strike(*CHORDS[1])
    count = len(room.struck)
    room.wait(1)
    assert len(room.struck) > count


def test_a_switch_back_plays_on_over_the_chord_that_is_held() -> None:
    room = Room()
    room.strike(*CHORDS[0])
    room.wait(1)
    room.turn(25, 127)
    room.wait(2)
    count = len(room.struck)
    room.turn(25, 0)
    room.wait(1)
    assert len(room.struck) > count
    room.lift(*CHORDS[0])
    room.wait(2)
    room.turn(25, 127)
    count = len(room.struck)
    room.turn(25, 0)
    room.wait(2)
    assert len(room.struck) == count, "no chord, no solo"
    assert not room.sounding


def test_a_switch_ends_an_answer_too_however_far_its_own_end_is() -> None:
    room = Room(manner=TRADE)
    play(room, 2.0)
    room.wait(1)
    assert room.struck
    switched = room.time
    room.turn(25, 0)
    room.wait(4)
    assert not room.sounding
    assert room.heard[-1][0] < switched + 1.1


def test_a_clock_that_dies_ends_an_answer_too() -> None:
    room = Room(manner=Manner(mode="trade", bars=4))
    room.tick(3)
    room.play(mido.Message("start"))
    comp(room, 4)
    room.tick(3)
    died = room.time
    assert room.struck
    room.wait(4)
    assert not room.sounding
    assert room.heard[-1][0] < died + 1.6


def test_the_rest_of_an_answer_comes_from_the_next_engine() -> None:
    room = Room(manner=TRADE)
    began = room.time
    play(room)
    room.wait(1)
    room.kill_engine()
    assert not room.sounding
    room.wait(0.3)
    room.start_engine()
    back = room.time
    room.wait(6)
    ons = [at for at, _ in room.struck]
    assert [at for at in ons if back < at < back + 0.5]
    assert began + 7.5 < max(ons) < began + 8.1, "the form ends where it would have"
    assert not room.sounding
    cut = room.time
    play(room)
    room.wait(2)
    assert [at for at, _ in room.struck if at > cut + 3.9]


@pytest.mark.parametrize("away_s", [0.3, 2.5])
def test_nothing_comes_of_an_answer_that_is_the_humans_or_over_by_then(away_s: float) -> None:
    room = Room(manner=TRADE)
    play(room)
    room.wait(1)
    room.kill_engine()
    if away_s < 1:
        room.strike(50, 53)
        room.lift(50, 53)
    room.wait(away_s)
    room.start_engine()
    back = room.time
    room.wait(3)
    assert not [at for at, _ in room.struck if at > back]


@pytest.mark.parametrize("lost", [True, False])
def test_a_panic_in_the_silence_before_an_answer_means_it(lost: bool) -> None:
    room = Room(manner=TRADE)
    play(room, chords=CHORDS[:3])
    room.strike(*CHORDS[3])
    room.wait(0.5)
    room.lift(*CHORDS[3])
    room.wait(1.0 if lost else 0.1)
    if lost:
        room.kill_engine()
    count = len(room.struck)
    room.turn(123)
    room.wait(0.1)
    if lost:
        room.start_engine()
    room.wait(5)
    assert len(room.struck) == count
    play(room)
    room.wait(1)
    assert len(room.struck) > count


def test_stop_forgets_what_was_heard() -> None:
    room = Room(manner=Manner(mode="trade", bars=2))
    room.play(mido.Message("start"))
    comp(room, 1)
    room.play(mido.Message("stop"))
    room.wait(10)
    assert not room.struck
