"""A chart: written out or from a file, played by song position or from the first chord."""

import random
from pathlib import Path
from typing import Literal

import mido
import pytest
from room import Room

from jazzd.errors import ConfigError
from jazzd.music import chart, chords, voicing
from jazzd.music.grid import Feel, Grid
from jazzd.music.notes import Seconds
from jazzd.player.form import Chart
from jazzd.player.hands import Hands
from jazzd.player.manner import Manner
from jazzd.player.tempo import Source, Tempo

BLUES = "C7 | F7 | C7 | G7"
DM7 = (50, 53, 57, 60)


def tune(text: str = BLUES) -> Chart:
    return Chart(chart.read(text).progression)


def voiced(symbol: str) -> set[int]:
    """The pitch classes that the player gives the chord."""
    chord = chords.parse(symbol)
    assert chord
    return {pitch % 12 for pitch in voicing.plain(chord)}


def started(room: Room, beats: float) -> float:
    """The clock is started, and ticks for so long; when its first beat was."""
    room.tick(2)
    room.play(mido.Message("start"))
    began = room.time
    room.tick(beats)
    return began


def test_the_chords_of_a_stretch_are_known_with_their_times() -> None:
    grid = Grid(Seconds(100.0), 0.5)
    form = tune("Dm7 G7 | Cmaj7").form(grid, 5.0, 18.0, over=True)
    assert [(c.at, c.chord and c.chord.symbol) for c in form.changes] == [
        (102, "Cmaj7"),
        (104, "Dm7"),
        (105, "G7"),
        (106, "Cmaj7"),
        (108, "Dm7"),
    ]
    assert form.end == 109
    assert form.chord(105.2).symbol == "G7"  # type: ignore[union-attr]


def test_the_tune_plays_by_the_song_until_stop() -> None:
    room = Room(chart=tune())
    began = started(room, 16)
    assert began < room.struck[0][0] < began + 1.2
    for bar, symbol in enumerate(("C7", "F7", "C7", "G7")):
        over = {p % 12 for at, p in room.struck if began + 2 * bar + 0.1 < at < began + 2 * bar + 1.9}
        assert over
        assert over <= voiced(symbol)
    room.play(mido.Message("stop"))
    room.wait(0)
    count = len(room.struck)
    assert not room.sounding
    room.tick(4)
    assert len(room.struck) == count
    room.play(mido.Message("continue"))
    room.tick(4)
    assert len(room.struck) > count


@pytest.mark.parametrize(("pause_s", "goes_on"), [(0.4, True), (1.5, True), (8.0, False)])
def test_a_clock_that_is_soon_back_takes_the_tune_along(pause_s: float, goes_on: bool) -> None:
    room = Room(chart=tune())
    started(room, 8)
    room.wait(pause_s)
    back = room.time
    room.tick(16)
    after = [at for at, _ in room.struck if at > back]
    assert len(after) > 20 if goes_on else not after


def test_song_position_is_obeyed() -> None:
    room = Room(chart=tune())
    room.tick(2)
    room.play(mido.Message("songpos", pos=48), mido.Message("continue"))  # beat 12: the fourth bar
    room.tick(3.5)
    assert {pitch % 12 for _, pitch in room.struck} <= voiced("G7")


def test_without_a_clock_the_first_chord_begins_it_and_the_form_ends_it() -> None:
    room = Room(chart=tune("Dm7 | G7"), manner=Manner(choruses=2))
    room.strike(*DM7)
    began = room.time
    room.wait(12)
    assert room.struck[0][0] < began + 0.7
    ends = [at for at, message in room.heard if message.type == "note_off"]
    assert began + 7 < max(ends) <= began + 8.01
    assert room.session.deadline() is None
    room.lift(*DM7)
    room.strike(*DM7)
    count = len(room.struck)
    room.wait(2)
    assert len(room.struck) > count


def test_with_others_on_link_it_begins_on_their_bar_where_the_first_chord_is() -> None:
    theirs = Grid(Seconds(900.0), 0.5)
    room = Room(chart=tune("Dm7 | G7"), manner=Manner(choruses=2), tempo=Tempo(link=lambda: theirs))
    room.wait(1.8)
    room.strike(*DM7)
    room.wait(12)
    for bar, symbol in enumerate(("Dm7", "G7", "Dm7", "G7")):
        over = {p % 12 for at, p in room.struck if 1002.1 + 2 * bar < at < 1003.9 + 2 * bar}
        assert over
        assert over <= voiced(symbol)
    assert room.struck[0][0] > 1001.8
    assert room.struck[-1][0] < 1010


