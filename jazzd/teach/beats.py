"""Where the beats of a MIDI file are: in its tempo map where that is real, else in its notes.

A tempo map is real when the music keeps to it. One that changes all the time was made for this very music;
of a constant one the onsets tell: where a pianist played freely into a sequencer, they fall anywhere between
its lines.
"""

import mido
import numpy as np

from jazzd.arrays import Float, Int
from jazzd.moonbeam.tokens import ONSET, VELOCITY, Rows
from jazzd.teach.metre import beats_of

LIVELY = 0.1
"""Tempo changes a beat from which a map was made for the music."""
TOGETHER = 0.6
"""How much the onsets must keep to the eighths of a constant tempo map: 1 is on every line, 0 anywhere."""
USUAL_TICKS, SPREAD = 50.0, 1.0
"""A beat's likeliest length, and the standard deviation of its logarithm to the base 2."""
SHORTEST_TICKS, LONGEST_TICKS = 25, 150
"""240 and 40 beats a minute."""
TIGHTNESS = 100.0
"""How dear it is that a beat is longer or shorter than the ones around it."""
BLUR_TICKS = 3
"""Onsets that lie so close count as one."""
PAUSE_TICKS = 600
"""In a longer silence nobody counts on."""

Ticks = Int[np.ndarray, "_"]
"""Times of the beats in 10 ms ticks, rising."""


def beats(file: mido.MidiFile, rows: Rows) -> Ticks:
    """The beats from before the first note of `rows` to the last one. Raises MidiError for type 2 files."""
    if not len(rows):
        return np.zeros(0, np.int64)
    written = np.unique(np.round(beats_of(file).ticks).astype(np.int64))
    written = written[: int(np.searchsorted(written, rows[-1, ONSET])) + 1]
    changes = sum(message.type == "set_tempo" for track in file.tracks for message in track)
    if len(written) and (changes > LIVELY * len(written) or _agreement(rows, written) > TOGETHER):
        return written
    return tracked(rows)


def _agreement(rows: Rows, written: Ticks) -> float:
    """The mean cosine of the onsets' phases between eighths: 1 on the lines, 0 anywhere, -1 in between."""
    onsets = rows[:, ONSET]
    phase = np.interp(onsets, written, np.arange(len(written)))
    return float(np.cos(4 * np.pi * phase).mean())


def tracked(rows: Rows) -> Ticks:
    """Beats that the onsets of the notes (at least one) suggest.

    Dynamic programming over an onset strength, after D. Ellis, "Beat Tracking by Dynamic Programming",
    Journal of New Music Research 36 (2007). Silence that is longer than 6 s interrupts the counting.
    """
    cuts = np.flatnonzero(np.diff(rows[:, ONSET]) > PAUSE_TICKS) + 1
    return np.concatenate([_counted(part) for part in np.split(rows, cuts)])


def _counted(rows: Rows) -> Ticks:
    start = int(rows[0, ONSET])
    strength = _strength(rows[:, ONSET] - start, rows[:, VELOCITY])
    period = _period(strength)
    best, before = _paths(strength / max(strength.std(), 1e-9), period)
    # The last beat is the best one of those near the end.
    last = (
        int(len(best) - 1 - np.argmax(best[: -period - 1 : -1])) if len(best) > period else int(best.argmax())
    )
    found = []
    while last >= 0:
        found.append(last)
        last = int(before[last])
    return np.array(found[::-1]) + start


def _strength(onsets: Int[np.ndarray, "N"], velocities: Int[np.ndarray, "N"]) -> Float[np.ndarray, "T"]:
    """How much begins at each tick, blurred; many notes at once are a stronger sign than one."""
    struck = np.zeros(int(onsets[-1]) + LONGEST_TICKS)
    np.add.at(struck, onsets, velocities / 127)
    blur = np.exp(-0.5 * (np.arange(-3 * BLUR_TICKS, 3 * BLUR_TICKS + 1) / BLUR_TICKS) ** 2)
    return np.asarray(np.sqrt(np.convolve(struck, blur, mode="same")))


def _period(strength: Float[np.ndarray, "T"]) -> int:
    """The length of a beat after which the strengths are most alike, the usual tempo before others."""
    centred = strength - strength.mean()
    size = 1 << (2 * len(centred) - 1).bit_length()
    spectrum = np.fft.rfft(centred, size)
    lags = np.arange(SHORTEST_TICKS, LONGEST_TICKS + 1)
    alike = np.fft.irfft(abs(spectrum) ** 2, size)[lags]
    usual = np.exp(-0.5 * (np.log2(lags / USUAL_TICKS) / SPREAD) ** 2)
    return int(lags[np.argmax(np.maximum(alike, 1e-9) * usual)])


def _paths(
    strength: Float[np.ndarray, "T"], period: int
) -> tuple[Float[np.ndarray, "T"], Int[np.ndarray, "T"]]:
    """The score of the best count that ends at each tick, and the beat before it (-1 for none)."""
    back = np.arange(-2 * period, -(period // 2) + 1)
    cost = TIGHTNESS * np.log(-back / period) ** 2
    best, before = strength.copy(), np.full(len(strength), -1)
    for tick in range(period // 2, len(strength)):
        reachable = back + tick >= 0
        scores = best[back[reachable] + tick] - cost[reachable]
        chosen = int(scores.argmax())
        if scores[chosen] > 0:
            best[tick] += scores[chosen]
            before[tick] = back[reachable][chosen] + tick
    return best, before
