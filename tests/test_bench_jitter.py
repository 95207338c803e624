"""The jitter bench: what counts as on the grid, and a short run through JACK."""

import subprocess
from pathlib import Path

import mido
import pytest

from jazzd.bench import band, jitter
from jazzd.bench.daw import Transport
from jazzd.rehearsal import Heard

pytestmark = pytest.mark.in_time


def test_only_quantized_notes_count() -> None:
    on = mido.Message("note_on", note=60)
    times = [100.9, 102.5, 103.13, 103.3, 103.5, 103.627]
    heard = [Heard(at, on) for at in times] + [Heard(103.9, mido.Message("note_off", note=60))]
    off = jitter.off_grid_ms(heard, began=100.0, struck=[100.5, 103.2])
    assert [round(each) for each in off] == [0, 5, 0, 2]


def test_ticks_are_measured_against_their_own_times() -> None:
    heard = [100.0, 100.0 + 0.5 / 24 + 0.004, 100.0 + 1 / 24 - 0.001]
    assert jitter.ticks_off_ms(heard, began=100.0) == pytest.approx([0, 4, 1])


@pytest.mark.parametrize(("first", "last", "beats"), [(120, 120, 20), (60, 180, 20)])
def test_a_transport_ticks_as_often_as_its_tempo_says(first: float, last: float, beats: int) -> None:
    assert len(list(Transport(first, last, 10.0).ticks())) == pytest.approx(24 * beats, rel=0.02)


def test_notes_are_heard_and_measured(jack_server: subprocess.Popen[bytes], tiny_base: Path) -> None:
    figures = jitter.measure(7.0, options=["--base", str(tiny_base)])
    assert figures["off_grid_ms"]["n"] > 0
    assert figures["lateness_ms"]["n"] > 0
    assert figures["dropped"] == 0
    assert 0 <= figures["on_grid_share"] <= 1
    assert figures["ticks_off_ms"]["n"] == len(list(Transport(120, 120, 7.0).ticks()))
    assert figures["ticks_off_ms"]["p50"] < 10


def test_what_was_not_released_is_stuck() -> None:
    on, off = mido.Message("note_on", note=60), mido.Message("note_off", note=60)
    other = mido.Message("note_on", note=62)
    heard = [Heard(float(n), message) for n, message in enumerate((on, other, off))]
    assert band.sounding(heard) == {62}


def test_the_longest_silence_reaches_from_the_beginning_to_the_end() -> None:
    on, off = mido.Message("note_on", note=60), mido.Message("note_off", note=60)
    heard = [Heard(12.0, on), Heard(13.0, off), Heard(15.0, on), Heard(16.0, off)]
    assert band.longest_silence(heard, 11.0, 17.0) == 3
    assert band.longest_silence(heard, 5.0, 17.0) == 7
    assert band.longest_silence(heard, 11.0, 40.0) == 25
    assert band.longest_silence([], 11.0, 40.0) == 29
