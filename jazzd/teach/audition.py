"""Auditions: what a base or a style plays over the chords of pieces, to be measured and to be heard."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from jazzd.engine.protocol import Sampling
from jazzd.moonbeam import lora, resident
from jazzd.moonbeam.decode import Decoder
from jazzd.moonbeam.model import Moonbeam
from jazzd.moonbeam.tokens import DURATION, ONSET
from jazzd.music import chords, voicing
from jazzd.music.chords import NO_CHORD
from jazzd.music.notes import Note5D
from jazzd.music.tempo import to_seconds, to_ticks
from jazzd.render.midi import write_midi
from jazzd.solo import SoloGenerator, Sounding, laid_out
from jazzd.teach.line import Line, of_notes
from jazzd.teach.metre import Beats, steady

LONGEST_S = 60.0
"""Of the chords of one chart; a long piece is left there."""
CHARTS = 4
"""That are played before and after a training."""
FORM = (
    "Dm7 | G7 | Cmaj7 | % | Gm7 | C7 | Fmaj7 | % |"
    "F7 | Bb7 | F7 | % | Bb7 | % | F7 | D7b9 | Gm7 | C7 | F7 D7b9 | Gm7 C7"
)
"""Where no piece has chords: two ii-V-I and a blues."""
FORM_TEMPO = 140.0
SLOWEST, FASTEST = 20.0, 400.0
"""Beats a minute that a file may state."""


@dataclass(frozen=True)
class Player:
    """Who plays: the plain base, or a mix of styles, as it likes to be played."""

    name: str = "plain base"
    mix: lora.Mix | None = None
    sampling: Sampling = field(default_factory=Sampling)


@dataclass(frozen=True)
class Chart:
    """Chords to improvise over, from second 0 on, and the beats as far as they are known."""

    name: str
    parts: tuple[Sounding, ...]
    beats: Beats


def charts(lines: Sequence[Line], count: int) -> list[Chart]:
    """Charts of at most `count` of the lines that have chords, evenly taken; where none has any, our own."""
    found = [chart for line in lines if (chart := _chart(line)) is not None]
    count = min(count, len(found))
    return [found[i * len(found) // count] for i in range(count)] or [own_chart()]


def own_chart() -> Chart:
    """The one that ships with jazzd."""
    parts = laid_out(chords.progression(FORM), 4 * 60 / FORM_TEMPO)
    return Chart("own chart", tuple(parts), steady(FORM_TEMPO, parts[-1].onset + parts[-1].duration))


def _chart(line: Line) -> Chart | None:
    """The first minute of the piece's chords; None where there are none."""
    sounding = [tick for tick, chord in line.changes if chord]
    if not sounding:
        return None
    begin = sounding[0]
    end = min(int((line.rows[:, ONSET] + line.rows[:, DURATION]).max(initial=0)), begin + to_ticks(LONGEST_S))
    changes = [(tick, chord) for tick, chord in line.changes if tick >= begin]
    ends = [min(tick, end) for tick, _ in changes[1:]] + [end]
    parts = tuple(
        Sounding(
            to_seconds(tick - begin),
            to_seconds(until - tick),
            chord,
            tuple(voicing.plain(chord)) if chord else (),
        )
        for (tick, chord), until in zip(changes, ends, strict=True)
        if until > tick
    )
    return Chart(line.name, parts, line.beats.since(begin)) if parts else None


def decoder_of(model: Moonbeam) -> Decoder:
    """Compiled for playing as the engine plays."""
    return Decoder(model, min(resident.LONGEST_WINDOW, model.config.window))


def improvised(decoder: Decoder, player: Player, chart: Chart, seed: int) -> list[Note5D]:
    """A solo over the chart, with the harmony knob where it is by default. The same seed, the same notes."""
    decoder.mix = player.mix
    beat_s = 60 / chart.beats.tempo if len(chart.beats) else None
    return list(SoloGenerator(decoder).improvise(chart.parts, player.sampling, seed, beat_s=beat_s))


def takes(
    decoder: Decoder,
    player: Player,
    over: Sequence[Chart],
    count: int,
    step: Callable[[int, int], None] = lambda done, of: None,
) -> list[Line]:
    """So many solos over the charts in turn, each with a seed of its own, as lines to be measured."""
    found = []
    for seed in range(count):
        chart = over[seed % len(over)]
        changes = tuple((to_ticks(part.onset), part.chord) for part in chart.parts)
        notes = improvised(decoder, player, chart, seed)
        found.append(of_notes(f"{player.name} over {chart.name}", notes, changes, chart.beats))
        step(seed + 1, count)
    return found


def before_and_after(
    folder: Path, model: Moonbeam, before: Player, after: Player, lines: Sequence[Line]
) -> None:
    """Write `before_1.mid`, `after_1.mid`, `before_2.mid` ...: both over the same charts with the same seeds.

    Raises OSError where the folder cannot be made, MidiError where a file cannot be written.
    """
    decoder = decoder_of(model)
    folder.mkdir(parents=True, exist_ok=True)
    for number, chart in enumerate(charts(lines, CHARTS), 1):
        for word, player in (("before", before), ("after", after)):
            write(folder / f"{word}_{number}.mid", chart, improvised(decoder, player, chart, number))


def write(path: Path, chart: Chart, solo: Sequence[Note5D]) -> None:
    """A MIDI file of the chart's chords and a solo, with the symbols as markers. Raises MidiError."""
    comping = [note for part in chart.parts for note in part.notes()]
    markers = [(part.onset, part.chord.symbol if part.chord else NO_CHORD) for part in chart.parts]
    write_midi(path, solo, comping, markers, min(max(chart.beats.tempo, SLOWEST), FASTEST))
