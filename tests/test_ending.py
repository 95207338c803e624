from hypothesis import given
from hypothesis import strategies as st

from jazzd.music.notes import Seconds
from jazzd.player.ending import SHORTEST_LAST_NOTE, ending
from jazzd.player.scheduler import PlannedNote

C_MAJOR = {0, 4, 7}


def note(number: int, due: float, pitch: int, length: float = 0.1) -> PlannedNote:
    return PlannedNote(number, due, pitch, 100, length)


def test_it_ends_on_a_chord_tone_held_to_the_end() -> None:
    planned = [note(0, 10.0, 62), note(1, 10.2, 64), note(2, 10.4, 65)]
    kept = ending(planned, Seconds(11.0), C_MAJOR)
    assert [each.note_id for each in kept] == [0, 1]
    assert kept[-1].due + kept[-1].duration_s == 11.0


def test_of_two_chord_tones_the_one_before_a_breath() -> None:
    planned = [note(0, 10.0, 60), note(1, 10.1, 62), note(2, 10.2, 64), note(3, 10.6, 60), note(4, 10.7, 62)]
    assert ending(planned, Seconds(11.0), C_MAJOR)[-1].note_id == 2


def test_without_a_chord_it_ends_all_the_same() -> None:
    assert ending([note(0, 10.0, 61)], Seconds(11.0), ())
    assert ending([], Seconds(11.0), ()) == []


@given(
    st.lists(st.tuples(st.floats(0, 2), st.integers(48, 96), st.floats(0.05, 2)), max_size=12),
    st.sets(st.integers(0, 11)),
)
def test_it_is_over_in_time_and_never_louder(drawn: list[tuple[float, int, float]], tones: set[int]) -> None:
    planned = [note(number, *each) for number, each in enumerate(sorted(drawn))]
    kept = ending(planned, Seconds(1.0), tones)
    assert [each.note_id for each in kept] == list(range(len(kept)))
    assert bool(kept) == any(each.due <= 1.0 - SHORTEST_LAST_NOTE for each in planned)
    velocities = [each.velocity for each in kept]
    assert velocities == sorted(velocities, reverse=True)
    assert all(1 <= each <= 100 for each in velocities)
