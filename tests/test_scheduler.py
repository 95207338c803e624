import threading
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mido import Message
from structlog.testing import capture_logs

from jazzd.errors import MidiError
from jazzd.player.clock import MonotonicClock
from jazzd.player.ledger import Ledger
from jazzd.player.scheduler import LEAD_S, RETRY_S, OutputFigures, Scheduler

pytestmark = pytest.mark.in_time


@dataclass
class FakeClock:
    time: float = 100.0

    def now(self) -> float:
        return self.time

    def sleep_until(self, at: float) -> None:
        self.time = max(self.time, at)


class Stage:
    """A scheduler without its thread, on a clock that the test sets, and what it sent."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.heard: list[tuple[float, str, int]] = []
        self.played: list[tuple[int, float, float]] = []
        self.errors: list[Exception] = []
        self.broken = False
        self.ledger = Ledger(self.send)
        self.scheduler = Scheduler(
            self.ledger,
            self.clock,
            on_sent=lambda *note: self.played.append(note),
            on_error=self.errors.append,
        )

    def send(self, message: Message) -> None:
        if self.broken:
            raise MidiError("unplugged")
        if message.type != "control_change":
            self.heard.append((round(self.clock.time - 100, 3), message.type, message.note))

    def until(self, time: float) -> None:
        """Runs to `time` seconds after the start, stopping where the scheduler wants to."""
        while (next_at := self.scheduler.step()) is not None and next_at <= 100 + time:
            self.clock.time = max(self.clock.time, next_at)
        self.clock.time = 100 + time
        self.scheduler.step()

    def plan(self, *notes: tuple[int, float, int, float]) -> None:
        """Notes of (id, seconds after the start, pitch, duration)."""
        for note_id, due, pitch, duration_s in notes:
            self.scheduler.play(note_id, 100 + due, pitch, 80, duration_s)

    @property
    def figures(self) -> OutputFigures:
        return self.scheduler.figures()


@pytest.fixture
def stage() -> Stage:
    return Stage()


def test_the_scheduler_turns_to_a_note_before_its_time_and_sends_it_then(stage: Stage) -> None:
    stage.plan((1, 0.5, 60, 0.25))
    assert stage.scheduler.step() == 100.5 - LEAD_S
    stage.clock.time = 100.5 - LEAD_S
    assert stage.heard == []
    stage.scheduler.step()
    assert stage.heard == [(0.5, "note_on", 60)]
    assert stage.figures.lateness_ms == (0.0,)


def test_every_note_at_its_time_and_for_its_time(stage: Stage) -> None:
    stage.plan((2, 0.5, 62, 0.375), (1, 0.25, 60, 0.5))
    stage.until(1)
    assert stage.heard == [
        (0.25, "note_on", 60),
        (0.5, "note_on", 62),
        (0.75, "note_off", 60),
        (0.875, "note_off", 62),
    ]
    assert stage.played == [(1, 100.25, 100.25), (2, 100.5, 100.5)]
    assert stage.figures == OutputFigures(2, 0, 0, 0, (0.0, 0.0))


def test_a_repeated_pitch_is_released_before_it_is_struck_again(stage: Stage) -> None:
    stage.plan((1, 0, 60, 0.5), (2, 0.25, 60, 0.5), (3, 0.75, 60, 0.25))
    stage.until(2)
    assert stage.heard == [
        (0.0, "note_on", 60),
        (0.25, "note_off", 60),
        (0.25, "note_on", 60),
        (0.75, "note_off", 60),
        (0.75, "note_on", 60),
        (1.0, "note_off", 60),
    ]


def test_ids_may_come_round_again_while_the_old_note_sounds(stage: Stage) -> None:
    stage.plan((0, 0, 60, 0.5), (0, 0.25, 60, 0.5))
    stage.until(0.6)
    assert stage.ledger.sounding == [(0, 60)]


def test_cancelled_notes_are_never_sent_and_all_others_are(stage: Stage) -> None:
    stage.plan((1, 0, 60, 1), (3, 0.3, 62, 1), (2, 0.2, 61, 1), (4, 0.4, 63, 1))
    stage.until(0.1)
    assert [note.note_id for note in stage.scheduler.cancel(after=100.3)] == [3, 4]
    assert stage.scheduler.cancel(after=100.3) == []
    stage.until(5)
    assert [note_id for note_id, _, _ in stage.played] == [1, 2]
    assert stage.ledger.sounding == []
    assert stage.figures.dropped == 0


def test_a_trimmed_phrase_is_over_at_its_end(stage: Stage) -> None:
    stage.plan((1, 0, 60, 9), (2, 0.5, 61, 9), (3, 0.6, 62, 0.1), (4, 1, 63, 9), (5, 2, 64, 9))
    stage.until(0.1)
    assert [note.note_id for note in stage.scheduler.cancel_and_trim(at=101)] == [4, 5]
    stage.until(0.999)
    assert stage.ledger.sounding == [(0, 60), (0, 61)]
    stage.until(1)
    assert stage.ledger.sounding == []


def test_release_all_leaves_the_plan(stage: Stage) -> None:
    stage.plan((1, 0, 60, 9), (2, 1, 60, 2))
    stage.until(0.5)
    stage.scheduler.release_all()
    assert stage.ledger.sounding == []
    stage.until(1)
    assert stage.ledger.sounding == [(0, 60)]


def test_panic_leaves_nothing(stage: Stage) -> None:
    stage.plan((1, 0, 60, 9), (2, 1, 60, 2))
    stage.until(0.5)
    assert [note.note_id for note in stage.scheduler.panic()] == [2]
    assert stage.scheduler.step() is None
    assert stage.heard == [(0.0, "note_on", 60), (0.5, "note_off", 60)]


def test_nothing_is_sent_after_close(stage: Stage) -> None:
    stage.plan((1, 0, 60, 9))
    stage.until(0.5)
    stage.scheduler.close()
    assert stage.ledger.sounding == []
    stage.plan((2, 0.5, 60, 1))
    stage.until(1)
    assert len(stage.heard) == 2


def test_late_and_stale_notes_are_counted(stage: Stage) -> None:
    stage.plan((1, 0.495, 60, 1), (2, 0.4, 61, 1), (3, 0.1, 62, 1))
    stage.clock.time = 100.5
    stage.until(0.5)
    assert [note_id for note_id, _, _ in stage.played] == [2, 1]
    assert (stage.figures.sent, stage.figures.late, stage.figures.dropped) == (2, 1, 1)
    assert stage.figures.lateness_ms == pytest.approx((100, 5))


def test_a_note_that_sounds_as_soon_as_possible_is_never_late(stage: Stage) -> None:
    stage.clock.time = 105
    stage.scheduler.play(1, 100, 60, 80, 0.5, channel=3, asap=True)
    stage.until(5)
    assert stage.ledger.sounding == [(3, 60)]
    assert stage.figures == OutputFigures(1, 0, 0, 1, ())
    stage.until(5.5)
    assert stage.ledger.sounding == []


def test_a_note_off_is_tried_until_it_is_through(stage: Stage) -> None:
    stage.plan((1, 0, 60, 0.5), (2, 0.6, 61, 0.1))
    stage.until(0.4)
    stage.broken = True
    stage.until(2)
    assert stage.figures.dropped == 1
    assert [str(error) for error in stage.errors] == ["unplugged"]
    stage.broken = False
    stage.until(2 + RETRY_S)
    assert stage.ledger.sounding == []
    stage.broken = True
    stage.plan((3, 3, 60, 0.5))
    stage.until(3)
    assert len(stage.errors) == 2


def test_a_panic_that_could_not_be_sent_is_made_good(stage: Stage) -> None:
    stage.plan((1, 0, 60, 9))
    stage.until(0.5)
    stage.broken = True
    stage.scheduler.panic()
    stage.broken = False
    stage.until(0.5 + RETRY_S)
    assert stage.ledger.sounding == []


Plans = st.lists(
    st.tuples(st.integers(0, 3), st.floats(0, 2), st.integers(60, 62), st.floats(0.01, 1)), max_size=12
)


@given(plans=Plans, calls=st.lists(st.tuples(st.sampled_from("ctrp"), st.floats(0, 3)), max_size=4))
def test_whatever_happens_nothing_is_left_sounding(
    plans: list[tuple[int, float, int, float]], calls: list[tuple[str, float]]
) -> None:
    stage = Stage()
    stage.plan(*plans)
    dropped = 0
    for step, (call, at) in enumerate(calls):
        stage.until(step * 0.6)
        match call:
            case "c":
                dropped += len(stage.scheduler.cancel(after=100 + at))
            case "t":
                dropped += len(stage.scheduler.cancel_and_trim(at=100 + at))
            case "r":
                stage.scheduler.release_all()
            case "p":
                dropped += len(stage.scheduler.panic())
    stage.until(10)
    down: set[int] = set()
    for _, kind, pitch in stage.heard:
        assert (pitch in down) == (kind == "note_off")
        down ^= {pitch}
    assert not down
    assert stage.ledger.sounding == []
    assert stage.figures.sent + stage.figures.dropped + dropped == len(plans)


class Running:
    """A scheduler with its thread, on the real clock."""

    def __init__(self, **callbacks: object) -> None:
        self.sent: list[Message] = []
        self.clock = MonotonicClock()
        self.scheduler = Scheduler(Ledger(self.sent.append), self.clock, **callbacks)  # type: ignore[arg-type]
        self.scheduler.start()


def test_no_note_is_sent_before_its_time() -> None:
    done = threading.Event()
    sent: list[tuple[float, float]] = []

    def on_sent(_: int, due: float, sent_at: float) -> None:
        sent.append((due, sent_at))
        if len(sent) == 20:
            done.set()

    running = Running(on_sent=on_sent)
    now = running.clock.now()
    for n in range(20):
        running.scheduler.play(n, now + 0.01 + n * LEAD_S * 1.5, 60 + n, 80, 0.001)
    assert done.wait(5)
    running.scheduler.close()
    assert all(sent_at >= due for due, sent_at in sent)


def test_the_thread_plays_in_order_and_ends_clean() -> None:
    done = threading.Event()
    running = Running(on_sent=lambda note_id, due, sent_at: done.set() if note_id == 0 else None)
    now = running.clock.now()
    for note_id in reversed(range(50)):  # the earliest comes last: the thread must wake for it
        running.scheduler.play(note_id, now + 0.2 - note_id * 0.003, 40 + note_id, 80, 5)
    assert done.wait(5)
    running.scheduler.close()
    notes = [message.note for message in running.sent if message.type == "note_on"]
    assert notes == [40 + note_id for note_id in reversed(range(50))]
    assert sorted(m.note for m in running.sent if m.type == "note_off") == sorted(notes)


def test_a_callback_that_fails_does_not_end_the_thread() -> None:
    done = threading.Event()

    def on_sent(note_id: int, due: float, sent_at: float) -> None:
        if note_id == 1:
            raise RuntimeError("a bug")
        done.set()

    with capture_logs() as logs:
        running = Running(on_sent=on_sent)
        running.scheduler.play(1, 0, 60, 80, 0.01, asap=True)
        running.scheduler.play(2, running.clock.now() + 0.05, 61, 80, 0.01)
        assert done.wait(5)
        running.scheduler.close()
    assert [entry["event"] for entry in logs] == ["scheduler_callback_failed"]


def test_cancelling_from_many_threads_loses_no_note() -> None:
    running = Running()
    start = running.clock.now()
    dropped: list[int] = []

    def work(first: int) -> None:
        for note_id in range(first, first + 100):
            running.scheduler.play(note_id, start + 0.0005 * (note_id % 100), note_id % 128, 80, 0.001)
            if note_id % 10 == 9:
                dropped.extend(note.note_id for note in running.scheduler.cancel())

    threads = [threading.Thread(target=work, args=(first,)) for first in range(0, 400, 100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    dropped += [note.note_id for note in running.scheduler.panic()]
    running.scheduler.close()
    figures = running.scheduler.figures()
    assert len(dropped) == len(set(dropped))
    assert figures.sent + figures.dropped + len(dropped) == 400
    assert figures.sounding == 0