@pytest.mark.parametrize("source", ["auto", "bpm"])
def test_it_goes_on_however_the_human_comps_and_rests(source: Source) -> None:
    changes = ["C7", "F7", "C7", "C7", "F7", "F7", "C7", "A7", "Dm7", "G7", "C7", "G7"]
    hand = random.Random(1)
    room = Room(chart=tune(" | ".join(changes)), manner=Manner(choruses=2), tempo=Tempo(source))
    began = room.time
    for bar in range(22):
        late = hand.uniform(0, 0.06) if bar else 0.0
        room.wait(late)
        if bar not in (6, 7, 8, 9, 10):
            room.strike(*DM7)
            room.wait(1.5)
            room.lift(*DM7)
        room.wait(began + 2 * (bar + 1) - room.time)
    for bar in range(22):
        begins = began + 2 * bar
        over = {p % 12 for at, p in room.struck if begins + 0.25 < at < begins + 1.75}
        assert over, bar
        assert over <= voiced(changes[bar % 12]), bar


def test_the_humans_turn_is_the_first_of_a_traded_tune() -> None:
    room = Room(chart=tune(), manner=Manner(mode="trade", bars=4))
    began = started(room, 34)
    beats = [(at - began) / 0.5 for at, _ in room.struck]
    assert min(beats) == pytest.approx(16, abs=0.1)
    assert not [beat for beat in beats if beat >= 32]


def test_without_a_clock_turns_go_on_for_as_long_as_the_human_takes_theirs() -> None:
    room = Room(chart=tune(), manner=Manner(mode="trade"))
    began = room.time
    for turn in range(2):
        for _ in range(4):
            room.strike(*DM7)
            room.wait(1.8)
            room.lift(*DM7)
            room.wait(0.2)
        room.wait(8)
        answered = [at for at, _ in room.struck if began + 16 * turn + 8 <= at < began + 16 * turn + 16]
        assert answered, f"turn {turn}"
    room.wait(40)
    assert room.struck[-1][0] < began + 32
    assert room.session.deadline() is None


@pytest.mark.parametrize(("left", "enters"), [(0.6, False), (2.5, True)])
def test_no_phrase_begins_where_a_turn_is_all_but_over(left: float, enters: bool) -> None:
    room = Room(chart=tune(), manner=Manner(mode="trade", bars=4))
    started(room, 28)
    room.kill_engine()
    room.tick(4 - left)
    room.start_engine()
    count, asked = len(room.struck), len(room.asked)
    room.tick(left)
    assert (len(room.struck) > count) == (len(room.asked) > asked) == enters
    room.tick(20)
    assert len(room.struck) > count


def test_a_turn_that_the_human_takes_stays_theirs() -> None:
    room = Room(chart=tune(), manner=Manner(mode="trade", bars=4))
    started(room, 20)
    room.strike(*DM7)
    count = len(room.struck)
    room.tick(11)
    assert len(room.struck) == count
    room.tick(20)
    assert len(room.struck) > count


def test_a_turn_that_was_taken_is_the_solos_again_when_the_song_goes_back() -> None:
    room = Room(chart=tune(), manner=Manner(mode="trade", bars=4))
    started(room, 20)
    room.strike(60)
    room.tick(4)
    room.lift(60)
    room.play(mido.Message("songpos", pos=0))
    count = len(room.struck)
    room.tick(15)
    assert len(room.struck) == count
    room.tick(10)
    assert len(room.struck) > count + 5


EIGHT = "Dm7 | G7 | Cmaj7 | % | Fm7 | Bb7 | Ebmaj7 | %"


