"""The main job without MIDI gear: a ii-V-I is played into the real daemon, and both sides are recorded."""

import bisect
import json
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import mido
from rich.console import Console

from jazzd import render
from jazzd.errors import JazzdError
from jazzd.music.chords import Chord, parse
from jazzd.music.harmony import scale
from jazzd.music.notes import Note5D
from jazzd.music.voicing import plain
from jazzd.player.clock import MonotonicClock
from jazzd.player.latency import Latency
from jazzd.rehearsal import Daemon, Heard, Line, Struck, TcpLine, answer_times, daemon
from jazzd.settings import Settings

TEMPO_BPM = 120.0
BEATS_PER_BAR = 4
CHANGES = (
    *("Dm7", "G7", "Cmaj7", "Cmaj7"),
    *("Cm7", "F7", "Bbmaj7", "Bbmaj7"),
    *("Bbm7", "Eb7", "Abmaj7", "Abmaj7"),
    *("Dm7b5", "G7b9", "Cmaj7", "Cmaj7"),
)
"""ii-V-I a whole tone lower each time, and home through the minor one. One chord a bar."""

RHYTHMS = (  # (beat, length in beats) of each time the chord is struck; swung eighths fall on the last third
    ((0.0, 3.8),),
    ((0.0, 1.55), (1.67, 2.2)),
    ((0.0, 3.8),),
    ((0.0, 2.55), (2.67, 1.2)),
)
LONGEST_TAIL_S = 5.0
"""The last phrase has ended by then: a second after the keys, and what the notes still ring."""
QUIET_S = 0.5


@dataclass(frozen=True)
class Take:
    """What was played and what came back, in seconds since the start."""

    chords: list[Note5D]
    solo: list[Note5D]
    symbols: list[tuple[float, str]]
    answers: list[float | None]
    """Seconds from each chord to its first solo note, None where there was none."""

    @property
    def in_scale(self) -> float:
        """Share (0..1) of the solo's notes that lie in the usual scale of the chord they sound over."""
        times = [at for at, _ in self.symbols]
        over = [self.symbols[max(0, bisect.bisect(times, note.onset_time) - 1)][1] for note in self.solo]
        inside = [
            note.pitch_class in scale(_chord(symbol)) for note, symbol in zip(self.solo, over, strict=True)
        ]
        return sum(inside) / max(1, len(inside))

    @property
    def chord_to_note_ms(self) -> dict[str, float | None]:
        latency = Latency()
        for answer in self.answers:
            if answer is not None:
                latency.add(answer)
        return latency.summary()

    @property
    def seconds(self) -> float:
        return max((note.end for note in (*self.chords, *self.solo)), default=0.0)


def run(
    out: Path, seconds: float, options: Sequence[str], shares: Mapping[str, float], as_json: bool
) -> None:
    """Records `seconds` of chords and their solo, in these styles, into `out`; `options` go to `jazzd run`.

    Raises JazzdError when the daemon cannot play, or played something that it promises not to.
    """
    out.mkdir(parents=True, exist_ok=True)
    midi_path, wav_path = out / "demo.mid", out / "demo.wav"
    comping, symbols = compose(seconds)
    piece = _as_file(comping, symbols)
    variables = {"JAZZD_MIDI__BACKEND": "tcp", "JAZZD_MIDI__TCP_LISTEN": "127.0.0.1:0"}
    notices = Console(stderr=True)
    with daemon(options, variables) as playing:
        with notices.status("The engine is getting ready (the first time takes longest)"):
            status = playing.wait_until_ready()
        playing.use(shares)
        with notices.status(f"Playing chords for {seconds:.0f} s"), TcpLine(status["midi"]["tcp"]) as line:
            take = perform(piece, symbols, line, playing)
    _check(take)
    render.write_midi(midi_path, take.solo, take.chords, symbols, TEMPO_BPM)
    with notices.status("Rendering the sound"):
        made_by = render.write_wav(wav_path, midi_path)
    result = {
        "chord_to_note_ms": take.chord_to_note_ms,
        "solo_notes": len(take.solo),
        "in_scale": round(take.in_scale, 3),
        "seconds": round(take.seconds, 2),
        "midi": str(midi_path),
        "wav": str(wav_path),
    }
    if as_json:
        print(json.dumps(result))
    else:
        _show(take, result, made_by)


def compose(seconds: float) -> tuple[list[Note5D], list[tuple[float, str]]]:
    """Comping over the changes for about `seconds` (whole bars, at least one), and when which chord begins.

    Hands are no machines: the keys of a chord go down within some milliseconds, a little off the beat.
    """
    hand, bar_s = random.Random(1959), BEATS_PER_BAR * 60 / TEMPO_BPM
    notes: list[Note5D] = []
    symbols: list[tuple[float, str]] = []
    for bar in range(max(1, round(seconds / bar_s))):
        symbol, rhythm = CHANGES[bar % len(CHANGES)], RHYTHMS[bar % len(RHYTHMS)]
        symbols.append((bar * bar_s, symbol))
        for beat, length in rhythm:
            struck = max(0.0, bar * bar_s + beat * 60 / TEMPO_BPM + hand.gauss(0, 0.008))
            touch = hand.randint(58, 74)
            for pitch in plain(_chord(symbol)):
                onset = struck + hand.uniform(0, 0.012)
                duration = length * 60 / TEMPO_BPM + hand.uniform(-0.03, 0.03)
                notes.append(Note5D.from_pitch(onset, duration, pitch, touch + hand.randint(-5, 5)))
    return notes, symbols


