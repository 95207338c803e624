"""Where the beats are: in a tempo map that is real, else in the onsets."""

from pathlib import Path

import mido
import numpy as np
import pytest
import tiny
from hypothesis import given
from hypothesis import strategies as st

from jazzd.moonbeam import midi
from jazzd.teach.beats import beats, tracked


def opened(path: Path, notes: list[tuple[int, int, int]]) -> tuple[mido.MidiFile, np.ndarray]:
    """A file that says what its tempo is."""
    file = mido.MidiFile(tiny.write_midi(path, notes))
    file.tracks[0].insert(0, mido.MetaMessage("set_tempo", tempo=500_000))
    return file, midi.encode(file)


def rows(onsets: list[int]) -> np.ndarray:
    return np.array([[at, 10, 5, i % 12, 0, 80] for i, at in enumerate(sorted(onsets))]).reshape(-1, 6)


def test_a_map_that_the_music_keeps_to_is_real(tmp_path: Path) -> None:
    file, notes = opened(tmp_path / "a.mid", tiny.walk(41, every=25))
    np.testing.assert_array_equal(beats(file, notes), np.arange(0, 1001, 50))


def test_a_constant_map_that_nobody_played_to_is_not(tmp_path: Path) -> None:
    file, notes = opened(tmp_path / "a.mid", tiny.walk(60, every=43))
    steps = np.diff(beats(file, notes))
    assert np.median(steps) in (43, 86)


def test_a_file_without_a_tempo_has_no_map(tmp_path: Path) -> None:
    file, notes = opened(tmp_path / "a.mid", tiny.walk(60, every=25))
    del file.tracks[0][0]
    np.testing.assert_array_equal(beats(file, notes), tracked(notes))


def test_a_map_that_changes_all_the_time_is_real(tmp_path: Path) -> None:
    file, _ = opened(tmp_path / "a.mid", tiny.walk(40, every=31))
    conductor = mido.MidiTrack()
    for n in range(30):
        tempo = 500_000 + 20_000 * (n % 3)
        conductor.append(mido.MetaMessage("set_tempo", tempo=tempo, time=tiny.TICKS_PER_BEAT if n else 0))
    file.tracks.append(conductor)
    found = beats(file, midi.encode(file))
    np.testing.assert_array_equal(found[:7], [0, 50, 102, 156, 206, 258, 312])


def test_beats_are_found_under_loose_playing() -> None:
    dice = np.random.default_rng(0)
    onsets = [60 * beat + int(dice.normal(0, 2)) for beat in range(80)]
    onsets += [60 * beat + 30 + int(dice.normal(0, 3)) for beat in range(0, 80, 2)]
    onsets = [max(0, at) for at in onsets]
    found = tracked(rows(onsets))
    near = np.abs(found[:, None] - 60 * np.arange(80)).min(axis=1)
    assert np.mean(near <= 8) > 0.9
    assert len(found) == pytest.approx(80, abs=4)


def test_a_tempo_that_drifts_is_followed() -> None:
    times = np.cumsum(np.linspace(50, 70, 100))
    found = tracked(rows(np.round(times).astype(int).tolist()))
    late = found[found > times[-20]]
    assert np.median(np.diff(late)) == pytest.approx(68, abs=4)


def test_a_long_silence_is_not_counted_through() -> None:
    first, second = [50 * i for i in range(40)], [100_000 + 50 * i for i in range(40)]
    found = tracked(rows(first + second))
    assert not ((found > 2500) & (found < 99_000)).any()
    assert ((found >= 99_990).sum()) > 30


@pytest.mark.parametrize("onsets", [[0], [7, 7, 7], [0, 3000], [5, 6]])
def test_hardly_any_notes_make_no_trouble(onsets: list[int]) -> None:
    assert len(tracked(rows(onsets))) >= 1


@given(st.lists(st.integers(0, 4000), min_size=1, max_size=60), st.integers(0, 5000))
def test_beats_rise_and_move_with_the_music(onsets: list[int], later: int) -> None:
    found = tracked(rows(onsets))
    assert (np.diff(found) > 0).all()
    np.testing.assert_array_equal(tracked(rows([at + later for at in onsets])), found + later)