@pytest.mark.parametrize("words", [("songpos",), ("songpos", "continue"), ("stop", "songpos", "continue")])
@pytest.mark.parametrize(
    ("first", "last", "theirs"),
    [(1, 4, ()), (4, 7, (5, 6, 7)), (2, 6, (5, 6)), (5, 6, (5, 6)), (5, 8, (5, 6, 7, 8))],
)
def test_turns_are_those_of_where_the_song_is_while_a_loop_goes_round(
    first: int, last: int, theirs: tuple[int, ...], words: tuple[str, ...]
) -> None:
    """The DAW says where just before the first tick there."""
    room = Room(chart=tune(EIGHT), manner=Manner(mode="trade"))
    started(room, 0)
    heard: dict[int, list[int]] = {}
    bar = 1
    for _ in range(20):
        count = len(room.struck)
        room.tick(4 - 1 / 24)
        room.play(mido.Message("clock"))
        room.wait(0.018)
        heard.setdefault(bar, []).append(len(room.struck) - count)
        if bar == last:
            for word in words:
                room.play(mido.Message(word, **({"pos": 16 * (first - 1)} if word == "songpos" else {})))
        room.wait(0.5 / 24 - 0.018)
        bar = first if bar == last else bar + 1
    assert {bar for bar, counts in heard.items() if max(counts)} == set(theirs)
    assert all(min(heard[bar]) for bar in theirs), heard


def test_a_jump_in_play_takes_the_chords_along_at_once() -> None:
    room = Room(chart=tune(EIGHT))
    started(room, 16)
    room.play(mido.Message("songpos", pos=16))
    jumped = room.time
    room.tick(4)
    over = {p % 12 for at, p in room.struck if at > jumped + 0.15}
    assert over
    assert over <= voiced("G7")


def test_a_taken_turn_is_given_back_by_a_jump_to_its_beginning() -> None:
    room = Room(chart=tune(EIGHT), manner=Manner(mode="trade"))
    started(room, 24)
    room.strike(60)
    room.lift(60)
    room.tick(8)
    count = len(room.struck)
    room.play(mido.Message("songpos", pos=64))
    room.tick(8)
    assert len(room.struck) > count + 5


