"""A take replayed: the engine makes the same notes of the same questions."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest
import tiny

from jazzd.engine import protocol
from jazzd.engine.protocol import Advance, Begin, Change, Key, Note, Revise, Sampling
from jazzd.engine.worker import Worker
from jazzd.errors import MidiError
from jazzd.replay import replay, warnings
from jazzd.takes import Log, Passage


def played(folder: Path, seed: int, sittings: int = 40) -> list[protocol.Message]:
    """What was asked and made while somebody played wildly, styles and a tune with known chords included."""
    dice, said = random.Random(seed), []
    worker = Worker(lambda: tiny.loaded(folder))
    worker._base, worker._decoder, worker._wardrobe = tiny.loaded(folder)
    worker._decoder.mix = None
    worker._wardrobe.take(worker._wardrobe.look())  # type: ignore[arg-type]
    made: list[Note] = []

    def reply(message: protocol.Message) -> None:
        assert isinstance(message, Note)
        made.append(message)
        said.append(message)

    def tell(message: protocol.ToEngine) -> None:
        if not isinstance(message, Advance):
            said.append(message)
        worker._heed(message, reply)

    tell(Begin(seed=seed))
    now, keep = 0, -1
    for epoch in range(1, sittings):
        now += dice.randrange(1, 90)
        keep = dice.randint(max(-1, keep - 3), keep) if made and dice.random() < 0.3 else keep
        floor = max([now + 3, *(note.onset for note in made if note.number == keep)])
        ahead = tuple(
            Change(at=floor + 60 * n, keys=(Key(floor + 60 * n, 50, dice.randrange(40, 60), 60),))
            for n in range(dice.choice((0, 0, 3)))
        )
        tell(
            Revise(
                epoch=epoch,
                now=now,
                keep=keep,
                floor=floor,
                answer=dice.random() < 0.5,
                keys=tuple(Key(now, 60, dice.randrange(40, 70), 70) for _ in range(dice.randrange(4))),
                sampling=Sampling(temperature=dice.choice((0.7, 1.0)), density=dice.uniform(-1, 1)),
                mix=dice.choice(((), (("cool", 1.0),), (("cool", 0.5), ("hot", 0.5)))),
                ahead=ahead,
                end=floor + 150 if ahead else None,
            )
        )
        before = len(made)
        tell(Advance(now=now, until=now + dice.randrange(200)))
        while (work := worker._work()) and len(made) < before + 6:
            work(reply)
        fresh = [note.number for note in made[before:]]
        if fresh:
            keep = dice.choice(fresh)
    return said


def log_of(said: list[protocol.Message], **told: str) -> Log:
    first = said[0]
    assert isinstance(first, Begin)
    events = tuple(message for message in said[1:] if isinstance(message, Revise | Note))
    return Log(passages=(Passage(seed=first.seed, events=events),), **told)  # type: ignore[arg-type]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for seed, name in enumerate(("cool", "hot")):
        tiny.write_style(tmp_path / f"{name}.safetensors", seed)
    return tmp_path


@pytest.mark.parametrize("seed", range(3))
def test_the_notes_are_the_same_bit_for_bit(folder: Path, seed: int) -> None:
    log = log_of(played(folder, seed))
    _, decoder, wardrobe = tiny.loaded(folder)
    wardrobe.registry.rescan()
    found = replay(log, decoder, wardrobe)
    assert found.notes > 60
    assert found.same == found.notes
    assert found.difference is None
    assert found.solo
    assert len(found.solo) < found.notes, "some were taken back"


def test_another_seed_is_told_with_its_place(folder: Path) -> None:
    log = log_of(played(folder, 1))
    other = log.model_copy(update={"passages": (log.passages[0].model_copy(update={"seed": 99}),)})
    _, decoder, wardrobe = tiny.loaded(folder)
    wardrobe.registry.rescan()
    found = replay(other, decoder, wardrobe)
    assert found.same < found.notes
    assert found.difference
    assert found.difference.was in log.passages[0].events


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda folder: (folder / "cool.safetensors").unlink(), "cool is not there"),
        (lambda folder: tiny.write_style(folder / "hot.safetensors", 9), "hot is another one now"),
    ],
)
def test_what_is_not_as_it_was_is_said(folder: Path, change: Callable[[Path], object], words: str) -> None:
    base, _, wardrobe = tiny.loaded(folder)
    wardrobe.registry.rescan()
    marks = {record.name: record.fingerprint for record in wardrobe.registry.records}
    said = played(folder, 2, 20)
    log = log_of(said, fingerprint=base.fingerprint).model_copy(update={"styles": marks})
    assert warnings(log, base, wardrobe) == []
    change(folder)
    wardrobe.registry.rescan()
    assert [doubt for doubt in warnings(log, base, wardrobe) if words in doubt]
    assert "0000" in warnings(log.model_copy(update={"fingerprint": "feed"}), base, wardrobe)[0]


def test_a_note_that_came_after_the_next_question_was_still_made_before_it(folder: Path) -> None:
    said = played(folder, 4)
    late, waiting = said[:2], list[protocol.Message]()
    for message in said[2:]:  # every note stands behind the revision that follows it
        if isinstance(message, Revise):
            late += [message, *waiting]
            waiting.clear()
        else:
            waiting.append(message)
    late += waiting
    log, moved = log_of(said), log_of(late)
    assert log != moved
    _, decoder, wardrobe = tiny.loaded(folder)
    wardrobe.registry.rescan()
    assert replay(moved, decoder, wardrobe).same == replay(log, decoder, wardrobe).same > 50


def test_a_take_that_asks_for_the_end_of_time_is_refused_in_a_sentence(folder: Path) -> None:
    late = 2**31 - 1
    events = (
        Revise(epoch=1, now=late, floor=late, answer=False),
        *(
            Note(epoch=1, number=n, onset=late, duration=5, pitch=60, velocity=80, floor=late)
            for n in range(8)
        ),
    )
    _, decoder, wardrobe = tiny.loaded(folder)
    with pytest.raises(MidiError, match="the take is damaged"):
        replay(Log(passages=(Passage(seed=1, events=events),)), decoder, wardrobe)
