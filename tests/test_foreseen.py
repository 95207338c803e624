"""Chords that are known before they sound, in the engine: rows at their time, weights, and an end."""

import itertools

import pytest
import tiny

from jazzd.engine import timeline as engine
from jazzd.engine.protocol import Beats, Change, Key, Note, Sampling
from jazzd.engine.timeline import Event, Timeline
from jazzd.moonbeam.tokens import COMPING, SOLO

WILD = Sampling(temperature=1.0, top_p=1.0)
DM7, G7 = (50, 57, 60, 65), (43, 59, 62, 65)


def only(*pitch_classes: int) -> tuple[float, ...]:
    return tuple(float(pc in pitch_classes) for pc in range(12))


def change(at: int, pitches: tuple[int, ...] = DM7, weights: tuple[float, ...] | None = None) -> Change:
    keys = tuple(Key(at, 100, pitch, 64) for pitch in pitches)
    return Change(at=at, keys=keys, weights=weights or (1.0,) * 12)


FORM = (change(0, DM7, only(2, 5, 9)), change(200, G7, only(7, 11)), change(400, DM7, only(0)))


def draw(timeline: Timeline, floor: int = 0) -> list[Note]:
    """All notes up to the end."""
    drawn = iter(lambda: timeline.next_note(WILD, floor, at_floor=False, epoch=0), None)
    return [note for note in itertools.islice(drawn, 500) if note]


def rows(timeline: Timeline) -> list[Event]:
    return timeline._events


def test_every_note_is_weighed_by_the_chord_it_begins_over_and_none_begins_at_the_end() -> None:
    timeline = Timeline(tiny.decoder(), 3)
    timeline.revise(-1, (), FORM, floor=0, end=600)
    notes = draw(timeline)
    assert [note.number for note in notes] == list(range(len(notes)))
    assert len(notes) > 3
    assert notes[-1].onset < 600
    for note in notes:
        allowed = ({2, 5, 9}, {7, 11}, {0})[note.onset // 200]
        assert note.pitch % 12 in allowed
    assert timeline.next_note(WILD, 0, at_floor=False, epoch=0) is None, "the end stays the end"


def test_the_chords_are_rows_where_they_belong() -> None:
    timeline = Timeline(tiny.decoder(), 3)
    timeline.revise(-1, (), FORM, floor=0, end=600)
    draw(timeline)
    events = rows(timeline)
    assert [event.onset for event in events] == sorted(event.onset for event in events)
    chords = [(e.onset, e.pitch) for e in events if e.program == COMPING]
    assert chords == [(c.at, key.pitch) for c in FORM for key in c.keys]


def test_telling_a_form_again_changes_nothing() -> None:
    plain, told = (Timeline(tiny.decoder(), 3) for _ in range(2))
    for timeline in (plain, told):
        timeline.revise(-1, (), FORM, floor=0, end=600)
    first = [told.next_note(WILD, 0, at_floor=False, epoch=0) for _ in range(6)]
    last = first[-1]
    assert last
    told.revise(last.number, (), FORM, floor=last.onset, end=600)
    assert [*first, *draw(told)] == draw(plain)
    assert rows(told) == rows(plain)


def test_what_was_foreseen_is_forgotten_when_the_human_takes_another_way() -> None:
    timeline = Timeline(tiny.decoder(), 3)
    timeline.revise(-1, (), FORM, floor=0, end=600)
    notes = draw(timeline)
    kept = [note for note in notes if note.onset < 150]
    timeline.revise(kept[-1].number, [Key(160, 100, 48, 80)], floor=170)
    events = rows(timeline)
    assert max(e.onset for e in events) == 160
    assert [e.pitch for e in events if e.program == COMPING] == [*DM7, 48]
    note = timeline.next_note(WILD, 170, at_floor=True, epoch=1)
    assert note
    assert note.onset == 170


def test_the_humans_own_line_is_solo_in_the_context() -> None:
    timeline = Timeline(tiny.decoder(), 3)
    timeline.revise(-1, [Key(0, 100, 50, 64), Key(20, 10, 72, 90, True)])
    assert [(e.program, e.number) for e in rows(timeline)] == [(COMPING, -1), (SOLO, -1)]
    timeline.revise(-1, ())
    assert len(rows(timeline)) == 2, "it is the human's: nothing takes it back"


def test_strong_beats_have_weights_of_their_own() -> None:
    sampling = WILD.model_copy(update={"weights": only(1, 3), "strong": only(7)})
    timeline = Timeline(tiny.decoder(), 5)
    timeline.revise(-1, [Key(0, 400, 50, 64)])
    beats = Beats(origin=0.0, length=100.0)
    for n in range(1, 40):
        at = 25 * n
        note = timeline.next_note(sampling, at, at_floor=True, epoch=0, beats=beats)
        assert note
        assert note.pitch % 12 in ({7} if at % 100 == 0 else {1, 3})


def repeats(monkeypatch: pytest.MonkeyPatch, factor: float) -> int:
    """How often one of two pitches is struck twice running."""
    monkeypatch.setattr(engine, "REPEATING", factor)
    sampling = WILD.model_copy(update={"weights": only(0, 6), "low": 60, "high": 71})
    timeline = Timeline(tiny.decoder(), 1)
    timeline.revise(-1, [Key(0, 400, 50, 64)])
    notes = [timeline.next_note(sampling, 0, at_floor=False, epoch=0) for _ in range(100)]
    return sum(a.pitch == b.pitch for a, b in itertools.pairwise(note for note in notes if note))


def test_the_same_key_is_more_seldom_struck_twice_running(monkeypatch: pytest.MonkeyPatch) -> None:
    never, seldom, even = (repeats(monkeypatch, factor) for factor in (1e-6, engine.REPEATING, 1.0))
    assert never < seldom < even
