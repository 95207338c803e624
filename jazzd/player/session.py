"""What the hands, the knobs and the beat ask of the soloist: follow, trade, or play a tune.

All of it runs on the loop's thread, on the stamps of messages and one clock; `deadline` says when it wants
to be polled.
"""

import math
import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import mido
import structlog

from jazzd.engine import protocol
from jazzd.errors import JazzdError
from jazzd.mix import shares
from jazzd.music import chords
from jazzd.music.grid import Feel, Grid
from jazzd.music.notes import Seconds
from jazzd.player.capture import Capture, ChordCaptured, Released
from jazzd.player.clock import Clock
from jazzd.player.controls import Controls, Kept, Moded, Picked, Programmed, Silenced, Stopped, Tapped, Turned
from jazzd.player.entry import entry, waits_for_beat
from jazzd.player.form import Chart
from jazzd.player.hands import Hands
from jazzd.player.knobs import Knobs
from jazzd.player.latency import Latency
from jazzd.player.manner import Manner
from jazzd.player.midi_clock import LOST_S
from jazzd.player.scenes import Scenes
from jazzd.player.scheduler import Scheduler
from jazzd.player.soloist import KNOB_S, EngineLink, Soloist
from jazzd.player.styling import Styling
from jazzd.player.tempo import Tempo
from jazzd.player.trade import Trade
from jazzd.player.tune import Tune


