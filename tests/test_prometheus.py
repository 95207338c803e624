import os
import re
import subprocess
import sys
from pathlib import Path

from stage import staged

from jazzd.render.prometheus import exposition

TCP = {"JAZZD_MIDI__BACKEND": "tcp", "JAZZD_MIDI__TCP_LISTEN": "127.0.0.1:0"}
SAMPLE = re.compile(r'jazzd_[a-z_]+(\{[a-z]+="[^"]+"\})? -?[0-9.e+-]+')


def test_no_daemon_is_a_fact_too() -> None:
    assert exposition(None).splitlines()[-1] == "jazzd_up 0"


def test_a_status_becomes_metrics_with_help_type_and_base_units(private_user: Path) -> None:
    with staged(private_user, TCP) as stage:
        text = exposition(stage.ready())
        stage.stop()
    lines = text.splitlines()
    assert text.endswith("\n")
    assert all(SAMPLE.fullmatch(line) for line in lines if not line.startswith("# "))
    names = {re.split(r"[ {]", line)[0] for line in lines if not line.startswith("# ")}
    for name in names:
        assert any(line.startswith(f"# TYPE {name.removesuffix('_count')} ") for line in lines), name
    assert "jazzd_engine_ready 1" in lines
    assert "jazzd_notes_sent_total 0" in lines


def test_numbers_are_what_the_status_says() -> None:
    figures = {"p50": 20.0, "p95": 40.0, "p99": None, "max": None, "n": 3}
    status = {
        "engine": {"state": "failed", "restarts": 2},
        "midi": {"connected": True},
        "strain": 0.25,
        "notes": {"sent": 7, "late": 1, "dropped": 0, "sounding": 2, "lateness_ms": figures},
        "chord_to_note_ms": figures,
        "styles": [{"status": "ready"}, {"status": "ready"}, {"status": "rejected"}],
    }
    lines = exposition(status).splitlines()
    for line in (
        "jazzd_up 1",
        "jazzd_engine_ready 0",
        "jazzd_engine_restarts_total 2",
        "jazzd_strain 0.25",
        'jazzd_chord_to_note_seconds{quantile="0.5"} 0.02',
        "jazzd_chord_to_note_seconds_count 3",
        'jazzd_styles{status="ready"} 2',
        'jazzd_styles{status="rejected"} 1',
    ):
        assert line in lines
    assert not any("0.99" in line for line in lines)


def test_the_command_writes_the_file_and_says_when_nobody_plays(private_user: Path, tmp_path: Path) -> None:
    file = tmp_path / "jazzd.prom"
    command = [sys.executable, "-m", "jazzd", "status", "--prometheus", str(file)]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "no jazzd daemon is running" in ended.stderr
    assert "jazzd_up 0" in file.read_text()
    ended = subprocess.run([*command[:-1], str(tmp_path / "no" / "file")], capture_output=True, text=True)
    assert ended.returncode == 1
    assert "cannot be written" in ended.stderr
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for none in (str(pipe), ""):
        ended = subprocess.run([*command[:-1], none], capture_output=True, text=True)
        assert ended.returncode == 1
        assert "cannot be written: it is there, and no file" in ended.stderr
    assert pipe.is_fifo()
