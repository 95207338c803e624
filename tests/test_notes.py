from hypothesis import given
from hypothesis import strategies as st

from jazzd.music.notes import Note5D


@given(st.integers(0, 127))
def test_a_pitch_survives_being_split_into_octave_and_pitch_class(pitch: int) -> None:
    note = Note5D.from_pitch(1.0, 0.5, pitch, 80)
    assert note.pitch == pitch
    assert 0 <= note.pitch_class < 12


def test_middle_c_is_sixty() -> None:
    note = Note5D.from_pitch(1.0, 0.5, 60, 80)
    assert (note.octave, note.pitch_class, note.end) == (5, 0, 1.5)