def test_without_a_clock_all_choruses_are_played_whoever_plays_in_between() -> None:
    room = Room(chart=tune(EIGHT), manner=Manner(mode="trade", bars=2, choruses=2))
    room.strike(*DM7)
    room.wait(0.3)
    room.lift(*DM7)
    began = room.time - 0.3
    room.wait(60)
    bars = {int((at - began + 0.05) // 2) + 1 for at, _ in room.struck}
    assert bars == {3, 4, 7, 8, 11, 12, 15, 16}
    assert room.session.deadline() is None


def test_a_line_in_ones_own_turn_keeps_a_trade_going() -> None:
    room = Room(chart=tune("C7"), hands=Hands(split=60), manner=Manner(mode="trade", bars=1, yield_beats=1))
    room.strike(*DM7)
    room.wait(0.3)
    room.lift(*DM7)
    began = room.time - 0.3
    room.wait(3.9)
    room.strike(72)
    room.wait(1)
    room.lift(72)
    room.wait(10)
    assert {int((at - began + 0.05) // 2) + 1 for at, _ in room.struck} == {2, 4}


@pytest.mark.parametrize("beat", [0.1, 3.0, 8.4, 15.0])
def test_whenever_in_ones_own_turn_one_plays_it_goes_on(beat: float) -> None:
    room = Room(chart=tune(EIGHT), hands=Hands(split=60), manner=Manner(mode="trade", yield_beats=1))
    room.strike(*DM7)
    room.wait(0.3)
    room.lift(*DM7)
    began = room.time - 0.3
    room.wait(15.7 + beat * 0.5)
    room.strike(72)
    room.wait(0.2)
    room.lift(72)
    room.wait(40)
    assert {int((at - began + 0.05) // 2) + 1 for at, _ in room.struck} == {*range(5, 9), *range(13, 17)}


@pytest.mark.parametrize("pause_s", [0.0, 0.3, 0.6])
def test_a_turn_that_was_taken_is_not_given_back_where_the_song_goes_on(pause_s: float) -> None:
    """After a hiccup of the clock, or for a Continue where it runs anyway."""
    room = Room(chart=tune(EIGHT), manner=Manner(mode="trade"))
    started(room, 20)
    room.strike(60)
    count = len(room.struck)
    room.wait(pause_s)
    room.lift(60)
    if not pause_s:
        room.play(mido.Message("continue"))
    room.tick(8)
    assert len(room.struck) == count
    room.tick(24)
    assert len(room.struck) > count


def test_who_plays_in_their_own_turn_takes_no_other() -> None:
    """Here into the end of what was followed before."""
    room = Room(chart=tune())
    began = started(room, 6)
    room.session.set_manner(mode="trade", bars=4)
    room.strike(*DM7)
    room.tick(2)
    room.lift(*DM7)
    room.tick(20)
    assert [at for at, _ in room.struck if began + 8 <= at < began + 12]


def test_a_followed_tune_waits_for_the_line_of_the_right_hand_and_goes_on() -> None:
    room = Room(chart=tune(), hands=Hands(split=60), manner=Manner(yield_beats=2))
    started(room, 8)
    room.strike(72)
    led = room.time
    room.tick(3)
    room.lift(72)
    lifted = room.time
    room.tick(12)
    assert not [at for at, _ in room.struck if led + 0.02 < at < lifted + 0.99]
    assert len([at for at, _ in room.struck if at > lifted + 1]) > 5


@pytest.mark.parametrize(("start", "beat"), [("now", 0.15), ("beat", 1.0)])
def test_the_song_is_entered_as_the_start_says(start: Literal["now", "beat"], beat: float) -> None:
    room = Room(chart=tune(), manner=Manner(start=start))
    began = started(room, 3)
    assert (room.struck[0][0] - began) / 0.5 == pytest.approx(beat, abs=0.1)


def test_a_tempo_that_changes_takes_the_chords_with_it() -> None:
    room = Room(chart=tune())
    started(room, 8)
    for bpm in (130, 140, 150, 160):
        room.tick(4, bpm)
    assert room.scheduler.figures().late == 0
    assert room.struck


@pytest.mark.parametrize("bpm", [60, 200])
def test_a_turn_ends_where_it_should_although_its_last_bar_is_at_another_tempo(bpm: float) -> None:
    room = Room(chart=tune(), manner=Manner(mode="trade", bars=4))
    started(room, 29)
    changed = room.time
    room.tick(6, bpm)
    beats = [29 + (at - changed) * bpm / 60 for at, m in room.heard if m.type == "note_off"]
    assert 31.6 < max(beats) < 32.3


@pytest.mark.parametrize("feel", [Feel(), Feel(100)])
def test_a_turn_whose_first_beat_comes_sooner_than_it_was_to_is_not_late(feel: Feel) -> None:
    room = Room(chart=tune(), manner=Manner(mode="trade", bars=4), feel=feel)
    room.play(mido.Message("start"))
    room.tick(15.75, 60)
    room.tick(4, 120)
    assert room.struck
    assert room.scheduler.figures().late == 0


def test_a_panic_in_the_humans_turn_ends_a_tune_that_no_clock_plays() -> None:
    for clock, plays in ((False, False), (True, True)):
        room = Room(chart=tune(), manner=Manner(mode="trade", bars=1), tempo=Tempo("auto", 120))
        if clock:
            started(room, 1)
        room.strike(*DM7)
        room.wait(0.3)
        room.lift(*DM7)
        room.wait(0.2)
        room.turn(123)
        room.tick(10) if clock else room.wait(5)
        assert bool(room.struck) == plays


@pytest.mark.parametrize("clock", [True, False])
def test_a_tune_that_comes_or_goes_takes_the_chord_that_is_held_along(clock: bool) -> None:
    room = Room()

    def play(beats: float) -> int:
        count = len(room.struck)
        room.tick(beats) if clock else room.wait(beats / 2)
        return len(room.struck) - count

    if clock:
        started(room, 1)
    room.strike(*DM7)
    assert play(8)
    room.session.set_chart(tune())
    assert play(8)
    assert room.session.place()["chord"] in ("C7", "F7", "G7")
    room.session.set_chart(None)
    assert play(2)
    assert play(8)
    assert room.session.place() == {}
    room.lift(*DM7)
    room.wait(3)
    assert not room.sounding


def test_where_in_the_tune_we_are() -> None:
    room = Room(chart=tune("Dm7 | G7 C6"))
    assert room.session.place() == {}
    room.strike(*DM7)
    room.wait(1)
    assert room.session.place() == {"chorus": 1, "bar": 1, "bars": 2, "chord": "Dm7"}
    room.wait(2.2)
    assert room.session.place() == {"chorus": 1, "bar": 2, "bars": 2, "chord": "C6"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("not json", "is no chart"),
        ("[]", "no chart: it must be an object with `bars`"),
        ('{"bars": []}', "bars"),
        ('{"bars": [[{"beat": 1, "chord": "H7"}]]}', "'H7'"),
        ('{"bars": [[{"beat": 9, "chord": "C"}]]}', "beat"),
        ('{"bars": [[], []]}', "no chord"),
        ('{"time_signature": "6/8", "bars": [[{"beat": 1, "chord": "C"}]]}', "6/8"),
        ('{"time_signature": "13/4", "bars": [[{"beat": 1, "chord": "C"}]]}', "13/4"),
        ('{"time_signature": "a\\nb", "bars": [[{"beat": 1, "chord": "C"}]]}', r"is in 'a\\nb'; charts"),
        ('{"time_signature": "3/4", "bars": [[{"beat": 4, "chord": "C"}]]}', "bar 1 .* no beat 4 in 3/4"),
        ('{"time_signature": "3/4", "bars": [[{"beat": 4.5, "chord": "C"}]]}', "no beat 4.5"),
    ],
)
def test_a_file_that_is_no_chart_is_one_sentence(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "tune.json"
    file.write_text(text)
    with pytest.raises(ConfigError, match=words):
        chart.read(str(file))
    with pytest.raises(ConfigError, match="cannot be read"):
        chart.read(str(tmp_path / "none.json"))
    for name in ("tune.txt", str(tmp_path / "tune.xml")):
        with pytest.raises(ConfigError, match=r"ends in \.json"):
            chart.read(name)
    with pytest.raises(ConfigError, match=r"'Xm7' .* not a chord symbol"):
        chart.read("N.C. Xm7")


def test_a_file_of_bars(tmp_path: Path) -> None:
    file = tmp_path / "tune.json"
    file.write_text(
        '{"bars": [[], [{"beat": 1, "chord": "Dm7"}, {"beat": 3, "chord": "G7"}], [], '
        '[{"beat": 1, "chord": "C6"}]]}'
    )
    symbols = [(chord and chord.symbol, bars) for chord, bars in chart.read(str(file)).progression]
    assert symbols == [(None, 1.0), ("Dm7", 0.5), ("G7", 1.5), ("C6", 1.0)]


def test_a_file_may_be_a_waltz(tmp_path: Path) -> None:
    file = tmp_path / "tune.json"
    file.write_text(
        '{"time_signature": "3/4", "bars": [[{"beat": 1, "chord": "Dm7"}], [{"beat": 3, "chord": "G7"}]]}'
    )
    progression, bar = chart.read(str(file))
    assert bar == 3
    assert [bars for _, bars in progression] == pytest.approx([5 / 3, 1 / 3])
    waltz = Chart(progression, bar)
    assert waltz.beats == pytest.approx(6)
    form = waltz.form(Grid(Seconds(0.0), 0.5, 3), 0, 12)
    assert [change.at for change in form.changes] == pytest.approx([0, 2.5, 3, 5.5])


def test_in_a_waltz_the_turns_have_three_beats_a_bar() -> None:
    """Of four bars each: the human's turn is beats 0 to 12, the solo's 12 to 24."""
    waltz = Chart(chart.read(BLUES).progression, 3)
    room = Room(chart=waltz, manner=Manner(mode="trade", bars=4), tempo=Tempo(bar=3))
    began = started(room, 26)
    beats = [(at - began) / 0.5 for at, _ in room.struck]
    assert min(beats) == pytest.approx(12, abs=0.1)
    assert not [beat for beat in beats if beat >= 24]
    for bar, symbol in enumerate(("C7", "F7", "C7", "G7")):
        over = {p % 12 for at, p in room.struck if 12.2 + 3 * bar < (at - began) / 0.5 < 14.8 + 3 * bar}
        assert over
        assert over <= voiced(symbol)
    told = room.session.beat()
    assert (told["bar"], told["beat"]) == (9, 3)


def test_stop_in_the_turn_of_the_human_ends_the_tune() -> None:
    room = Room(chart=tune(), manner=Manner(mode="trade", bars=2))
    room.play(mido.Message("start"))
    room.tick(1)
    room.strike(*DM7)
    room.tick(2)
    room.lift(*DM7)
    room.tick(1)
    room.play(mido.Message("stop"))
    room.tick(16)
    assert not room.struck


@pytest.mark.parametrize(("start", "beat"), [("now", 0.15), ("beat", 1.0)])
def test_who_begins_a_tune_is_answered_as_the_start_says(start: Literal["now", "beat"], beat: float) -> None:
    room = Room(chart=tune("Dm7 | G7"), manner=Manner(start=start))
    for _ in range(2):
        room.strike(*DM7)
        began = room.time
        room.wait(6)
        first = next(at for at, _ in room.struck if at > began)
        assert (first - began) / 0.5 == pytest.approx(beat, abs=0.05)
        room.lift(*DM7)
        room.wait(4)
