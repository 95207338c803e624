from jazzd.music.notes import Seconds
from jazzd.player.scheduler import PlannedNote
from jazzd.player.timeline import Made, Timeline


def planned(*note_ids: int) -> list[PlannedNote]:
    return [PlannedNote(note_id, 0.0, 60, 80, 0.1) for note_id in note_ids]


def test_a_tick_is_ten_milliseconds_from_the_origin() -> None:
    timeline = Timeline(Seconds(100.0))
    assert timeline.tick(101.0) == 100
    assert timeline.tick(99.0) == 0
    assert timeline.time(150) == 101.5


def test_the_floor_never_goes_back() -> None:
    timeline = Timeline(Seconds(0.0))
    assert timeline.raise_floor(1.0) == 100
    assert timeline.raise_floor(0.5) == 100
    assert timeline.raise_floor(1.5) == 150


def test_the_last_note_is_the_one_before_the_first_taken_back() -> None:
    timeline = Timeline(Seconds(0.0))
    assert timeline.last == -1
    for note_id, number in ((7, 0), (8, 1), (9, 2), (10, 3)):
        timeline.plan(note_id, Made(number, 10 * number))
    timeline.sent(7)
    assert timeline.take_back(planned(9, 10)) == {9: Made(2, 20), 10: Made(3, 30)}
    assert timeline.last == 1
    assert timeline.take_back([]) == {}
    assert timeline.last == 1
    timeline.plan(11, Made(2, 30))
    assert timeline.last == 2
