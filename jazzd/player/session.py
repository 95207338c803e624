"""Follow mode: a solo while chords are played, its harmony following every change.

All of it runs on the loop's thread, on the stamps of messages and one clock; `deadline` says when it wants
to be polled. The engine makes notes ahead of the play head; a new chord takes back all that has not been
sent, tells the engine what was struck, and the first note of the answer sounds as soon as it is here.
"""

import itertools
import random
from collections.abc import Mapping
from typing import Protocol

import mido
import structlog

from jazzd.engine import protocol
from jazzd.music import chords
from jazzd.music.notes import Seconds
from jazzd.music.tempo import beats_to_seconds
from jazzd.player.capture import Capture, ChordCaptured, Released, Struck
from jazzd.player.clock import Clock
from jazzd.player.controls import Controls, Picked, Programmed, Silenced, Turned
from jazzd.player.ending import ending
from jazzd.player.knobs import Knobs
from jazzd.player.latency import Latency
from jazzd.player.pace import Pace
from jazzd.player.phrase import Answer, Phrase
from jazzd.player.scheduler import LATE_S, PlannedNote, Scheduler
from jazzd.player.styling import Styling
from jazzd.player.timeline import Timeline

HORIZON_TICKS = 100
"""How far ahead of the play head the engine makes notes."""
ADVANCE_S = 0.05
"""How often the engine is told where the play head is."""
KNOB_S = 0.1
"""What is due sooner stays when a knob turns or the style changes, and both are heard once in this time."""
LEGATO_S = 0.1
"""How long a note of the old chord may sound into the new one."""
FORGET_AFTER_S, LONGEST_TIMELINE_S = 8.0, 600.0
"""A chord after this much silence, or on a timeline this old, begins a new timeline."""
ENDING_S, ENDING_BEATS, ENDING_MARGIN_S = 1.0, 2.0, 0.06
"""A phrase is over this long after the hands are up, whichever is sooner; the margin is for the wires."""
CUT_SHARE = 0.35
"""The share of that time in which a next chord still finds the phrase as it was."""
SHORTEST_NOTE_S, LONGEST_NOTE_TICKS = 0.05, 400


class EngineLink(Protocol):
    def send(self, message: protocol.Message) -> None:
        """Queues the message; what is sent while no engine is ready is lost."""
        ...


