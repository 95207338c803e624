"""A long night: follow and trade in turn, over clocks whose tempo moves, through JACK."""

import random
import time
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import mido
from rich.console import Console
from rich.progress import track

from jazzd.bench import machine
from jazzd.bench.jitter import daw
from jazzd.bench.latency import QUALITIES, line_to, transport
from jazzd.errors import JazzdError
from jazzd.music.chords import Chord
from jazzd.music.voicing import voice
from jazzd.rehearsal import Heard, Line, daemon

SETS = (
    ("follow", "90:140"),
    ("trade", "120:120"),
    ("follow", "60:300"),
    ("trade", "200:100"),
    ("follow", ""),
)
"""Mode and tempo of each set, from the first beat to the last; without a tempo there is no clock."""
SILENCE_S = 30.0
"""Longer than any listening: a trade of eight bars at 60 beats a minute hears and rests for less."""
BREATH_S = 2.5
"""After a set everything must have gone silent."""


def measure(minutes: float = 10.0, options: Sequence[str] = ()) -> dict[str, Any]:
    """Plays sets of a minute or less to a daemon run with `options`. Raises JazzdError without JACK.

    `stuck` are notes that sounded on after the end of a set, `late` those more than 10 ms behind their time,
    `silent` sets that were without a note for `SILENCE_S` or longer, the longest such time is `silence_s`.
    """
    hand, seconds, played = random.Random(10), min(60.0, 12 * minutes), 0.0
    figures = {"sets": 0, "chords": 0, "stuck": 0, "silent": 0}
    silence_s = 0.0
    with transport() as (kind, variables), daemon(options, variables | {"JAZZD_FEEL__QUANTIZE": "60"}) as it:
        if kind != "jack":
            raise JazzdError("the clock comes through JACK: apt-get install jackd2 brings it")
        status = it.wait_until_ready()
        with line_to(kind, status) as line:
            sets = range(round(60 * minutes / seconds))
            for number in track(sets, "sets", console=Console(stderr=True)):
                mode, bpm = SETS[number % len(SETS)]
                it.choose(mode=mode)
                before, began = len(line.heard), time.perf_counter()
                figures["chords"] += _set(line, status["midi"]["input"], bpm, seconds - BREATH_S, hand)
                gap_s = longest_silence(line.heard[before:], began, time.perf_counter())
                it.choose(mode="trade")  # the other mode: an answer that is on its way comes to an end
                it.choose(mode="follow")
                time.sleep(BREATH_S)
                played += seconds
                figures["sets"] += 1
                figures["stuck"] += len(sounding(line.heard))
                figures["silent"] += gap_s >= SILENCE_S
                silence_s = max(silence_s, gap_s)
        status = it.status()
        it.stop()
    notes = status["notes"]
    return machine.describe() | {
        "seconds": played,
        **figures,
        "silence_s": round(silence_s, 1),
        "restarts": status["engine"]["restarts"],
        "notes": notes["sent"],
        "late": notes["late"],
        "dropped": notes["dropped"],
        "lateness_ms": notes["lateness_ms"],
    }


def longest_silence(heard: Sequence[Heard], began: float, ended: float) -> float:
    """Seconds of the longest time without a note-on from `began` to `ended` (`time.perf_counter`)."""
    ons = [it.at for it in heard if it.message.type == "note_on" and it.message.velocity]
    return max(after - before for before, after in pairwise([began, *ons, ended]))


def sounding(heard: Sequence[Heard]) -> set[int]:
    """The pitches that were struck and not released."""
    down: set[int] = set()
    for message in (each.message for each in heard):
        if message.type == "note_on" and message.velocity:
            down.add(message.note)
        elif message.type in ("note_on", "note_off"):
            down.discard(message.note)
    return down


def _set(line: Line, port: str, bpm: str, seconds: float, hand: random.Random) -> int:
    """One set; how many chords were played in it."""
    if not bpm:
        played = _comp(line, time.perf_counter() + seconds, hand)
    else:
        with daw([port], bpm, seconds) as began:
            played = _comp(line, began + seconds, hand)
    return played


def _comp(line: Line, end: float, hand: random.Random) -> int:
    """Chords of many lengths, four and then a rest as long, so that both modes have their turn."""
    played = 0
    while (left := end - time.perf_counter()) > 0:
        length_s = min(hand.choice((0.5, 1.0, 1.6, 2.4)), left)
        for _ in range(4):
            root = hand.randrange(12)
            pitches = voice(Chord(root, hand.choice(QUALITIES), root), hand)
            for pitch in pitches:
                line.send(mido.Message("note_on", note=pitch, velocity=hand.randint(40, 100)))
                time.sleep(hand.uniform(0, 0.006))
            time.sleep(max(0.0, min(0.9 * length_s, end - time.perf_counter())))
            for pitch in pitches:
                line.send(mido.Message("note_off", note=pitch))
            time.sleep(0.1 * length_s)
            played += 1
        time.sleep(max(0.0, min(4 * length_s, end - time.perf_counter())))
    return played
