"""The solo: asks the engine for notes, gives each its place in time, and ends what it began.

The engine makes notes ahead of the play head. Whatever changes the music takes back all that has not been
sent and tells the engine how to go on; the first note of an answer sounds as soon as it is here, or on the
beat it was asked for.
"""

import itertools
import math
import random
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Protocol

import structlog

from jazzd.engine import protocol
from jazzd.music.chords import Chord
from jazzd.music.grid import Grid
from jazzd.music.notes import Seconds
from jazzd.music.tempo import beats_to_seconds
from jazzd.player.brief import LONGEST_NOTE_TICKS, Brief
from jazzd.player.capture import Struck
from jazzd.player.clock import Clock
from jazzd.player.ending import ending
from jazzd.player.form import Form
from jazzd.player.hands import Led
from jazzd.player.knobs import Knobs
from jazzd.player.latency import Latency
from jazzd.player.pace import Pace
from jazzd.player.phrase import Answer, Phrase
from jazzd.player.placing import AHEAD_S, Placing
from jazzd.player.scheduler import LATE_S, PlannedNote, Scheduler
from jazzd.player.tempo import Tempo
from jazzd.player.timeline import Made, Timeline

ADVANCE_S = 0.05
"""How often the engine is told where the play head is."""
LOOK_S, SPARE_S, SAME_TIME_S = 0.25, 0.05, 0.003
"""So often, while there is this much more time than an answer takes, it is asked for anew where the clock,
which may hardly have begun, has come to put its beat elsewhere by more than so little."""
KNOB_S = 0.1
"""What is due sooner stays when a knob turns or the style changes."""
LEGATO_S = 0.1
"""How long a note of the old chord may sound into the new one."""
BREAK_S = 0.02
"""How long what sounds may sound on when the human takes over."""
FORGET_AFTER_S, LONGEST_TIMELINE_S = 8.0, 600.0
"""A chord after this much silence, or on a timeline this old, begins a new timeline."""
ENDING_S, ENDING_BEATS, ENDING_MARGIN_S = 1.0, 2.0, 0.06
"""A phrase is over this long after the hands are up, whichever is sooner; the margin is for the wires."""
CUT_SHARE = 0.35
"""The share of that time in which a next chord still finds the phrase as it was."""
TOLD_S = 0.03
"""The engine is told of beats that lie elsewhere by this much, now or a second ahead: less is jitter."""
LAST_NOTE_S = 0.4
"""How long before the end of a form the last note is chosen."""
SHORTEST_NOTE_S = 0.05
USUAL_VELOCITY = 80


class EngineLink(Protocol):
    def send(self, message: protocol.Message) -> None:
        """Queues the message; what is sent while no engine is ready is lost."""
        ...


