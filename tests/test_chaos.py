"""`make chaos` in a short form: a minute of faults to a real daemon on JACK."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from chaos.faults import FAULTS
from chaos.rage import plan

pytestmark = pytest.mark.in_time

SEED = 3


def test_ten_minutes_hold_all_the_faults_that_were_promised() -> None:
    halves = plan(10.0)
    times = {fault.name: sum(half.count(fault) for half in halves) for fault in FAULTS}
    assert times["engine killed"] == 50
    assert times["player killed"] == 20
    assert times["JACK restarted"] == 10
    assert all(times.values())
    assert not any(fault.ends_player for fault in halves[1])


@pytest.mark.timeout(360)
@pytest.mark.usefixtures("jack_server")  # that JACK is there; the faults have a server of their own
def test_a_minute_of_faults_leaves_nothing_hanging() -> None:
    assert shutil.which("jack_midi_dump")
    # Counts are asserted, times with much slack: `make chaos` is for those.
    command = [sys.executable, "-m", "chaos", "--seed", str(SEED), "--minutes", "1", "--patience", "4"]
    ended = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True)
    found = json.loads(ended.stdout or "{}")
    assert ended.returncode == 0, (found.get("broken"), ended.stderr[-3000:])
    assert found["hanging"] == 0
    assert found["recoveries"].keys() == {fault.name for fault in FAULTS}
