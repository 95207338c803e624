"""The timeline: numbers and order, going back, floors, and windows that run out."""

import itertools
from collections.abc import Callable

import numpy as np
import pytest
import tiny

from jazzd.engine.protocol import Key, Note, Sampling
from jazzd.engine.timeline import CROWD, LONGEST_REST, Timeline
from jazzd.moonbeam.decode import State
from jazzd.moonbeam.sampling import Controls
from jazzd.moonbeam.tokens import COMPING, INSTRUMENT, OCTAVE, ONSET, PITCH_CLASS, SOLO

SAMPLING = Sampling(temperature=1.0, top_p=1.0)
DM7 = (50, 57, 60, 65)
G7 = (43, 59, 62, 65)
Window = Callable[[], list[tuple[int, int, int]]]


def keys(onset: int, pitches: tuple[int, ...] = DM7, duration: int = 200) -> list[Key]:
    return [Key(onset, duration, pitch, 70) for pitch in pitches]


def begun(seed: int = 1) -> Timeline:
    """With a chord at its beginning."""
    timeline = Timeline(tiny.decoder(), seed)
    timeline.revise(-1, keys(0))
    return timeline


def play(timeline: Timeline, n: int, floor: int = 0, sampling: Sampling = SAMPLING) -> list[Note]:
    return [timeline.next_note(sampling, floor, at_floor=False, epoch=0) for _ in range(n)]


@pytest.fixture
def window(monkeypatch: pytest.MonkeyPatch) -> Window:
    """What the model has read when it drew the last note, that note included: onset, program, pitch."""
    states: list[State] = []
    step = tiny.decoder().step

    def watched(state: State, controls: Controls) -> tuple[State, np.ndarray]:
        drawn = step(state, controls)
        states[:] = drawn[:1]
        return drawn

    def read() -> list[tuple[int, int, int]]:
        rows = np.asarray(states[0].rows)[1 : int(states[0].length)]
        return [(int(r[ONSET]), int(r[INSTRUMENT]), int(12 * r[OCTAVE] + r[PITCH_CLASS])) for r in rows]

    monkeypatch.setattr(tiny.decoder(), "step", watched)
    return read


def test_notes_count_up_in_time_order_after_a_chord() -> None:
    notes = play(begun(), 20, floor=30)
    assert [note.number for note in notes] == list(range(20))
    assert notes[0].onset >= 30
    assert all(0 <= b.onset - a.onset <= LONGEST_REST for a, b in itertools.pairwise(notes))
    assert all(note.duration >= 1 and note.velocity >= 1 for note in notes)
    assert all(SAMPLING.low <= note.pitch <= SAMPLING.high for note in notes)


def test_same_seed_same_notes_and_another_seed_others() -> None:
    first, again, other = (play(begun(seed), 10) for seed in (3, 3, 4))
    assert first == again
    assert first != other


def test_what_is_kept_keeps_its_number_and_the_next_counts_on() -> None:
    timeline = begun()
    notes = play(timeline, 12)
    timeline.revise(4, keys(notes[4].onset + 1))
    assert [note.number for note in play(timeline, 3)] == [5, 6, 7]
    timeline.revise(-1, [])
    assert play(timeline, 1)[0].number == 0


def test_going_back_changes_nothing() -> None:
    """Notes taken back, and even a chord's worth of others in their place, leave no trace."""
    straight = begun()
    kept = play(straight, 5)
    straight.revise(4, keys(kept[4].onset + 20, G7))
    expected = play(straight, 8)
    bent = begun()
    play(bent, 17)
    bent.revise(4, [])
    play(bent, 9)
    bent.revise(4, keys(kept[4].onset + 20, G7))
    assert play(bent, 8) == expected


def test_a_chord_bears_on_what_comes_after_it() -> None:
    notes = play(begun(), 5)
    other = Timeline(tiny.decoder(), 1)
    other.revise(-1, keys(0, G7))
    assert play(other, 5) != notes


def test_keys_are_inserted_in_time_order_before_later_solo_notes(window: Window) -> None:
    """Kept notes may begin after the chord was struck: the model reads them all by onset, the chord first."""
    timeline = begun()
    notes = play(timeline, 6, floor=10)
    struck = notes[3].onset
    timeline.revise(5, keys(struck, G7))
    notes += play(timeline, 1)
    solo = [(note.onset, SOLO, note.pitch) for note in notes]
    first, chord = [(0, COMPING, pitch) for pitch in DM7], [(struck, COMPING, pitch) for pitch in G7]
    earlier = [note for note in solo if note[0] < struck]
    assert window() == [*first, *earlier, *chord, *solo[len(earlier) :]]


def test_at_floor_is_exact_and_a_floor_holds() -> None:
    timeline = begun()
    floor = 37
    for n in range(15):
        note = timeline.next_note(SAMPLING, floor, at_floor=n % 2 == 0, epoch=n)
        assert note.epoch == n
        assert note.onset == floor if n % 2 == 0 else floor <= note.onset <= floor + LONGEST_REST
        floor = note.onset + 1 + 7 * n


