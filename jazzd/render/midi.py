"""MIDI files: the music written down, and the chords read out of somebody's file."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

import mido

from jazzd.errors import ConfigError, MidiError
from jazzd.music.chords import Chord, name, parse
from jazzd.music.grid import BEATS_PER_BAR
from jazzd.music.notes import Note5D
from jazzd.music.tempo import LONGEST_FILE_S
from jazzd.music.voicing import plain

_TICKS_PER_BEAT = 480
_DRUMS = 9
_STRUM = 0.08
"""Seconds within which keys are struck as one chord."""
_LAST = 2.0
"""Seconds that a last marked chord lasts at least: nothing after it says when it ends."""


class PlayedChord(NamedTuple):
    """A chord of a file: onset and duration in seconds, what it is, and the keys that sound it, rising."""

    onset: float
    duration: float
    chord: Chord
    pitches: tuple[int, ...]


class _Held(NamedTuple):
    """A note of a file, in seconds."""

    onset: float
    end: float
    pitch: int


def write_midi(
    path: Path,
    solo: Sequence[Note5D],
    comping: Sequence[Note5D] | None,
    markers: Sequence[tuple[float, str]],
    tempo: float = 120.0,
    solo_program: int = 0,
    comping_program: int = 0,
    bar: int = BEATS_PER_BAR,
) -> None:
    """Writes tracks `chords` (unless None) and `solo`, and a marker with every chord's (second, symbol).

    The file is of type 1 in one tempo (BPM), in bars of `bar` quarter notes. Raises MidiError where it cannot
    be written.
    """
    ticks = partial(mido.second2tick, ticks_per_beat=_TICKS_PER_BEAT, tempo=mido.bpm2tempo(tempo))
    conductor = [
        (0, mido.MetaMessage("set_tempo", tempo=mido.bpm2tempo(tempo))),
        (0, mido.MetaMessage("time_signature", numerator=bar, denominator=4)),
        *((ticks(at), mido.MetaMessage("marker", text=symbol)) for at, symbol in markers),
    ]
    tracks = [_track("jazzd", conductor)]
    if comping is not None:
        tracks.append(_track("chords", _messages(comping, 0, comping_program, ticks)))
    tracks.append(_track("solo", _messages(solo, 1, solo_program, ticks)))
    file = mido.MidiFile(type=1, ticks_per_beat=_TICKS_PER_BEAT, charset="utf-8", tracks=tracks)
    try:
        file.save(path)
    except OSError as error:
        raise MidiError(f"cannot write {path}: {error.strerror}") from None


def _messages(
    notes: Iterable[Note5D], channel: int, program: int, ticks: Callable[[float], int]
) -> Iterator[tuple[int, mido.Message]]:
    """The track's messages and their ticks. A note ends where its key is struck again."""
    yield 0, mido.Message("program_change", channel=channel, program=program)
    struck: dict[int, int] = {}
    for note in sorted(notes, key=lambda each: each.onset_time, reverse=True):
        onset = ticks(note.onset_time)
        end = max(onset + 1, ticks(note.end))
        end = min(end, struck.get(note.pitch, end))
        if end > onset:
            struck[note.pitch] = onset
            yield onset, mido.Message("note_on", channel=channel, note=note.pitch, velocity=note.velocity)
            yield end, mido.Message("note_off", channel=channel, note=note.pitch)


def _track(title: str, events: Iterable[tuple[int, mido.Message]]) -> mido.MidiTrack:
    """A track of messages at absolute ticks; where they meet, note-ons come last."""
    track = mido.MidiTrack([mido.MetaMessage("track_name", name=title)])
    now = 0
    for tick, message in sorted(events, key=lambda each: (each[0], each[1].type == "note_on")):
        track.append(message.copy(time=tick - now))
        now = tick
    return track


def read_chords(path: Path) -> list[PlayedChord]:
    """The chords of a file: its track `chords`, else its chord markers, else all its notes.

    Raises MidiError where the file cannot be read or holds no chords.
    """
    file = _opened(path)
    markers = list(_markers(file))
    tracks = [track for track in file.tracks if track.name == "chords"]
    if tracks or not markers:
        chords = list(_struck(_notes(file, tracks or file.tracks), markers))
    else:
        chords = list(_written(markers, file.length))
    if not chords:
        raise MidiError(f"{path} holds no chords: it needs notes, or markers such as Dm7")
    return chords


