"""Copies are found whatever was done to them, and their length is right."""

import itertools
import random
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st
from lines import line

from jazzd.teach.copying import among, copying, longest_shared, repeated_bars
from jazzd.teach.line import Line
from jazzd.teach.metre import steady

MELODIES = st.lists(st.lists(st.integers(60, 63), max_size=25), min_size=1, max_size=6)


def wandering(seed: int, n: int = 300) -> list[int]:
    """Pitches in which no long run comes by chance."""
    dice = random.Random(seed)
    return [dice.randint(40, 90) for _ in range(n)]


def shared(one: Sequence[int], other: Sequence[int]) -> int:
    """The plain way: of every two places, how far they go on alike."""
    steps = [[b - a for a, b in itertools.pairwise(each)] for each in (one, other)]
    longest = 0
    for i in range(len(steps[0])):
        for j in range(len(steps[1])):
            n = 0
            while i + n < len(steps[0]) and j + n < len(steps[1]) and steps[0][i + n] == steps[1][j + n]:
                n += 1
            longest = max(longest, n)
    return longest and longest + 1


@given(MELODIES, st.data())
def test_the_longest_run_is_the_one_that_the_plain_way_finds(
    melodies: list[list[int]], data: st.DataObject
) -> None:
    groups = data.draw(st.lists(st.integers(0, 2), min_size=len(melodies), max_size=len(melodies)))
    expected = [
        max(
            (shared(one, other) for other, theirs in zip(melodies, groups, strict=True) if theirs != own),
            default=0,
        )
        for one, own in zip(melodies, groups, strict=True)
    ]
    assert longest_shared([line(each) for each in melodies], groups) == expected


def test_a_copy_is_found_in_another_key_tempo_and_feel() -> None:
    theirs = wandering(1)
    ours = wandering(2, 50)
    ours[10:27] = [pitch + 5 for pitch in theirs[100:117]]
    solo = line(ours, [31 * i + i % 3 for i in range(50)])
    found = copying([solo, line(wandering(3, 50))], [line(theirs), line(wandering(4))])
    assert found["longest"] == 17
    assert found["median"] < 12


def test_a_whole_solo_that_was_copied_is_as_long_as_it_is() -> None:
    training = [line(wandering(seed, 1000)) for seed in range(20)]
    assert copying(training[7:8], training)["longest"] == 1000


def test_no_run_goes_on_from_one_piece_into_the_next() -> None:
    assert longest_shared([line([60, 62]), line([64, 67]), line([60, 62, 64, 67])], [0, 0, 1]) == [2, 2, 2]


def test_takes_of_one_tune_do_not_count_among_people() -> None:
    take, other = line(wandering(5)), line(wandering(6))
    assert among([take, take, other], [0, 0, 1])["longest"] < 6
    assert among([take, take, other], [0, 2, 1]) == {"median": 300.0, "p95": 300.0, "longest": 300}
    assert among([take, take], [3, 3]) == {"median": None, "p95": None, "longest": None}


def test_nothing_is_copied_from_nothing() -> None:
    assert copying([], [line([60, 61])])["longest"] is None
    assert copying([line([60]), line([])], [line([60, 62])])["longest"] == 0


def bars(*contents: Sequence[int], late: int = 0) -> Line:
    """Bars of four beats, 200 ticks, with a note on each beat."""
    pitches = [pitch for bar in contents for pitch in bar]
    onsets = [200 * n + 50 * i + late * n for n, bar in enumerate(contents) for i in range(len(bar))]
    return line(pitches, onsets, beats=steady(120.0, 2.0 * len(contents)))


def test_bars_come_again_note_by_note() -> None:
    riff, other = (60, 62, 64, 65), (60, 62, 64, 67)
    assert repeated_bars([bars(riff, other, riff, (72,))]) == 2 / 3, "a bar of one note is none"
    assert repeated_bars([bars(riff, other), bars(other, riff)]) == 0.0, "only within a line"
    assert repeated_bars([bars(riff, riff, riff, late=2)]) == 1.0, "nobody is that exact"
    shifted = line([*riff, *riff], [0, 50, 100, 150, 225, 275, 325, 375], beats=steady(120.0, 5.0))
    assert repeated_bars([shifted]) == 0.0
    assert repeated_bars([line(riff * 4)]) is None