class Soloist:
    """`channel` (0..15) is where the solo goes."""

    def __init__(
        self,
        engine: EngineLink,
        scheduler: Scheduler,
        clock: Clock,
        tempo: Tempo,
        knobs: Knobs,
        channel: int = 0,
        seed: random.Random | None = None,
    ) -> None:
        self.chord: Chord | None = None
        """What it plays over, where there is no form."""
        self.effort = float(USUAL_VELOCITY)
        """How hard the chords are struck: their mean velocity."""
        self.phrase: Phrase | None = None
        self.latency, self.pace = Latency(), Pace()
        self._engine, self._scheduler, self._clock = engine, scheduler, clock
        self._tempo = tempo
        self._brief, self._placing = Brief(knobs, self.pace), Placing(tempo, knobs)
        self._channel = channel
        self._seed = seed or random.Random()
        self._log = structlog.get_logger()
        self._timeline: Timeline | None = None  # of the last phrase; the next one may go on there
        self._quiet_since = self._now()
        self._epoch = 0
        self._told: Grid | None = None
        """The beats that the engine knows."""
        self._ids = itertools.count()

    @property
    def playing(self) -> bool:
        """Whether more notes are to come."""
        return self.phrase is not None and not self.phrase.resting

    @property
    def entered(self) -> bool:
        """Whether something of the phrase has been heard."""
        return self.phrase is not None and self.phrase.notes > 0

    # What it is told

    def ask(
        self,
        struck: Sequence[Struck],
        sounding: Sequence[Struck] = (),
        last_note_on: Seconds | None = None,
        at: Seconds | None = None,
        form: Form | None = None,
        led: Iterable[Led] = (),
    ) -> None:
        """Answer what was struck: what has not been sent of the music before is taken back.

        `sounding` is what a new timeline begins with. The answer begins `at`, or as soon as it is here, and
        plays over the `form`, if there is one, to its end. `led` is what the human played in between.
        """
        now = self._now()
        dropped = self._scheduler.cancel()
        self._scheduler.cancel_and_trim(max(now + LEGATO_S, at or 0.0))
        if self.phrase:
            self.phrase.timeline.take_back(dropped)
        timeline, fresh = self._continued(struck[0].at if last_note_on and struck else now)
        if fresh:
            struck = tuple({key.pitch: key for key in (*sounding, *struck)}.values())
        if self.phrase is None:
            chord = form.chord(at or now) if form else self.chord
            self._log.info("phrase_started", chord=chord.symbol if chord else "")
        began, notes = (self.phrase.began, self.phrase.notes) if self.phrase else (now, 0)
        self._placing.anew()
        answer = Answer(now, last_note_on, at, floor=timeline.floor)
        self.phrase = Phrase(timeline, began, now, answer, notes, form)
        if at is not None and (grid := self._tempo.grid(now)):
            answer.beat, answer.song = round(grid.beat(at)), grid.song
            self._look_again(self.phrase, answer, now)
        if form and form.end is not None:
            self.phrase.end, self.phrase.cut_at = form.end, Seconds(form.end - LAST_NOTE_S)
        self._revise(self.phrase, keys=self._brief.keys(timeline, struck, led), at=at)

    def listen(self, struck: Sequence[Struck], sounding: Sequence[Struck] = ()) -> None:
        """Read what was struck, and play nothing."""
        if self.playing:
            self.break_off()
        timeline, fresh = self._continued(struck[0].at)
        if fresh:
            struck = tuple({key.pitch: key for key in (*sounding, *struck)}.values())
        self._tell(timeline, 0.0, self.chord, playing=False, keys=self._brief.keys(timeline, struck))
        self._quiet_since = self._now()

    def hear(self, struck: Sequence[Struck]) -> None:
        """Read what was struck and play on."""
        if (phrase := self.phrase) and not phrase.resting:
            self._revise(phrase, keys=self._brief.keys(phrase.timeline, struck))

    def foresee(self, form: Form) -> None:
        """The chords to come are these from now on; what is planned stays."""
        if (phrase := self.phrase) and not phrase.resting:
            phrase.form = form
            if form.end is not None:
                phrase.end, phrase.cut_at = form.end, Seconds(form.end - LAST_NOTE_S)
            self._revise(phrase)

    def leap(self, form: Form) -> None:
        """The song is elsewhere, over these chords: heard from KNOB_S on."""
        if (phrase := self.phrase) and not phrase.resting:
            phrase.end = phrase.cut_at = None
            self.foresee(form)
            self.turn()

    def turn(self) -> None:
        """The knobs or the style have changed: heard from KNOB_S on."""
        if (phrase := self.phrase) and not phrase.resting:
            self._take_back(phrase, self._scheduler.cancel(after=self._now() + KNOB_S))
            self._revise(phrase, ahead_s=KNOB_S)

    def find_beat(self) -> None:
        """From now on somebody tells the beat: what is planned moves onto it, and what comes knows it."""
        if (phrase := self.phrase) and not phrase.resting:
            self._place_anew(phrase, self._now())
            self._revise(phrase)

    def finish(self, at: Seconds) -> None:
        """The hands went up then, or the beat is gone: come to an end."""
        if (phrase := self.phrase) is None:
            return
        ending_s = min(ENDING_S, beats_to_seconds(ENDING_BEATS, self._bpm(at)))
        end = Seconds(at + ending_s - ENDING_MARGIN_S)
        if phrase.end is None or end < phrase.end:  # a form has an end of its own, which may be far
            phrase.end, phrase.cut_at = end, Seconds(at + CUT_SHARE * ending_s)

    def break_off(self) -> None:
        """The human takes over: nothing more, and nothing that sounds on."""
        if phrase := self.phrase:
            phrase.timeline.take_back(self._scheduler.cancel_and_trim(self._now() + BREAK_S))
            if not phrase.resting:
                self._revise(phrase, playing=False)
            self._over()

    def silence(self) -> None:
        """Nothing sounds from here on."""
        dropped = self._scheduler.cancel_and_trim(self._now())
        if (phrase := self.phrase) and not phrase.resting:
            phrase.timeline.take_back(dropped)
            self._revise(phrase, playing=False)
        self._over()

    def lose_engine(self) -> None:
        """Nothing that the engine made may sound on."""
        self._scheduler.cancel_and_trim(self._now())
        self._timeline = None
        self._over()

    # What comes of it

    def on_note(self, note: protocol.Note) -> None:
        """The engine made a note."""
        phrase = self.phrase
        if phrase is None or phrase.resting or note.epoch != self._epoch:
            return
        now = self._now()
        answer = phrase.unanswered
        due = phrase.timeline.time(note.onset)
        over = phrase.timeline.time(note.onset + min(note.duration, LONGEST_NOTE_TICKS))
        if answer:
            if answer.at is None:
                due = min(due, now)
                self.pace.answered(now - answer.asked_at)
            else:
                due = self._placing.on_beat(note.onset, answer.at, now)
            if phrase.cut_at is not None and phrase.form is None:
                phrase.cut_at = Seconds(max(phrase.cut_at, now + LEGATO_S))  # one note is no phrase yet
        elif now - due > LATE_S:
            self._catch_up(phrase, now - due)
            return
        else:
            self.pace.kept_up()
            placed = self._placing.due(note.onset, due, now)
            if placed is None:
                return
            due = placed
        begins = max(due, now)
        length = max(over - begins, SHORTEST_NOTE_S)
        if phrase.end is not None:
            length = min(length, phrase.end - begins)
        if length <= 0:
            return
        note_id = next(self._ids)
        if answer:
            answer.note_id = note_id
        asap = answer is not None and answer.at is None
        velocity = self._velocity(note.velocity)
        planned = PlannedNote(note_id, due, note.pitch, velocity, length, self._channel, asap)
        self._plan(phrase, planned, Made(note.number, note.onset))

    def on_sent(self, note_id: int, due: float, sent_at: float) -> None:
        """The scheduler sent a note-on."""
        phrase = self.phrase
        if phrase is None:
            return
        phrase.notes += 1
        phrase.timeline.sent(note_id)
        if phrase.answer and phrase.answer.note_id == note_id:
            if phrase.answer.last_note_on is not None:
                waited_s = sent_at - phrase.answer.last_note_on
                if phrase.answer.at is None:  # else it waited for its beat
                    self.latency.add(waited_s)
                self._log.info("chord_answered", chord_to_note_ms=round(1000 * waited_s, 1))
            phrase.answer = None
        elif sent_at - due > LATE_S:
            self._log.warning("note_late", late_ms=round(1000 * (sent_at - due), 1))

    def deadline(self) -> Seconds | None:
        """When to poll next."""
        if (phrase := self.phrase) is None:
            return None
        times = [phrase.end]
        if not phrase.resting:
            times += [phrase.advance_at, phrase.cut_at, phrase.again_at]
        return min((time for time in times if time is not None), default=None)

    def poll(self) -> None:
        """What has come with time alone."""
        if (phrase := self.phrase) is None:
            return
        now = self._now()
        if phrase.end is not None and now >= phrase.end:
            if not phrase.resting:
                self._rest(phrase, phrase.end)
            self._over()
        elif phrase.resting:
            pass
        elif phrase.end is not None and phrase.cut_at is not None and now >= phrase.cut_at:
            if phrase.unanswered:  # every chord is answered, however short it was
                phrase.cut_at = Seconds(now + ADVANCE_S)
            else:
                self._rest(phrase, phrase.end)
        elif phrase.again_at is not None and now >= phrase.again_at:
            self._ask_again(phrase, now)
        elif now >= phrase.advance_at:
            self._follow_beat(phrase, now)
            if now >= phrase.advance_at:
                self._advance(phrase, now)

    # What the engine is asked

    def _continued(self, origin: Seconds) -> tuple[Timeline, bool]:
        """The timeline to go on with, and whether it is a new one, which begins at `origin`."""
        now, timeline = self._now(), self._timeline
        forgotten = self.phrase is None and now - self._quiet_since > FORGET_AFTER_S
        if timeline is not None and not forgotten and now - timeline.origin <= LONGEST_TIMELINE_S:
            return timeline, False
        self._timeline = Timeline(origin)
        self._engine.send(protocol.Begin(seed=self._seed.getrandbits(32)))
        return self._timeline, True

    def _revise(
        self,
        phrase: Phrase,
        playing: bool = True,
        keys: tuple[protocol.Key, ...] = (),
        ahead_s: float = 0.0,
        at: Seconds | None = None,
    ) -> None:
        """Has the engine go on after the last note that stays: `at` this time, or `ahead_s` from now, or as
        soon as it can."""
        now = self._now()
        begin = at if at is not None else now + max(ahead_s, self.pace.lead_s)
        unanswered = phrase.unanswered is not None
        self._tell(phrase.timeline, begin, phrase.form or self.chord, playing, unanswered, keys)
        if playing:
            self._advance(phrase, now)

    def _tell(
        self,
        timeline: Timeline,
        begin: float,
        over: Chord | Form | None,
        playing: bool = True,
        answer: bool = False,
        keys: tuple[protocol.Key, ...] = (),
    ) -> None:
        now = self._now()
        self._epoch += 1
        grid = self._told = self._tempo.grid(now)
        revise = self._brief.revise(self._epoch, timeline, now, begin, grid, over, playing, answer, keys)
        self._engine.send(revise)

    def _ask_again(self, phrase: Phrase, now: Seconds) -> None:
        """By now the clock may put the beat of the answer elsewhere."""
        phrase.again_at = None
        answer, grid = phrase.answer, self._tempo.grid(now)
        if answer is None or answer.at is None or answer.beat is None:
            return
        if grid and answer.song == grid.song:
            at = grid.time(answer.beat)
            if at - now < self.pace.lead_s:  # too late to be asked for anew: what there is moves
                answer.at = max(at, now)
                self._place_anew(phrase, now)
            elif abs(at - answer.at) > SAME_TIME_S:
                self._take_back(phrase, self._scheduler.cancel())
                phrase.timeline.floor = answer.floor
                answer.at, answer.note_id = at, None
                self._revise(phrase, at=at)
        self._look_again(phrase, answer, now)

    def _look_again(self, phrase: Phrase, answer: Answer, now: Seconds) -> None:
        if answer.at is not None and (half_s := (answer.at - now) / 2) > self.pace.lead_s + SPARE_S:
            phrase.again_at = Seconds(now + min(half_s, LOOK_S))

    def _advance(self, phrase: Phrase, now: Seconds) -> None:
        phrase.advance_at = Seconds(now + ADVANCE_S)
        self._engine.send(self._brief.advance(phrase.timeline, now))

    def _catch_up(self, phrase: Phrase, behind_s: float) -> None:
        """The engine's notes come too late to be played: it goes on from where the play head will be."""
        self._log.warning("engine_behind", behind_ms=round(1000 * behind_s, 1))
        self.pace.fell_behind(behind_s)
        self._revise(phrase)

    def _velocity(self, velocity: int) -> int:
        """As hard as the chords are struck, half as much again or less."""
        return min(max(round(velocity * math.sqrt(self.effort / USUAL_VELOCITY)), 1), 127)

    def _follow_beat(self, phrase: Phrase, now: Seconds) -> None:
        """The beats may lie elsewhere than when notes were placed and the engine was told of them."""
        if self._placing.moved(now):
            self._place_anew(phrase, now)
        grid, told = self._tempo.grid(now), self._told
        if grid is None:
            return
        if phrase.form:
            self._carry(phrase, phrase.form, phrase.form.carried(grid, now))
        if told is None or told.bar != grid.bar or _elsewhere(told, grid, now):
            self._revise(phrase)

    def _carry(self, phrase: Phrase, form: Form, moved: Form) -> None:
        phrase.form = moved
        if moved.end is not None and phrase.end == form.end:  # else it is to be over before
            phrase.end, phrase.cut_at = moved.end, Seconds(moved.end - LAST_NOTE_S)

    def _place_anew(self, phrase: Phrase, now: Seconds) -> None:
        """The beats lie elsewhere than when the notes were planned."""
        planned, answer = self._scheduler.cancel(), phrase.answer
        moved = self._placing.follow(now)
        if moved is None:
            self._placing.take_back(planned)
        for note, made in zip(planned, phrase.timeline.take_back(planned).values(), strict=True):
            due = Seconds(note.due)
            if note.asap:
                pass
            elif moved:
                due = moved(note.due)
            elif answer and answer.at is not None and note.note_id == answer.note_id:
                due = self._placing.on_beat(made.onset, answer.at, now)
            else:
                begins = max(phrase.timeline.time(made.onset), now)
                placed = self._placing.due(made.onset, begins, now)
                if placed is None:
                    continue
                due = max(placed, now)
            self._plan(phrase, replace(note, due=due), made)

    def _take_back(self, phrase: Phrase, dropped: Sequence[PlannedNote]) -> dict[int, Made]:
        """What the engine said of these, by their ids, in their order."""
        self._placing.take_back(dropped)
        return phrase.timeline.take_back(dropped)

    # How a phrase ends

    def _rest(self, phrase: Phrase, end: Seconds) -> None:
        """Chooses the phrase's last note among those planned; the engine makes no more."""
        planned = self._scheduler.cancel()
        made = self._take_back(phrase, planned)
        chord = phrase.form.chord(end - 0.01) if phrase.form else self.chord
        for note in ending(planned, end, chord.tones if chord else ()):
            self._plan(phrase, note, made[note.note_id])
        self._scheduler.cancel_and_trim(end)
        phrase.resting = True
        self._revise(phrase, playing=False)

    def _plan(self, phrase: Phrase, note: PlannedNote, made: Made) -> None:
        phrase.timeline.plan(note.note_id, made)
        self._scheduler.play(
            note.note_id, note.due, note.pitch, note.velocity, note.duration_s, note.channel, note.asap
        )

    def _over(self) -> None:
        if phrase := self.phrase:
            self.phrase = None
            self._quiet_since = self._now()
            seconds = round(self._quiet_since - phrase.began, 2)
            self._log.info("phrase_ended", notes=phrase.notes, seconds=seconds)

    def _bpm(self, at: Seconds) -> float:
        grid = self._tempo.grid(at)
        return grid.bpm if grid else self._tempo.bpm

    def _now(self) -> Seconds:
        return Seconds(self._clock.now())


def _elsewhere(told: Grid, grid: Grid, now: Seconds) -> bool:
    """Whether beats lie elsewhere than the engine was told."""
    apart = max(told.apart(grid, at, grid.bar) for at in (now, now + AHEAD_S))
    return apart * grid.beat_s > TOLD_S