def _as_file(comping: list[Note5D], symbols: list[tuple[float, str]]) -> mido.MidiFile:
    """The chords as they come back out of a real MIDI file."""
    with TemporaryDirectory(prefix="jazzd-") as folder:
        path = Path(folder, "chords.mid")
        render.write_midi(path, [], comping, symbols, TEMPO_BPM)
        return mido.MidiFile(path)


def perform(piece: mido.MidiFile, symbols: list[tuple[float, str]], line: Line, playing: Daemon) -> Take:
    """Plays the file in real time, waits for the end of the last phrase, stops the daemon."""
    clock = MonotonicClock()
    start, due, sent = clock.now() + 0.5, 0.0, []
    for message in piece:
        due += message.time
        if message.is_meta:
            continue
        time.sleep(max(0.0, start + due - clock.now()))
        line.send(message)
        sent.append(Heard(clock.now(), message))
    ended = clock.now()
    while clock.now() < ended + LONGEST_TAIL_S:
        last = line.heard[-1].at if line.heard else ended
        if not hanging(line.heard) and clock.now() > max(last, ended + 1) + QUIET_S:
            break
        time.sleep(0.05)
    playing.stop()
    time.sleep(0.05)  # the listener reads what the daemon said last
    heard = list(line.heard)
    if hung := hanging(heard):
        names = ", ".join(str(pitch) for _, pitch in sorted(hung))
        raise JazzdError(
            f"notes without a note-off: {names}; please report this, with the log of JAZZD_LOG=debug"
        )
    return Take(
        chords=notes(sent, start),
        solo=notes(heard, start),
        symbols=symbols,
        answers=answer_times(chords_struck(sent), heard),
    )


def notes(messages: Sequence[Heard], start: float) -> list[Note5D]:
    """The notes of a stream of messages, in seconds since `start`; one that never ends is left out."""
    sounding: dict[tuple[int, int], Heard] = {}
    found = []
    for it in messages:
        if it.message.type not in ("note_on", "note_off"):
            continue
        on = sounding.pop(_key(it.message), None)
        if on is not None:
            onset, duration = on.at - start, it.at - on.at
            found.append(Note5D.from_pitch(onset, duration, on.message.note, on.message.velocity))
        if _is_on(it.message):
            sounding[_key(it.message)] = it
    return sorted(found, key=lambda note: (note.onset_time, note.pitch))


def hanging(messages: Sequence[Heard]) -> set[tuple[int, int]]:
    """The keys (channel, pitch) with a note-on that no note-off has followed."""
    down: set[tuple[int, int]] = set()
    for it in messages:
        if _is_on(it.message):
            down.add(_key(it.message))
        elif it.message.type in ("note_on", "note_off"):
            down.discard(_key(it.message))
    return down


def chords_struck(sent: Sequence[Heard], apart_s: float = 0.05) -> list[Struck]:
    """The note-ons that were sent, those less than `apart_s` behind one another together as a chord."""
    struck: list[Struck] = []
    for at in (it.at for it in sent if _is_on(it.message)):
        if struck and at - struck[-1].last < apart_s:
            struck[-1] = Struck(struck[-1].first, at)
        else:
            struck.append(Struck(at, at))
    return struck


def _is_on(message: mido.Message) -> bool:
    return bool(message.type == "note_on" and message.velocity > 0)


def _key(message: mido.Message) -> tuple[int, int]:
    return message.channel, message.note


def _chord(symbol: str) -> Chord:
    chord = parse(symbol)
    assert chord is not None, "CHANGES has no N.C."
    return chord


def _check(take: Take) -> None:
    """Raises JazzdError when the solo is not what the daemon promises."""
    solo = Settings().solo  # the daemon had no file either
    if not take.solo:
        raise JazzdError("no solo came out; run again with JAZZD_LOG=debug and look at what the daemon says")
    if outside := [note.pitch for note in take.solo if not solo.low <= note.pitch <= solo.high]:
        raise JazzdError(
            f"notes outside the range {solo.low}..{solo.high}: {outside[:8]}; please report this"
        )


def _show(take: Take, result: dict[str, Any], made_by: str) -> None:
    console = Console()
    console.print(render.piano_roll(take.chords, take.solo, take.symbols, console.width))
    times = result["chord_to_note_ms"]
    for sentence in (
        f"{len(take.solo)} solo notes in {take.seconds:.0f} s, "
        f"{take.in_scale:.0%} of them in the usual scale of the chord they sound over.",
        f"Chord to note: p50 {times['p50']} ms, p99 {times['p99']} ms; "
        f"{times['n']} of {len(take.answers)} chords were answered.",
        f"{result['midi']} has both tracks, {result['wav']} their sound (by {made_by}).",
    ):
        console.print(sentence, soft_wrap=True)