class Session:
    """`sampling` is where the knobs stand at the start, `channel` (0..15) where the solo goes."""

    def __init__(
        self,
        engine: EngineLink,
        scheduler: Scheduler,
        clock: Clock,
        controls: Controls,
        sampling: protocol.Sampling,
        bpm: float = 120.0,
        channel: int = 0,
        seed: random.Random | None = None,
        styling: Styling | None = None,
    ) -> None:
        self.styling = styling or Styling()
        self._knobs = Knobs(sampling, self.styling)
        self.chord: chords.Chord | None = None
        """What was played last."""
        self.latency = Latency()
        self._engine = engine
        self._scheduler = scheduler
        self._clock = clock
        self.controls = controls
        self._ending_s = min(ENDING_S, beats_to_seconds(ENDING_BEATS, bpm))
        self._channel = channel
        self._seed = seed or random.Random()
        self._log = structlog.get_logger()
        self._capture = Capture()
        self._pace = Pace()
        self._ready = False
        self._wanted = False  # the hands hold a chord that nobody silenced
        self._phrase: Phrase | None = None
        self._timeline: Timeline | None = None  # of the last phrase; the next one may go on there
        self._quiet_since = self._now()
        self._epoch = 0
        self._ids = itertools.count()
        self._turned_at = Seconds(float("-inf"))
        self._turn_at: Seconds | None = None
        self._told_missing: dict[str, str] = {}

    # What comes in

    def on_message(self, message: mido.Message, at: Seconds) -> None:
        """A message reached the input port at `at`."""
        match self.controls.read(message):
            case Silenced(reason):
                if self._wanted or self._phrase or not self._scheduler.idle:
                    self.silence(reason)
                elif message.type == "control_change":
                    self._capture.forget(message.channel)
            case Turned(knob, value):
                self.turn(knob, value)
            case Picked(value):
                self.styling.pick(value)
                self._chosen()
            case Programmed(program):
                if self.styling.pick_program(program):
                    self._chosen()
            case None:
                self._heard(self._capture.feed(message, at))

    def on_engine_ready(self) -> None:
        self._ready = True
        if self._wanted:
            self._ask(self._capture.sounding, last_note_on=None)

    def on_engine_lost(self) -> None:
        """Nothing it made may sound on."""
        self._scheduler.panic()
        self._ready = False
        self._timeline = None
        self._phrase_over()

    def on_note(self, note: protocol.Note) -> None:
        """The engine made a note."""
        phrase = self._phrase
        if phrase is None or phrase.resting or note.epoch != self._epoch:
            return
        now = self._now()
        answer = phrase.unanswered
        due = phrase.timeline.time(note.onset)
        over = phrase.timeline.time(note.onset + min(note.duration, LONGEST_NOTE_TICKS))
        if answer:
            due = min(due, now)
            self._pace.answered(now - answer.asked_at)
            if phrase.cut_at is not None:
                phrase.cut_at = Seconds(max(phrase.cut_at, now + LEGATO_S))  # one note is no phrase yet
        elif now - due > LATE_S:
            self._catch_up(phrase, now - due)
            return
        begins = max(due, now)
        length = max(over - begins, SHORTEST_NOTE_S)
        if phrase.end is not None:
            length = min(length, phrase.end - begins)
        if length <= 0:
            return
        note_id = next(self._ids)
        if answer:
            answer.note_id = note_id
        planned = PlannedNote(
            note_id, due, note.pitch, note.velocity, length, self._channel, asap=answer is not None
        )
        self._plan(phrase, planned, note.number)

    def on_sent(self, note_id: int, due: float, sent_at: float) -> None:
        """The scheduler sent a note-on."""
        phrase = self._phrase
        if phrase is None:
            return
        phrase.notes += 1
        phrase.timeline.sent(note_id)
        if phrase.answer and phrase.answer.note_id == note_id:
            if phrase.answer.last_note_on is not None:
                waited_s = sent_at - phrase.answer.last_note_on
                self.latency.add(waited_s)
                self._log.info("chord_answered", chord_to_note_ms=round(1000 * waited_s, 1))
            phrase.answer = None
        elif sent_at - due > LATE_S:
            self._log.warning("note_late", late_ms=round(1000 * (sent_at - due), 1))

    def on_styles(self, records: tuple[protocol.Style, ...]) -> None:
        """The styles folder has changed: a style may have gone, or be back."""
        before = self._sound_of_styles()
        self.styling.records = records
        if self._sound_of_styles() != before:
            self._changed()
        missing = self.styling.missing
        if missing != self._told_missing:
            for name, reason in missing.items():
                self._log.warning("style_missing", style=name, reason=reason, instead=self.styling.mix)
        self._told_missing = missing

    @property
    def knobs(self) -> dict[str, float]:
        return self._knobs.values

    def turn(self, knob: str, value: float) -> None:
        """Sets a knob, in its own unit; what sounds next follows it."""
        if self._knobs.turn(knob, value):
            self._changed()

    def use(self, shares: Mapping[str, float]) -> None:
        """Chooses styles by name. Raises JazzdError for one that cannot sound."""
        self.styling.use(shares)
        self._chosen()

    def _chosen(self) -> None:
        self._knobs.style_chosen()
        self._changed()

    def _changed(self) -> None:
        """Something turns the music another way from the next note on that has not been sent."""
        if self._turn_at is None:
            self._turn_at = Seconds(max(self._now(), self._turned_at + KNOB_S))
            self.poll()

    def _sound_of_styles(self) -> object:
        return self.styling.mix, self.styling.settings

    def silence(self, reason: str) -> None:
        """Nothing sounds from here on, until the next chord is struck."""
        self._capture.reset()
        self._wanted = False
        dropped = self._scheduler.panic()
        if (phrase := self._phrase) and not phrase.resting:
            phrase.timeline.take_back(dropped)
            self._revise(phrase, playing=False)
        self._log.info("silenced", reason=reason)
        self._phrase_over()

    # What time brings

    def deadline(self) -> Seconds | None:
        """When to poll next."""
        times = [self._capture.deadline(), self._turn_at]
        if phrase := self._phrase:
            times += [phrase.end] if phrase.resting else [phrase.advance_at, phrase.cut_at, phrase.end]
        return min((time for time in times if time is not None), default=None)

    def poll(self) -> None:
        now = self._now()
        self._heard(self._capture.poll(now))
        if self._turn_at is not None and now >= self._turn_at:
            self._turn_now(now)
        if phrase := self._phrase:
            self._play_on(phrase, now)

    def _play_on(self, phrase: Phrase, now: Seconds) -> None:
        if phrase.end is not None and now >= phrase.end:
            if not phrase.resting:
                self._rest(phrase, phrase.end)
            self._phrase_over()
        elif phrase.resting:
            pass
        elif phrase.end is not None and phrase.cut_at is not None and now >= phrase.cut_at:
            if phrase.unanswered:  # every chord is answered, however short it was
                phrase.cut_at = Seconds(now + ADVANCE_S)
            else:
                self._rest(phrase, phrase.end)
        elif now >= phrase.advance_at:
            self._advance(phrase, now)

    def _turn_now(self, now: Seconds) -> None:
        self._turn_at, self._turned_at = None, now
        knobs = {knob: round(value, 2) for knob, value in self.knobs.items()}
        self._log.info("knob_turned", style=self.styling.style, mix=self.styling.mix, **knobs)
        if (phrase := self._phrase) and not phrase.resting:
            phrase.timeline.take_back(self._scheduler.cancel(after=now + KNOB_S))
            self._revise(phrase, ahead_s=KNOB_S)

    # What the hands do

    def _heard(self, events: list[ChordCaptured | Released]) -> None:
        for event in events:
            match event:
                case ChordCaptured():
                    self._chord_captured(event)
                case Released(at):
                    self._released(at)

    def _chord_captured(self, event: ChordCaptured) -> None:
        self.chord = chords.name(event.pitches)
        self._wanted = True
        self._pace.struck(event.struck[0].at)
        self._log.info(
            "chord_captured",
            chord=self.chord.symbol,
            keys=len(event.pitches),
            struck=len(event.struck),
            settle_ms=round(1000 * (self._now() - event.last_note_on), 1),
        )
        if self._ready:
            self._ask(event.struck, event.last_note_on)

    def _released(self, at: Seconds) -> None:
        self._wanted = False
        if (phrase := self._phrase) and phrase.end is None:
            phrase.end = Seconds(at + self._ending_s - ENDING_MARGIN_S)
            phrase.cut_at = Seconds(at + CUT_SHARE * self._ending_s)

    # What the engine is asked

    def _ask(self, struck: tuple[Struck, ...], last_note_on: Seconds | None) -> None:
        """Takes back what the chord overtakes, and asks the engine for an answer to it."""
        now = self._now()
        dropped = self._scheduler.cancel()
        self._scheduler.cancel_and_trim(now + LEGATO_S)
        if self._phrase:
            self._phrase.timeline.take_back(dropped)
        timeline = self._timeline
        forgotten = self._phrase is None and now - self._quiet_since > FORGET_AFTER_S
        if timeline is None or forgotten or now - timeline.origin > LONGEST_TIMELINE_S:
            timeline = Timeline(now if last_note_on is None else struck[0].at)
            self._engine.send(protocol.Begin(seed=self._seed.getrandbits(32)))
            struck = tuple({key.pitch: key for key in (*self._capture.sounding, *struck)}.values())
        if self._phrase is None:
            self._log.info("phrase_started", chord=self.chord.symbol if self.chord else "")
        began, notes = (self._phrase.began, self._phrase.notes) if self._phrase else (now, 0)
        self._timeline = timeline
        self._phrase = Phrase(timeline, began, now, Answer(now, last_note_on), notes)
        length = self._pace.chord_ticks
        keys = [protocol.Key(timeline.tick(key.at), length, key.pitch, key.velocity) for key in struck]
        self._revise(self._phrase, keys=tuple(sorted(keys)))

    def _revise(
        self,
        phrase: Phrase,
        playing: bool = True,
        keys: tuple[protocol.Key, ...] = (),
        ahead_s: float = 0.0,
    ) -> None:
        """Has the engine go on after the last note that stays, `ahead_s` from now or as soon as it can."""
        now = self._now()
        self._epoch += 1
        self._engine.send(
            protocol.Revise(
                epoch=self._epoch,
                now=phrase.timeline.tick(now),
                keep=phrase.timeline.last,
                floor=phrase.timeline.floor(now + max(ahead_s, self._pace.lead_s)),
                answer=playing and phrase.unanswered is not None,
                playing=playing,
                keys=keys,
                sampling=self._knobs.sampling(self.chord),
                mix=tuple(self.styling.mix.items()),
            )
        )
        if playing:
            self._advance(phrase, now)

    def _advance(self, phrase: Phrase, now: Seconds) -> None:
        phrase.advance_at = Seconds(now + ADVANCE_S)
        head = phrase.timeline.tick(now)
        self._engine.send(protocol.Advance(now=head, until=head + HORIZON_TICKS))

    def _catch_up(self, phrase: Phrase, behind_s: float) -> None:
        """The engine's notes come too late to be played: it goes on from where the play head will be."""
        self._log.warning("engine_behind", behind_ms=round(1000 * behind_s, 1))
        self._pace.fell_behind(behind_s)
        self._revise(phrase)

    # How a phrase ends

    def _rest(self, phrase: Phrase, end: Seconds) -> None:
        """Chooses the phrase's last note among those planned; the engine makes no more."""
        planned = self._scheduler.cancel()
        numbers = phrase.timeline.take_back(planned)
        for note in ending(planned, end, self.chord.tones if self.chord else ()):
            self._plan(phrase, note, numbers[note.note_id])
        self._scheduler.cancel_and_trim(end)
        phrase.resting = True
        self._revise(phrase, playing=False)

    def _plan(self, phrase: Phrase, note: PlannedNote, number: int) -> None:
        phrase.timeline.plan(note.note_id, number)
        self._scheduler.play(
            note.note_id, note.due, note.pitch, note.velocity, note.duration_s, note.channel, note.asap
        )

    def _phrase_over(self) -> None:
        if phrase := self._phrase:
            self._phrase = None
            self._quiet_since = self._now()
            seconds = round(self._quiet_since - phrase.began, 2)
            self._log.info("phrase_ended", notes=phrase.notes, seconds=seconds)

    def _now(self) -> Seconds:
        return Seconds(self._clock.now())
