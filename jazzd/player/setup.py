"""From the settings to a session, and from changed settings to a changed session."""

from collections.abc import Callable

from jazzd.engine.protocol import Sampling
from jazzd.music import chart
from jazzd.music.grid import Feel, Grid
from jazzd.player.clock import Clock
from jazzd.player.controls import Controls
from jazzd.player.form import Chart
from jazzd.player.hands import Hands
from jazzd.player.manner import Manner
from jazzd.player.scheduler import Scheduler
from jazzd.player.session import Session
from jazzd.player.soloist import EngineLink
from jazzd.player.styling import Styling
from jazzd.player.tempo import Tempo
from jazzd.settings import RESERVED_CONTROLS, Settings

KNOBS = {
    **{key: ("solo", key) for key in ("temperature", "top_p", "low", "high")},
    **{key: ("feel", key) for key in ("quantize", "swing", "layback_ms")},
}
"""Where the settings say how a knob stands at the start."""
AT_ONCE = ("solo", "tempo", "feel", "control", "input", "scene")
"""Sections whose changes need no new start, but for LATER; BESIDES are keys of other sections."""
LATER = {("solo", "channel"), ("solo", "program")}
BESIDES = {("midi", "lead_ms")}
TUNE = {("solo", "chart"), ("tempo", "beats_per_bar")}
"""What makes another tune of it."""


def session(
    settings: Settings,
    engine: EngineLink,
    scheduler: Scheduler,
    clock: Clock,
    link: Callable[[], Grid | None] = lambda: None,
) -> Session:
    """A session that behaves as the settings say. Raises ConfigError for a chart that is none."""
    solo, tempo, hands = settings.solo, settings.tempo, settings.input
    tune = _chart(settings)
    made = Session(
        engine,
        scheduler,
        clock,
        Controls(settings.control.model_dump(), RESERVED_CONTROLS, tempo.tap_key),
        Sampling(temperature=solo.temperature, top_p=solo.top_p, low=solo.low, high=solo.high),
        solo.channel - 1,
        styling=Styling(settings.styles.default),
        tempo=Tempo(tempo.source, tempo.bpm, link, settings.midi.lead_ms / 1000, _bar(settings, tune)),
        feel=Feel(settings.feel.quantize, settings.feel.swing, settings.feel.layback_ms),
        manner=manner(settings),
        hands=Hands(hands.split, hands.chord_channel),
        chart=tune,
    )
    made.scenes.known = settings.scene
    return made


def manner(settings: Settings) -> Manner:
    """How the solo is to behave."""
    solo = settings.solo
    return Manner(
        solo.mode,
        solo.start,
        solo.chords_per_phrase,
        solo.bars_per_phrase,
        solo.choruses,
        settings.tempo.count_in,
        settings.input.yield_beats,
    )


def change(made: Session, before: Settings, after: Settings) -> list[str]:
    """Has the session behave as `after` says where that is not what `before` said.

    What was turned or chosen by hand in between stays, unless its own key has changed. Returns the keys that
    have changed. Raises ConfigError, with nothing changed.
    """
    learnt = before.control.model_copy(update=made.controls.numbers)  # and written into the file
    before = before.model_copy(update={"control": learnt})
    now = [key for key in _changed(before, after) if _at_once(key)]
    another = not TUNE.isdisjoint(now)
    tune = _chart(after) if another else None  # before anything is changed
    for knob, key in KNOBS.items():
        if key in now:
            made.turn(knob, getattr(getattr(after, key[0]), key[1]))
    old, new = vars(manner(before)), vars(manner(after))
    made.set_manner(**{key: value for key, value in new.items() if old[key] != value})
    made.tempo.source, made.tempo.bpm = after.tempo.source, after.tempo.bpm
    made.tempo.lead_s = after.midi.lead_ms / 1000
    made.hands.split, made.hands.chord_channel = after.input.split, after.input.chord_channel
    made.controls.tap_key = after.tempo.tap_key
    if any(section == "control" for section, _ in now):
        made.controls.numbers = after.control.model_dump()
    if another:
        made.tempo.bar = _bar(after, tune)
        made.set_chart(tune)
    made.scenes.known = after.scene
    made.scenes.tell_missing()
    return [f"{section}.{key}" if key else section for section, key in now]


def pending(started: Settings, after: Settings) -> list[str]:
    """The keys whose change since the start needs a new one."""
    changed = _changed(started, after)
    return [f"{section}.{key}" for section, key in changed if not _at_once((section, key))]


def _at_once(key: tuple[str, str]) -> bool:
    return (key[0] in AT_ONCE and key not in LATER) or key in BESIDES


def _changed(before: Settings, after: Settings) -> list[tuple[str, str]]:
    """Section and key of every difference; the scenes count as one key without a name."""
    keys = [
        (section, key)
        for section in type(after).model_fields
        if section != "scene"
        for key in type(getattr(after, section)).model_fields
    ]
    changed = [(s, k) for s, k in keys if getattr(getattr(before, s), k) != getattr(getattr(after, s), k)]
    return [*changed, ("scene", "")] if before.scene != after.scene else changed


def _chart(settings: Settings) -> Chart | None:
    if not settings.solo.chart:
        return None
    sheet = chart.read(settings.solo.chart)
    return Chart(sheet.progression, sheet.bar or settings.tempo.beats_per_bar)


def _bar(settings: Settings, tune: Chart | None) -> int:
    """Beats of a bar: a tune knows best."""
    return tune.bar if tune else settings.tempo.beats_per_bar