class Session:
    """`sampling` is where the knobs stand at the start, `channel` (0..15) where the solo goes."""

    def __init__(
        self,
        engine: EngineLink,
        scheduler: Scheduler,
        clock: Clock,
        controls: Controls,
        sampling: protocol.Sampling,
        channel: int = 0,
        seed: random.Random | None = None,
        styling: Styling | None = None,
        tempo: Tempo | None = None,
        feel: Feel | None = None,
        manner: Manner | None = None,
        hands: Hands | None = None,
        chart: Chart | None = None,
    ) -> None:
        self.styling = styling or Styling()
        self.tempo = tempo or Tempo()
        self.controls = controls
        self.manner = manner or Manner()
        self.hands = hands or Hands()
        self.chord: chords.Chord | None = None
        """What was played last."""
        self.scenes = Scenes(self.styling)
        self.keep: Callable[[], None] = lambda: None
        """Called when what was played last is to be kept."""
        self.counted: Callable[[Seconds, Grid], None] = lambda now, grid: None
        """Called with where the beats lie, again and again."""
        self.thru: Callable[[mido.Message], None] = lambda message: None
        """Called with what the human plays, to be passed on to the output."""
        self._knobs = Knobs(sampling, self.styling, feel)
        self._soloist = Soloist(engine, scheduler, clock, self.tempo, self._knobs, channel, seed)
        self._tune = Tune(chart, self._soloist, self.tempo) if chart else None
        self._scheduler = scheduler
        self._clock = clock
        self._log = structlog.get_logger()
        self._capture = Capture()
        self._trade = Trade(self._soloist, self.tempo, self.manner)
        self._ready = False
        self._wanted = False  # the hands hold a chord that nobody silenced
        self._turned_at = Seconds(float("-inf"))
        self._turn_at: Seconds | None = None
        self._leading = False  # the human plays a line of their own
        self._take_over_at: Seconds | None = None
        self._beaten = False  # by a clock that was there when it was looked at last

    # What comes in

    def on_message(self, message: mido.Message, at: Seconds) -> None:
        """A message reached the input port at `at`."""
        if self.tempo.feed(message, at) and message.type != "stop":
            self._transport(message, at)
            return
        match self.controls.read(message):
            case Stopped():
                self._stop()
            case Silenced(reason):
                if self._sounds:
                    self.silence(reason)
                else:
                    self._forget(message.channel)
            case Turned(knob, value):
                self.turn(knob, value)
            case Moded(mode):
                self.set_manner(mode=mode)
            case Picked(value):
                self.styling.pick(value)
                self._chosen()
            case Programmed(program):
                self._program(program)
            case Tapped():
                self.tempo.tapped(at)
            case Kept():
                self.keep()
            case None if not self.controls.is_tap(message):
                self.thru(message)
                self._played(message, at)

    def on_engine_ready(self) -> None:
        self._ready = True
        if self._wanted and not self._leading and self.manner.mode == "follow" and not self._tune:
            self._soloist.ask(self._capture.sounding, self._capture.sounding)
        elif self.manner.mode == "trade" and not self._leading and not self._tune:
            self._trade.find_engine(self._now())

    def on_engine_lost(self) -> None:
        """Nothing it made may sound on."""
        self._ready = False
        self._trade.lose_engine()
        self._soloist.lose_engine()

    def on_note(self, note: protocol.Note) -> None:
        """The engine made a note."""
        self._soloist.on_note(note)

    def on_sent(self, note_id: int, due: float, sent_at: float) -> None:
        """The scheduler sent a note-on."""
        self._soloist.on_sent(note_id, due, sent_at)

    def on_styles(self, records: tuple[protocol.Style, ...]) -> None:
        """The styles folder has changed: a style may have gone, or be back."""
        before = self._sound_of_styles()
        self.styling.records = records
        if self._sound_of_styles() != before:
            self._changed()
        self.scenes.tell_missing()

    # What it is told

    @property
    def latency(self) -> Latency:
        """From the last key of a chord to the first note of an answer that waits for no beat."""
        return self._soloist.latency

    @property
    def strain(self) -> float:
        """How hard it is for the engine to keep up: 0 (it does) to 1 (shorter horizon, thinner lines)."""
        return self._soloist.pace.strain

    def beat(self) -> dict[str, Any]:
        """Who tells the beat, quarter notes a minute, and where in the song we are (bar and beat from 1)."""
        now = self._now()
        source, grid = self.tempo.now(now)
        if grid is None:
            return {"source": source, "bpm": self.tempo.bpm, "bar": None, "beat": None}
        bar, beat = divmod(math.floor(grid.beat(now)), grid.bar)
        return {"source": source, "bpm": round(grid.bpm, 1), "bar": bar + 1, "beat": beat + 1}

    def place(self) -> dict[str, Any]:
        """Where in the chart we are (chorus, bar of how many, chord); nothing while none is played."""
        return self._tune.place(self._now()) if self._tune else {}

    @property
    def knobs(self) -> dict[str, float]:
        return self._knobs.values

    def check_knobs(self, changes: Mapping[str, float]) -> None:
        """Raises JazzdError for knobs that cannot be turned to this together."""
        self._knobs.check(changes)

    def turn(self, knob: str, value: float) -> None:
        """Sets a knob, in its own unit; what sounds next follows it."""
        if self._knobs.turn(knob, value):
            self._changed()

    def use(self, shares: Mapping[str, float]) -> None:
        """Chooses styles by name. Raises JazzdError for one that cannot sound."""
        self.styling.use(shares)
        self._chosen()

    def play_scene(self, name: str) -> None:
        """Behaves and sounds as the scene says. Raises JazzdError for no such scene, or a style it lacks."""
        found = self.scenes.named(name)
        knobs = {knob: getattr(found, knob, None) for knob in self._knobs.values}
        turned = {knob: float(value) for knob, value in knobs.items() if value is not None}
        self.check_knobs(turned)
        if found.style is not None:
            self.use(shares(found.style))
        for knob, value in turned.items():
            self.turn(knob, value)
        wanted = {"mode": found.mode, "start": found.start, "choruses": found.choruses}
        wanted["bars"] = found.bars_per_phrase
        self.set_manner(**{key: value for key, value in wanted.items() if value is not None})
        if found.beats_per_bar and not self._tune:  # a tune knows its own
            self.tempo.bar = found.beats_per_bar
        self.scenes.chosen = name
        self._log.info("scene_chosen", scene=name)

    def _program(self, number: int) -> None:
        """A Program Change: a scene's, else a style's."""
        if found := self.scenes.of_program(number):
            try:
                self.play_scene(found.name)
            except JazzdError as error:
                self._log.warning("scene_refused", scene=found.name, reason=str(error))
        elif self.styling.pick_program(number):
            self._chosen()

    def set_chart(self, chart: Chart | None) -> None:
        """Play this tune from now on, or none; a chord that is held goes on, or begins the tune."""
        now = self._now()
        self._soloist.finish(now)
        self._tune = Tune(chart, self._soloist, self.tempo) if chart else None
        if self._tune and self._wanted and not self._leading:
            self._tune.begin(now)
        self._resume(now)

    def set_manner(self, **changes: Any) -> None:
        """Behave otherwise from now on: fields of Manner. A change of mode ends what is being played."""
        before = self.manner
        self.manner = replace(before, **changes)
        if self.manner == before:
            return
        if (self.manner.mode, self.manner.bars) != (before.mode, before.bars):
            self._soloist.finish(self._now())
        self._trade.behave(self.manner)
        if self.manner.mode != before.mode:
            self._resume(self._now())
        self._log.info("manner_changed", mode=self.manner.mode, start=self.manner.start)

    def silence(self, reason: str) -> None:
        """Nothing sounds from here on, the human's keys that are passed on included; the next chord struck
        plays again."""
        try:
            self._capture.reset()
            self._quiet(reason)
        finally:  # whatever is wrong with the solo
            self._scheduler.panic()

    def _forget(self, channel: int) -> None:
        """Silenced in a silence: nothing is owed. But what plays by a DAW's beat goes on by it, for a DAW
        tells this of all channels whenever it stops or its loop goes round."""
        self._capture.forget(channel)
        self._scheduler.rest()
        self._trade.reset()
        if self._tune and self.tempo.clock.started_at is None:
            self._tune.stop()

    def _quiet(self, reason: str) -> None:
        """The solo is silent from here on, until the next chord is struck."""
        self.hands.reset()
        self._trade.reset()
        self._wanted, self._leading, self._take_over_at = False, False, None
        self._soloist.silence()
        if self._tune:
            self._tune.stop()
        self._log.info("silenced", reason=reason)

    # What time brings

    def deadline(self) -> Seconds | None:
        """When to poll next."""
        times = [self._capture.deadline(), self._soloist.deadline(), self._turn_at, self._take_over_at]
        if self.manner.mode == "trade" and self._ready and not self._tune:
            times.append(self._trade.deadline(self._now()))
        if self._tune and self._tune_may_play:
            times.append(self._tune.deadline(self.manner, self._now()))
        if self._beaten and self._soloist.playing:
            times.append(self.tempo.clock.lost_at)
        return min((time for time in times if time is not None), default=None)

    def poll(self) -> None:
        now = self._now()
        if grid := self.tempo.grid(now):
            self.counted(now, grid)
        self._watch_clock(now)  # first: what is struck after the clock has gone is not to go with it
        self._heard(self._capture.poll(now))
        if self._turn_at is not None and now >= self._turn_at:
            self._turn_now(now)
        self._take_over(now)
        if self._tune:
            if self._tune_may_play:
                self._tune.poll(self.manner, now)
        elif self.manner.mode == "trade" and self._ready:
            self._trade.poll(now)
        self._soloist.poll()

    def _turn_now(self, now: Seconds) -> None:
        self._turn_at, self._turned_at = None, now
        knobs = {knob: round(value, 2) for knob, value in self.knobs.items()}
        self._log.info("knob_turned", style=self.styling.style, mix=self.styling.mix, **knobs)
        self._soloist.turn()

    def _chosen(self) -> None:
        self._knobs.style_chosen()
        self._changed()

    def _changed(self) -> None:
        """Something turns the music another way from the next note on that has not been sent."""
        if self._turn_at is None:
            self._turn_at = Seconds(max(self._now(), self._turned_at + KNOB_S))
            self.poll()

    @property
    def _sounds(self) -> bool:
        return self._wanted or self._soloist.phrase is not None or not self._scheduler.idle

    def _sound_of_styles(self) -> object:
        return self.styling.mix, self.styling.settings

    # What the beat does

    def _transport(self, message: mido.Message, at: Seconds) -> None:
        if message.type == "clock":
            if not self._beaten and self.tempo.clock.grid(at) is not None:
                self._beaten = True
                self._soloist.find_beat()
                if self._tune:
                    self._tune.find_clock(self.manner, at)
                phrase = self._soloist.phrase
                if not self._leading and (phrase is None or phrase.end is not None):
                    self._take_over_at = at
                    self._take_over(at)
        elif message.type == "songpos":
            if self._tune and self.tempo.clock.started_at == at:  # a jump in play, as a DAW's loop makes it
                self._tune.start(self.manner, at)
        elif message.type in ("start", "continue"):
            self._trade.reset()
            if self._tune and message.type == "start":
                self._tune.start(self.manner, at)
            elif self._tune:
                self._tune.go_on(self.manner, at)
            elif not self._wanted and not self._leading and self._capture.steady:  # held through Stop
                self._wanted, self._take_over_at = True, at
                if waits_for_beat(self.manner, self.tempo, at):
                    self._take_over_at = Seconds(at + LOST_S)

    def _stop(self) -> None:
        """The song stops: silence, until it goes on or a chord is struck."""
        self._beaten = False  # it said so: it is not lost
        if self._sounds:
            self._capture.drop_struck()
            self._quiet("midi_stop")
        else:
            self._trade.reset()
            if self._tune:
                self._tune.stop()

    def _watch_clock(self, now: Seconds) -> None:
        """A clock that has stopped without a word ends the phrase."""
        if self._beaten and self.tempo.clock.grid(now) is None:
            self._beaten = False
            self._log.warning("clock_lost")
            if self._soloist.playing:
                self._soloist.finish(now)
            if self._tune:
                self._tune.lose_clock(now)

    def _entry(self, now: Seconds, entering: bool) -> Seconds | None:
        return entry(self.manner, self.tempo, now, self._soloist.pace.lead_s, entering)

    # What the hands do

    def _played(self, message: mido.Message, at: Seconds) -> None:
        self._watch_clock(at)
        struck = message.type == "note_on" and message.velocity > 0
        if self.hands.lead(message, at):
            if struck:
                self._lay_out(at)
            if self._leading:
                self._take_over_at = self.hands.quiet_at(self.manner.yield_beats * self.tempo.beat_s(at))
            return
        if struck and self.manner.mode == "trade" and self._soloist.phrase:
            self._give_way(at)
        self._heard(self._capture.feed(message, at))

    def _heard(self, events: list[ChordCaptured | Released]) -> None:
        for event in events:
            match event:
                case ChordCaptured():
                    self._chord_captured(event)
                case Released(at):
                    self._released(at)

    def _chord_captured(self, event: ChordCaptured) -> None:
        soloist = self._soloist
        self.chord = soloist.chord = chords.name(event.pitches)
        began = event.struck[0].at
        soloist.effort = sum(key.velocity for key in event.struck) / len(event.struck)
        soloist.pace.struck(began)
        self.tempo.struck(began)
        self._wanted = True
        self._log.info(
            "chord_captured",
            chord=self.chord.symbol,
            keys=len(event.pitches),
            struck=len(event.struck),
            settle_ms=round(1000 * (self._now() - event.last_note_on), 1),
        )
        if self.manner.mode == "trade":
            self._trade.heard(event)
        if self._ready:
            self._respond(event)

    def _respond(self, event: ChordCaptured) -> None:
        soloist = self._soloist
        if self._tune:
            self._tune.struck(event)
        elif self.manner.mode == "trade" or self._leading:
            soloist.listen(event.struck, self._capture.sounding)
            if self.manner.mode == "trade":
                self._trade.poll(self._now())
        elif not soloist.entered and waits_for_beat(self.manner, self.tempo, self._now()):
            soloist.listen(event.struck, self._capture.sounding)
            self._take_over_at = Seconds(self._now() + LOST_S)  # there may be a Start and no clock
        else:
            at = self._entry(self._now(), entering=not soloist.entered)
            soloist.ask(event.struck, self._capture.sounding, event.last_note_on, at, led=self.hands.take())

    def _released(self, at: Seconds) -> None:
        self._wanted = False
        if self.manner.mode == "trade":
            self._trade.released(at)
        elif not self._tune:
            self._soloist.finish(at)

    # Trading

    def _give_way(self, at: Seconds) -> None:
        """The human plays into the answer: it is theirs."""
        self._soloist.break_off()
        self._trade.reset()
        if self._tune:
            self._tune.leave(self.manner, at)
        self._log.info("gave_way")

    # The human's own line

    @property
    def _tune_may_play(self) -> bool:
        """Traded, it has turns of its own; else it waits until the human's line is over."""
        return self._ready and (self.manner.mode == "trade" or not self._leading)

    def _lay_out(self, at: Seconds) -> None:
        self._leading = True
        if self._tune:
            self._tune.played(at)
        if self._soloist.phrase:
            self._give_way(at)

    def _take_over(self, now: Seconds) -> None:
        """Nothing is waited for any more, the human's line is over: the chord that is held is the solo's."""
        if self._take_over_at is None or now < self._take_over_at:
            return
        self._leading, self._take_over_at = False, None
        self._resume(now)

    def _resume(self, now: Seconds) -> None:
        """A chord that is held without a solo gets one."""
        follows = self.manner.mode == "follow" and not self._tune
        if follows and self._wanted and self._ready and not self._leading:
            at = self._entry(now, entering=True)
            self._soloist.ask((), self._capture.sounding, at=at, led=self.hands.take())

    def _now(self) -> Seconds:
        return Seconds(self._clock.now())
