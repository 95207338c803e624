"""Solos over chords that are all known: what may sound, when, and what is taken back."""

import itertools
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import tiny

from jazzd import Note5D, SoloGenerator
from jazzd.engine.protocol import Sampling
from jazzd.errors import ConfigError, StyleError
from jazzd.music import chords, harmony
from jazzd.solo import Sounding, laid_out

TWO_FIVE_ONE = ["Dm7", "G7", "Cmaj7", "Cmaj7"]
BAR_S = 2.0
WILD = Sampling(temperature=1.0, top_p=1.0)


@cache
def generator() -> SoloGenerator:
    return SoloGenerator(tiny.decoder())


def solo(**options: Any) -> list[Note5D]:
    return generator().generate_solo(TWO_FIVE_ONE, **options)


def form(text: str = "Dm7 G7 Cmaj7 Cmaj7", choruses: int = 1) -> list[Sounding]:
    return laid_out(chords.progression(text), BAR_S, choruses)


def test_same_seed_same_notes_and_another_seed_others() -> None:
    assert solo(seed=3) == solo(seed=3)
    assert solo(seed=3) != solo(seed=4)


def test_every_option_bears_on_the_notes() -> None:
    plain = solo(seed=1)
    for options in ({"temperature": 0.1}, {"top_p": 0.2}, {"tempo": 150.0}, {"bars_per_chord": 2.0}):
        assert solo(seed=1, **options) != plain


def test_notes_lie_in_the_range_and_inside_the_form() -> None:
    for seed in range(5):
        notes = solo(seed=seed, low=55, high=67, tempo=100.0)
        assert notes
        assert all(55 <= note.pitch <= 67 for note in notes)
        onsets = [note.onset_time for note in notes]
        assert onsets == sorted(onsets)
        assert onsets[0] >= 0
        assert all(note.duration >= 0.01 for note in notes)
        assert max(note.end for note in notes) <= 4 * 4 * 60 / 100 + 1e-9
        assert all(1 <= note.velocity <= 127 for note in notes)


def test_bars_are_as_long_as_they_are_said_to_be(tmp_path: Path) -> None:
    """A bar of 3/4 at 120 takes 1.5 s, whoever says so."""
    tune = tmp_path / "waltz.json"
    bar = '[{"beat": 1, "chord": "C"}]'
    tune.write_text(f'{{"time_signature": "3/4", "bars": [{bar}, {bar}]}}')
    told = generator().generate_solo("C C", beats_per_bar=3, seed=2)
    assert generator().generate_solo(str(tune), seed=2) == told
    assert generator().generate_solo("C C", seed=2) != told
    assert 1.5 < max(note.end for note in told) <= 3.0 + 1e-9
    with pytest.raises(ConfigError, match="beats_per_bar"):
        solo(beats_per_bar=13)