def _opened(path: Path) -> mido.MidiFile:
    try:
        file = mido.MidiFile(path, clip=True)
        if file.type not in (0, 1) or file.ticks_per_beat <= 0:
            raise ValueError("its tracks or its clock are of a kind that nobody uses")
        if file.length > LONGEST_FILE_S:
            raise ValueError("it claims to last for days")
        return file
    except FileNotFoundError:
        raise MidiError(f"{path} does not exist") from None
    except IsADirectoryError:
        raise MidiError(f"{path} is a folder, not a MIDI file") from None
    except Exception as error:  # mido raises whatever the broken byte leads to
        reason = (isinstance(error, OSError) and error.strerror) or str(error) or "it ends too early"
        raise MidiError(f"{path} is not a MIDI file that can be read: {reason}") from None


def _timed(file: mido.MidiFile) -> Iterator[tuple[float, mido.Message]]:
    """Every message of the file with its second."""
    at = 0.0
    for message in file:
        at += message.time
        yield at, message


def _markers(file: mido.MidiFile) -> Iterator[tuple[float, Chord | None]]:
    for at, message in _timed(file):
        if message.type == "marker":
            try:
                yield at, parse(message.text.encode("latin1").decode("utf-8", "replace"))
            except ConfigError:
                continue  # `Intro`, `A`: a rehearsal mark


def _notes(file: mido.MidiFile, tracks: Sequence[mido.MidiTrack]) -> list[_Held]:
    """The notes of these tracks by onset, in the tempo of the whole file; drums are left out."""
    heard = [track if track in tracks else _muted(track) for track in file.tracks]
    sounding: dict[tuple[int, int], list[float]] = {}
    notes: list[_Held] = []
    at = 0.0
    for at, message in _timed(mido.MidiFile(type=1, ticks_per_beat=file.ticks_per_beat, tracks=heard)):
        if message.type not in ("note_on", "note_off") or message.channel == _DRUMS:
            continue
        onsets = sounding.setdefault((message.channel, message.note), [])
        if message.type == "note_on" and message.velocity:
            onsets.append(at)
        elif onsets:
            notes.append(_Held(onsets.pop(0), at, message.note))
    notes += [_Held(onset, at, pitch) for (_, pitch), onsets in sounding.items() for onset in onsets]
    return sorted(note for note in notes if note.end > note.onset)


def _muted(track: mido.MidiTrack) -> mido.MidiTrack:
    """The track with nothing but its tempo and its time."""
    return mido.MidiTrack(
        each if each.is_meta else mido.MetaMessage("text", time=each.time) for each in track
    )


def _struck(notes: Iterable[_Held], markers: Sequence[tuple[float, Chord | None]]) -> Iterator[PlayedChord]:
    """What sounds from each struck group of keys to the next, keys still held included."""
    groups: list[list[_Held]] = []
    for note in notes:
        if groups and note.onset - groups[-1][0].onset <= _STRUM:
            groups[-1].append(note)
        else:
            groups.append([note])
    held: list[_Held] = []
    for group, following in zip_longest(groups, groups[1:]):
        onset = group[0].onset
        held = [note for note in held if note.end > onset + _STRUM] + group
        ends = [max(note.end for note in held), *([following[0].onset] if following else [])]
        pitches = tuple(sorted({note.pitch for note in held}))
        marked = [chord for at, chord in markers if at <= onset + _STRUM][-1:]
        yield PlayedChord(onset, min(ends) - onset, (marked and marked[0]) or name(pitches), pitches)


def _written(markers: Sequence[tuple[float, Chord | None]], end: float) -> Iterator[PlayedChord]:
    """Each marked chord until the next, in a plain voicing."""
    onsets = [at for at, _ in markers]
    for (at, chord), until in zip(markers, [*onsets[1:], max(end, onsets[-1] + _LAST)], strict=True):
        if chord is not None and until > at:
            yield PlayedChord(at, until - at, chord, tuple(plain(chord)))
