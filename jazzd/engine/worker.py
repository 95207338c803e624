"""The engine's one thread that owns the device: it loads the model, keeps the timeline and decodes.

Between two pieces of work it looks at what the player sent, so nothing the player says waits longer than one
step.
"""

import queue
import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from jazzd.engine import protocol
from jazzd.engine.loading import Loaded
from jazzd.engine.timeline import Timeline
from jazzd.errors import StyleError
from jazzd.styles.wardrobe import News
from jazzd.styles.watch import Watch

log = structlog.get_logger()
Send = Callable[[protocol.Message], None]
Loader = Callable[[], Loaded]
"""Loads the base, compiles it and opens its styles; runs in the worker."""
STEP_GUESS_S = 0.01
TICK_S = 0.01
MOST_READS = 256
"""Revisions that a note tells of; more without a note between them come from no player of ours."""


@dataclass
class _Turn:
    """What the last revision asked for."""

    revise: protocol.Revise
    answered: bool
    ended: bool
    """All is played up to where it is to end."""
    until: int
    now: int
    heard_at: float
    """When the player said `now`, on this process's own clock: only differences of it are used."""


class Worker:
    """Decodes what the player asks for. `run` is the thread's body; other threads may call the rest."""

    def __init__(self, load: Loader, quiet: bool = False) -> None:
        """A `quiet` one keeps what it finds in the styles folder to itself until its first music: it may be a
        reserve, and the engine that plays says the same."""
        self._load, self._quiet = load, quiet
        self._inbox: queue.SimpleQueue[tuple[protocol.ToEngine, Send] | News | None] = queue.SimpleQueue()
        self._timeline: Timeline | None = None
        self._turn: _Turn | None = None
        self._step_s = STEP_GUESS_S
        self._noted = False
        """Whether the last piece of work was a note; then it is the next window's turn, if that is behind."""
        self._ended = False
        self._worn: protocol.Mix = ()
        self._reads: list[tuple[int, int, bool]] = []
        """As `Note.read_before` tells it."""

    def tell(self, message: protocol.ToEngine, reply: Send) -> None:
        self._inbox.put((message, reply))

    @property
    def waiting(self) -> int:
        """How many messages it has not heeded yet."""
        return self._inbox.qsize()

    def rest(self) -> None:
        """The player is gone: forget its music."""
        self._inbox.put(None)

    def end(self) -> None:
        """Let `run` return, once it has done what it is doing."""
        self._ended = True
        self._inbox.put(None)

    def run(self) -> None:
        """Load, then serve until the end. Raises what loading raises."""
        self._base, self._decoder, self._wardrobe = self._load()
        if news := self._wardrobe.look():
            self._wardrobe.take(news)
        if not self._quiet:
            base = self._base
            log.info("engine_ready", base=base.name, device=base.device, dtype=base.dtype)
            self._tell_trouble()
        with Watch(self._wardrobe.registry.folder, self._look):
            self._serve()

    def _tell_trouble(self) -> None:
        if trouble := self._wardrobe.registry.trouble:
            log.warning("no_styles", reason=trouble)

    def _look(self) -> bool:
        """What is new in the styles folder; runs in the thread of the watch."""
        if news := self._wardrobe.look():
            self._inbox.put(news)
        return self._wardrobe.registry.unsettled

    def _serve(self) -> None:
        reply: Send = _nowhere
        while not self._ended:
            work = self._work()
            try:
                item = self._inbox.get(block=work is None)
            except queue.Empty:
                assert work is not None  # else it would still wait
                work(reply)
                continue
            if item is None:
                self._timeline = self._turn = None
            elif isinstance(item, News):
                self._change(item)
                reply(self._styles())
            else:
                message, reply = item
                self._heed(message, reply)

    def _work(self) -> Callable[[Send], None] | None:
        """The next piece of work, unless the player says something first."""
        behind = self._timeline is not None and self._timeline.behind
        if self._wanted() and not (behind and self._noted):
            return self._play
        return self._prepare if behind else None

    def _wanted(self) -> bool:
        turn, timeline = self._turn, self._timeline
        if turn is None or timeline is None or turn.ended or not turn.revise.playing:
            return False
        return not turn.answered or timeline.last_onset < turn.until

    def _heed(self, message: protocol.ToEngine, reply: Send) -> None:
        match message:
            case protocol.Hello():
                self._timeline = self._turn = None
                reply(self._styles())
                reply(
                    protocol.Ready(
                        base=self._base.name,
                        device=self._base.device,
                        dtype=self._base.dtype,
                        parameters=self._base.parameters,
                        fingerprint=self._base.fingerprint,
                    )
                )
            case protocol.Ping():
                reply(protocol.Pong(n=message.n))
            case protocol.Begin():
                if self._quiet:
                    self._quiet = False
                    self._tell_trouble()
                self._timeline, self._turn = Timeline(self._decoder, message.seed), None
                self._reads.clear()
            case protocol.Revise():
                assert self._timeline is not None  # the door lets no revision in before a beginning
                ended = self._turn is not None and self._turn.ended
                self._reads.append((message.epoch, self._timeline.read, ended))
                if message.mix != self._worn:
                    self._wear(message.mix)
                self._timeline.revise(message.keep, message.keys, message.ahead, message.floor, message.end)
                self._noted = False  # the answer comes before anything else
                until = max(message.now, self._turn.until if self._turn else 0)
                self._turn = _Turn(message, not message.answer, False, until, message.now, time.monotonic())
            case protocol.Advance():
                if self._turn:
                    self._turn.until, self._turn.now = message.until, message.now
                    self._turn.heard_at = time.monotonic()

    def _play(self, reply: Send) -> None:
        turn, timeline = self._turn, self._timeline
        assert turn is not None  # _wanted said so
        assert timeline is not None
        revise, began = turn.revise, time.monotonic()
        answer = not turn.answered
        # A note that would begin before it can arrive begins later instead: late notes are worse than rests.
        head = turn.now + (began - turn.heard_at + self._step_s) / TICK_S
        floor = revise.floor if answer else max(revise.floor, int(head) + 1)
        read = timeline.read
        note = timeline.next_note(revise.sampling, floor, answer, revise.epoch, revise.beats)
        turn.answered = self._noted = True
        self._step_s += 0.2 * (time.monotonic() - began - self._step_s)
        if note:
            before = tuple(self._reads[-MOST_READS:])
            reply(note.model_copy(update={"read": read, "read_before": before}))
            self._reads.clear()
        else:
            turn.ended = True

    def _change(self, news: News) -> None:
        """The files of styles have changed."""
        names = self._wardrobe.take(news)
        if not self._quiet:
            for record in news.records:
                log.info("style_changed", style=record.name, status=record.status, reason=record.reason)
            for name in news.lost:
                log.info("style_lost", style=name)
        if names & dict(self._worn).keys():
            self._wear(self._worn)

    def _wear(self, mix: protocol.Mix) -> None:
        """Play in these styles from the next note on. What was read before stays: see docs/styles.md."""
        self._worn = mix
        try:
            self._decoder.mix = self._wardrobe.mix(dict(mix))
        except StyleError as error:  # its file went or broke this very moment: the player hears of it soon
            log.warning("style_unavailable", reason=str(error), instead="the plain base")
            self._decoder.mix = None

    def _styles(self) -> protocol.Styles:
        playable = self._wardrobe.playable
        return protocol.Styles(
            styles=tuple(
                protocol.Style(
                    name=record.name,
                    status="ready" if record.name in playable else record.status,
                    reason=record.reason,
                    program=record.program,
                    settings=protocol.StyleSettings.model_validate(record.settings),
                    fingerprint=record.fingerprint,
                )
                for record in self._wardrobe.registry.records
            )
        )

    def _prepare(self, reply: Send) -> None:
        assert self._timeline is not None  # _work said so
        self._timeline.prepare()
        self._noted = False


def _nowhere(message: protocol.Message) -> None:
    """Where notes go while no player is there."""