def test_every_chord_of_the_form_gets_notes() -> None:
    onsets = [note.onset_time for note in solo(seed=2, bars_per_chord=4.0)]
    assert {int(onset // (4 * BAR_S)) for onset in onsets} == {0, 1, 2, 3}


@pytest.mark.parametrize("seed", range(4))
def test_at_the_top_of_the_harmony_knob_only_chord_tones_are_played(seed: int) -> None:
    parts = form("Dm7 | G7b9 Db7 | Cmaj7/E | F#m7b5 | % ", choruses=2)
    notes = list(generator().improvise(parts, WILD, seed, knob=1.0))
    assert len(notes) > 10
    for note in notes:
        (part,) = (p for p in parts if p.onset - 1e-6 <= note.onset_time < p.onset + p.duration - 1e-6)
        assert part.chord is not None
        assert note.pitch_class in part.chord.tones


def test_at_its_bottom_anything_goes() -> None:
    solos = [generator().improvise(form("C C C C"), WILD, seed, knob=0.0) for seed in range(4)]
    assert {note.pitch_class for solo in solos for note in solo} & {1, 3, 6, 8, 10}


def test_without_a_chord_nothing_is_voiced_and_the_knob_has_no_say() -> None:
    parts = form("N.C. N.C. N.C. N.C.")
    assert not any(part.notes() or part.keys() for part in parts)
    strict, free = (list(generator().improvise(parts, WILD, knob=knob)) for knob in (1.0, 0.0))
    assert strict == free


def test_every_note_is_drawn_knowing_the_chord_it_sounds_over() -> None:
    """At the top of the knob only the tones of the chord at that time are left, whatever was drawn first."""
    parts = form()
    notes = list(generator().improvise(parts, WILD, seed=5, knob=1.0))
    for part in parts:
        assert part.chord
        over = [n for n in notes if part.onset <= n.onset_time < part.onset + part.duration]
        assert {note.pitch_class for note in over} <= harmony.core(part.chord)
    assert len(notes) > len(parts)
    onsets = [note.onset_time for note in notes]
    assert onsets == sorted(onsets)


def test_a_change_to_come_leaves_the_notes_before_it_alone() -> None:
    one, other = (list(generator().improvise(form(f"Dm7 {second}"), WILD, 7)) for second in ("G7", "Abmaj7"))
    before = [note for note in one if note.onset_time < BAR_S]
    assert before
    assert other[: len(before)] == before
    assert other != one


@pytest.mark.parametrize("most", [1, 5])
def test_no_more_notes_than_wanted(most: int) -> None:
    assert solo(seed=1, max_notes=most) == solo(seed=1)[:most]


def test_a_model_that_stands_still_comes_to_an_end() -> None:
    stuck = Sampling(temperature=0.0, density=1.0)
    notes = list(itertools.islice(generator().improvise(form("C C"), stuck), 10_000))
    assert len(notes) < 10_000


def test_a_text_is_read_as_the_command_line_reads_it() -> None:
    assert generator().generate_solo("Dm7 | G7 | Cmaj7 | %", seed=3) == solo(seed=3)


@pytest.mark.parametrize("nothing", [[], ()])
def test_no_chords_are_refused(nothing: Sequence[str]) -> None:
    with pytest.raises(ConfigError, match="no chord"):
        generator().generate_solo(nothing)


def test_a_symbol_that_is_none_is_named_with_its_place() -> None:
    with pytest.raises(ConfigError, match=r"'H7' \(chord 2\)"):
        generator().generate_solo(["C", "H7"])


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": -0.1},
        {"temperature": 2.1},
        {"top_p": 0.0},
        {"top_p": float("nan")},
        {"tempo": 0.0},
        {"tempo": float("inf")},
        {"low": 70, "high": 60},
        {"high": 128},
        {"bars_per_chord": 0.0},
        {"bars_per_chord": float("nan")},
        {"max_notes": -1},
        {"max_notes": 0},
        {"seed": -1},
        {"seed": 2**32},
    ],
)
def test_a_value_out_of_range_is_one_sentence(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        solo(**options)


def test_chords_follow_one_another() -> None:
    parts = form("Dm7 G7 | Cmaj7 | N.C.", choruses=2)
    assert [part.onset for part in parts] == [0, 1, 2, 4, 6, 7, 8, 10]
    assert [part.duration for part in parts] == [1, 1, 2, 2] * 2
    assert [part.chord and part.chord.symbol for part in parts[:4]] == ["Dm7", "G7", "Cmaj7", None]
    for part in parts:
        struck = part.keys()
        assert [key.pitch for key in struck] == [note.pitch for note in part.notes()] == list(part.pitches)
        assert {(key.onset, key.duration) for key in struck} <= {(100 * part.onset, 100 * part.duration)}


def test_a_style_is_played_alone_and_in_a_mix(tmp_path: Path) -> None:
    for seed, name in enumerate(("cool", "hot")):
        tiny.write_style(tmp_path / f"{name}.safetensors", seed, temperature=0.3)
    generator = SoloGenerator(tiny.decoder(), tiny.loaded(tmp_path)[2])
    takes = [
        generator.generate_solo(["Dm7", "G7"], style, temperature=0.9, max_notes=12)
        for style in ("", "cool", {"cool": 0.5, "hot": 0.5}, {"cool": 0.0}, "cool")
    ]
    assert takes[0] == takes[3]
    assert takes[1] == takes[4]
    assert len({tuple(take) for take in takes}) == 3
    assert takes[1] != generator.generate_solo(["Dm7", "G7"], "cool", max_notes=12), (
        "it likes to be played cool"
    )
    generator.wear({})


@pytest.mark.parametrize("style", ["bebop", {"cool": 1.0, "bebop": 0.1}])
def test_a_style_that_is_not_there_is_one_sentence(tmp_path: Path, style: str | dict[str, float]) -> None:
    tiny.write_style(tmp_path / "cool.safetensors")
    for wardrobe in (None, tiny.loaded(tmp_path)[2]):
        with pytest.raises(StyleError, match=r"bebop|cool"):
            SoloGenerator(tiny.decoder(), wardrobe).generate_solo(["Dm7"], style)
