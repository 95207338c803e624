"""MIDI files to Moonbeam's rows and back (SPEC section 2)."""

import collections
from collections.abc import Iterator
from pathlib import Path

import mido
import numpy as np

from jazzd.arrays import Int
from jazzd.errors import MidiError
from jazzd.moonbeam.tokens import (
    DRUM_CHANNEL,
    DRUMS,
    DURATION,
    INSTRUMENT,
    OPEN_NOTE_TICKS,
    TICKS_PER_SECOND,
    Rows,
)
from jazzd.music.tempo import LONGEST_FILE_S

MOST_TICKS = 2**53
"""A pause that is longer than this is as good as this."""


def read_midi(path: Path) -> mido.MidiFile:
    """The MIDI file at `path`. Raises MidiError, in one sentence, for whatever is wrong with it."""
    try:
        midi = mido.MidiFile(path)
    except FileNotFoundError:
        raise MidiError(f"{path}: no such file") from None
    except Exception as error:  # mido raises whatever its parser trips over
        reason = str(error) or "it ends too early"
        raise MidiError(f"{path} is not a MIDI file that can be read ({reason})") from None
    _check(midi)
    return midi


def _check(midi: mido.MidiFile) -> None:
    """Raises MidiError for a file of a kind that is not read."""
    if midi.type not in (0, 1):  # those of type 2 hold separate sequences, others are none
        raise MidiError(f"{midi.filename or 'the file'} is of MIDI type {midi.type}; export it as type 1")
    if midi.ticks_per_beat <= 0:
        raise MidiError(
            f"{midi.filename or 'the file'} counts time in SMPTE frames; export it with ticks per beat"
        )


def encode(midi: mido.MidiFile) -> Rows:
    """Note rows in note-on order, onsets absolute (SPEC 2.1). Raises MidiError for type 2 files."""
    rows: list[list[int]] = []
    programs = [0] * 16
    open_notes: dict[tuple[int, int, int], collections.deque[tuple[int, float]]] = collections.defaultdict(
        collections.deque
    )
    for seconds, message in timed(midi):
        if message.type == "program_change":
            programs[message.channel] = message.program
        elif message.type in ("note_on", "note_off"):
            instrument = DRUMS if message.channel == DRUM_CHANNEL else programs[message.channel]
            sounding = open_notes[instrument, message.note, message.channel]
            if message.type == "note_on" and message.velocity > 0:
                sounding.append((len(rows), seconds))
                octave, pitch_class = divmod(message.note, 12)
                rows.append(
                    [_ticks(seconds), OPEN_NOTE_TICKS, octave, pitch_class, instrument, message.velocity]
                )
            elif sounding:
                row, began = sounding.popleft()
                rows[row][DURATION] = _ticks(seconds - began) or 1
    return np.array(rows, np.int64).reshape(-1, 6)


def timed(midi: mido.MidiFile) -> Iterator[tuple[float, mido.Message]]:
    """The merged tracks with the absolute time of each message in seconds.

    The sum is kept in this order of float64 operations: a tick's rounding hangs on it in exact ties. Raises
    MidiError for files of other types than 0 and 1, in SMPTE frames, or longer than a day.
    """
    _check(midi)
    tempo, seconds = 500000, 0.0
    # Each message was checked when it was read, and a copy for each use of the file need not be again.
    for message in mido.merge_tracks(midi.tracks, skip_checks=True):
        if message.time > 0:
            # Python's integers have no end, its floats have one.
            seconds += min(message.time, MOST_TICKS) * (tempo * 1e-6 / midi.ticks_per_beat)
            if seconds > LONGEST_FILE_S:
                raise MidiError(f"{midi.filename or 'the file'} claims to last for days: it is damaged")
        yield seconds, message
        if message.type == "set_tempo":
            tempo = message.tempo


def _ticks(seconds: float) -> int:
    return round(TICKS_PER_SECOND * seconds)


def decode(rows: Int[np.ndarray, "N 6"]) -> mido.MidiFile:
    """A type 1 file at 120 BPM with one tick per 10 ms, a track per instrument (SPEC 2.5).

    Raises MidiError when the rows hold something that is no note, or more than 15 pitched instruments.
    """
    midi = mido.MidiFile(type=1, ticks_per_beat=50)
    for channel, (instrument, events) in zip(_channels(rows), _events(rows).items(), strict=True):
        if channel > 15:
            raise MidiError("more than 15 instruments do not fit the 16 channels of a MIDI file")
        track = mido.MidiTrack()
        program = 0 if instrument == DRUMS else instrument
        track.append(mido.Message("program_change", program=program, channel=channel, time=0))
        track.extend(_messages(events, channel))
        midi.tracks.append(track)
    return midi


def _events(rows: Int[np.ndarray, "N 6"]) -> dict[int, dict[tuple[int, int], list[tuple[int, int]]]]:
    """Per instrument, in order of appearance: (tick, 0 on or 1 off) -> its (note, velocity)s."""
    events: dict[int, dict[tuple[int, int], list[tuple[int, int]]]] = {}
    for row in rows:
        onset, duration, octave, pitch_class, instrument, velocity = map(int, row)
        note = 12 * octave + pitch_class
        if min(onset, duration) < 0 or not (
            0 <= note < 128 and 0 <= instrument <= DRUMS and 0 <= velocity < 128
        ):
            raise MidiError(f"the row {[*map(int, row)]} is not a note")
        track = events.setdefault(instrument, collections.defaultdict(list))
        track[onset, 0].append((note, velocity))
        track[onset + duration, 1].append((note, 64))
    return events


def _channels(rows: Int[np.ndarray, "N 6"]) -> list[int]:
    """A channel per instrument in order of appearance: counting up without the drums', which drums use."""
    channels, counter = [], 0
    for instrument in dict.fromkeys(rows[:, INSTRUMENT].tolist()):
        if counter == DRUM_CHANNEL:
            counter += 1
        channels.append(DRUM_CHANNEL if instrument == DRUMS else counter)
        counter += 1
    return channels


def _messages(events: dict[tuple[int, int], list[tuple[int, int]]], channel: int) -> Iterator[mido.Message]:
    now = 0
    for tick, off in sorted(events):
        for note, velocity in events[tick, off]:
            kind = "note_off" if off else "note_on"
            yield mido.Message(kind, note=note, velocity=velocity, channel=channel, time=tick - now)
            now = tick
