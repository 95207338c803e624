"""Makes the blind-listening set: python docs/listening/make.py MIDI_DIR (solos of people, chords as markers).

Ten takes over five tunes that the built-in base has not learned from, each tune once by a person and once by
jazzd at its default settings, in an order that the file names do not tell. KEY.txt tells it.
"""

import random
import sys
import wave
from pathlib import Path

import numpy as np

from jazzd.engine.protocol import Sampling
from jazzd.moonbeam import resident
from jazzd.moonbeam.tokens import DURATION, ONSET, VELOCITY
from jazzd.music.notes import Note5D
from jazzd.music.tempo import to_seconds, to_ticks
from jazzd.render.midi import write_midi
from jazzd.render.sound import write_wav
from jazzd.solo import SoloGenerator, Sounding
from jazzd.teach.audition import Chart, charts
from jazzd.teach.corpus import Piece, read_folder, split
from jazzd.teach.line import Line, of_piece

TUNES, SECONDS, SEED = 5, 20.0, 1
VELOCITY_OF_BOTH = 84
"""The transcriptions of people's solos have no dynamics, so that ours may have none either."""
FOLDER = Path(__file__).parent


def main(people: Path) -> None:
    held_out = [
        p for p in split([p for p in read_folder(people) if isinstance(p, Piece)]) if p.side != "train"
    ]
    lines = {line.name: line for line in map(of_piece, held_out)}
    dice, key = random.Random(SEED), []
    _, decoder = resident.load()
    numbers = dice.sample(range(1, 2 * TUNES + 1), 2 * TUNES)
    for seed, chart in enumerate(shortened(chart) for chart in charts(list(lines.values()), TUNES)):
        beat_s = 60 / chart.beats.tempo
        ours = list(SoloGenerator(decoder).improvise(chart.parts, Sampling(), seed, beat_s=beat_s))
        for player, solo in (("a person", theirs(lines[chart.name])), ("jazzd", ours)):
            number = numbers.pop()
            write(FOLDER / f"take_{number:02}.mid", chart, solo)
            key.append(f"take {number:02}: {player}, {Path(chart.name).stem}")
    (FOLDER / "KEY.txt").write_text("\n".join(sorted(key)) + "\n")


def shortened(chart: Chart) -> Chart:
    parts = tuple(part for part in chart.parts if part.onset + part.duration <= SECONDS)
    return Chart(chart.name, parts, chart.beats)


def theirs(line: Line) -> list[Note5D]:
    """The person's notes over the same stretch, from the first chord on."""
    begin = next(tick for tick, chord in line.changes if chord)
    rows = line.rows[(line.rows[:, ONSET] >= begin) & (line.rows[:, ONSET] < begin + to_ticks(SECONDS))]
    return [
        Note5D(
            to_seconds(int(row[ONSET]) - begin),
            to_seconds(int(row[DURATION])),
            int(row[2]),
            int(row[3]),
            int(row[VELOCITY]),
        )
        for row in rows
    ]


def write(path: Path, chart: Chart, solo: list[Note5D]) -> None:
    even = [
        Note5D(n.onset_time, n.duration, n.octave, n.pitch_class, VELOCITY_OF_BOTH)
        for n in solo
        if n.onset_time < SECONDS
    ]
    comping = [note for part in chart.parts for note in soft(part)]
    write_midi(path, even, comping, [], min(max(chart.beats.tempo, 30), 300))
    write_wav(path.with_suffix(".wav"), path)
    halved(path.with_suffix(".wav"))


def halved(path: Path) -> None:
    """One channel at half the rate: a quarter of the size, and enough for a piano in a browser."""
    with wave.open(str(path), "rb") as file:
        channels, rate = file.getnchannels(), file.getframerate()
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2").reshape(-1, channels)
    mono = samples.mean(axis=1)
    pairs = mono[: len(mono) // 2 * 2].reshape(-1, 2).mean(axis=1)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate // 2)
        file.writeframes(pairs.astype("<i2").tobytes())


def soft(part: Sounding) -> list[Note5D]:
    return [Note5D(n.onset_time, n.duration, n.octave, n.pitch_class, 50) for n in part.notes()]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
