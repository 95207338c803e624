import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jazzd.music.qualities import quality


@pytest.mark.parametrize(
    ("name", "intervals", "spellings"),
    [
        ("", {0, 4, 7}, "maj M major Maj"),
        ("m", {0, 3, 7}, "- min mi minor"),
        ("5", {0, 7}, "5"),
        ("6", {0, 4, 7, 9}, "6 maj6 M6"),
        ("69", {0, 4, 7, 9, 2}, "6/9 (6/9)"),
        ("m6", {0, 3, 7, 9}, "-6 min6"),
        ("7", {0, 4, 7, 10}, "7 dom7"),
        ("9", {0, 4, 7, 10, 2}, "9 7(9)"),
        ("11", {0, 7, 10, 2, 5}, "11"),
        ("13", {0, 4, 7, 10, 2, 9}, "13 7(13) 7(9,13)"),
        ("m7", {0, 3, 7, 10}, "-7 min7 mi7"),
        ("m9", {0, 3, 7, 10, 2}, "-9 m7(9)"),
        ("m11", {0, 3, 7, 10, 2, 5}, "-11"),
        ("maj7", {0, 4, 7, 11}, "M7 Maj7 ma7 j7 ^7 Δ7 Δ ^ j △"),
        ("maj9#11", {0, 4, 7, 11, 2, 6}, "M9#11 maj9(♯11)"),
        ("mmaj7", {0, 3, 7, 11}, "m(maj7) mMaj7 mM7 -^7 -Δ mj7"),
        ("m7b5", {0, 3, 6, 10}, "ø ø7 Ø -7b5 min7b5 m7(♭5) m7-5"),
        ("dim", {0, 3, 6}, "o °"),
        ("dim7", {0, 3, 6, 9}, "o7 °7"),
        ("mmaj7b5", {0, 3, 6, 11}, "dimmaj7 oΔ7"),
        ("aug", {0, 4, 8}, "+"),
        ("7#5", {0, 4, 8, 10}, "7+ +7 aug7 7+5"),
        ("maj7#5", {0, 4, 8, 11}, "augmaj7 +M7"),
        ("7alt", {0, 3, 4, 8, 10}, "alt"),
        ("7b9", {0, 4, 7, 10, 1}, "7-9 7(b9)"),
        ("7#9", {0, 4, 7, 10, 3}, "7+9"),
        ("7b9b13", {0, 4, 7, 10, 1, 8}, "7(b9,b13) 7b13b9"),
        ("13b9", {0, 4, 7, 10, 1, 9}, "13(b9)"),
        ("sus4", {0, 5, 7}, "sus 4"),
        ("sus2", {0, 2, 7}, "sus2"),
        ("7sus4", {0, 5, 7, 10}, "7sus sus7"),
        ("9sus4", {0, 5, 7, 10, 2}, "9sus sus9"),
        ("7sus4b9", {0, 5, 7, 10, 1}, "7b9sus4 7susb9"),
        ("add9", {0, 4, 7, 2}, "2 add2"),
        ("madd9", {0, 3, 7, 2}, "-add9 m(add9)"),
    ],
)
def test_every_spelling_means_one_quality(name: str, intervals: set[int], spellings: str) -> None:
    for spelling in [name, *spellings.split()]:
        found = quality(spelling)
        assert (found.name, set(found.intervals)) == (name, intervals), spelling


@pytest.mark.parametrize("written", ["x", "77", "maj77", "m7b5/H", "Dm7", "b", "7b7", "+9" * 40 + "x"])
def test_what_is_no_quality_is_refused(written: str) -> None:
    with pytest.raises(ValueError, match=re.escape(written)):
        quality(written)


@given(st.text("majdinsuø°+-^Δ#b0123456789()/", max_size=12))
def test_a_quality_is_spelled_so_that_it_reads_back_the_same(written: str) -> None:
    try:
        found = quality(written)
    except ValueError:
        return
    assert quality(found.name) == found
    assert found.intervals[0] == 0
    assert len(set(found.intervals)) == len(found.intervals)