def test_no_note_begins_before_the_one_that_stays() -> None:
    timeline = begun()
    last = play(timeline, 5, floor=100)[-1]
    assert timeline.next_note(SAMPLING, 3, at_floor=True, epoch=0).onset == last.onset


def test_the_range_may_be_given_either_way_round() -> None:
    notes = play(begun(), 20, sampling=Sampling(low=72, high=60))
    assert all(60 <= note.pitch <= 72 for note in notes)


def test_a_full_window_turns_without_a_seam() -> None:
    timeline = begun()
    notes = play(timeline, 3 * tiny.CONFIG.window)
    assert [note.number for note in notes] == list(range(len(notes)))
    assert all(0 <= b.onset - a.onset <= LONGEST_REST for a, b in itertools.pairwise(notes))


def test_every_window_has_dice_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else each would begin with the same draws."""
    seeds: list[int] = []
    begin = tiny.decoder().begin

    def watched(seed: int) -> State:
        seeds.append(seed)
        return begin(seed)

    monkeypatch.setattr(tiny.decoder(), "begin", watched)
    for seed in (0, 1):
        play(Timeline(tiny.decoder(), seed), 3 * tiny.CONFIG.window)
    assert len(seeds) > 8
    assert len(set(seeds)) == len(seeds) - 2  # each timeline's first is begun twice


def test_the_model_reads_time_going_on_in_a_long_session(window: Window) -> None:
    """Chords, revisions and turns, for four minutes."""
    timeline, notes = Timeline(tiny.decoder(), 1), list[Note]()
    for now in range(0, 24_000, 300):
        notes = [note for note in notes if note.onset < now]  # what has sounded stays
        last = notes[-1].number if notes else -1
        timeline.revise(last, keys(now, DM7 if now % 600 else G7))
        notes += play(timeline, 5, floor=now + 1)
        assert notes[-5].number == last + 1
        onsets = [onset for onset, _, _ in window()]
        assert onsets[0] == 0
        assert all(0 <= b - a <= tiny.CONFIG.vocabulary.longest for a, b in itertools.pairwise(onsets))


@pytest.mark.parametrize("rest", [800, 1000, 1500, 10**6])
def test_a_long_silence_ends_with_the_chord(rest: int) -> None:
    timeline = begun()
    kept = play(timeline, 3)[-1]
    struck = kept.onset + rest
    timeline.revise(kept.number, keys(struck, G7))
    answer = timeline.next_note(SAMPLING, struck + 4, at_floor=True, epoch=1)
    assert (answer.number, answer.onset) == (3, struck + 4)
    assert play(timeline, 5)[-1].number == 8


@pytest.mark.parametrize("rest", [0, 500, 900, 1500, 10**6])
@pytest.mark.parametrize("at_floor", [False, True])
def test_a_long_silence_without_a_chord_too(rest: int, at_floor: bool) -> None:
    timeline = begun()
    kept = play(timeline, 3)[-1]
    note = timeline.next_note(SAMPLING, kept.onset + rest, at_floor, epoch=1)
    assert note.number == 3
    assert kept.onset + rest <= note.onset <= kept.onset + rest + (0 if at_floor else LONGEST_REST)


def test_a_key_older_than_the_window_is_read_first() -> None:
    timeline = begun()
    notes = play(timeline, tiny.CONFIG.window)
    timeline.revise(notes[-2].number, keys(5, G7))
    after = play(timeline, 3)
    assert [note.number for note in after] == [notes[-1].number + n for n in range(3)]
    assert after[0].onset >= notes[-2].onset


@pytest.mark.parametrize("at_floor", [False, True])
@pytest.mark.parametrize("struck", [None, 40])
def test_going_back_beyond_the_window_still_heeds_the_floor(at_floor: bool, struck: int | None) -> None:
    timeline = begun()
    play(timeline, tiny.CONFIG.window, sampling=Sampling(temperature=1.0, density=1.0))
    timeline.revise(-1, [] if struck is None else keys(struck, G7))
    note = timeline.next_note(SAMPLING, 50, at_floor, epoch=1)
    assert note.number == 0
    assert 50 <= note.onset <= 50 + (0 if at_floor else LONGEST_REST)


def test_as_many_keys_as_a_message_holds_fit() -> None:
    timeline = begun()
    play(timeline, 20)
    timeline.revise(19, [Key(9000, 100, pitch, 1) for pitch in range(128)])
    assert timeline.next_note(SAMPLING, 9001, at_floor=True, epoch=0).onset == 9001


def test_time_goes_on_even_for_a_model_that_stands_still() -> None:
    """Cold, and weighed towards no rest at all: such a model would stay at one tick for ever."""
    stuck = Sampling(temperature=0.0, density=1.0)
    notes = play(begun(), 5 * CROWD, sampling=stuck)
    for _, together in itertools.groupby(notes, key=lambda note: note.onset):
        assert len(list(together)) <= CROWD
