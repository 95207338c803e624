"""What is measured from outside, and the line it is measured on."""

import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import mido
import pytest

from jazzd.errors import JazzdError, MidiError
from jazzd.rehearsal import Heard, Struck, TcpLine, answer_times, daemon

pytestmark = pytest.mark.in_time

ON = mido.Message("note_on", note=60, velocity=64)
OFF = mido.Message("note_off", note=60)


def test_an_answer_is_the_first_note_on_after_the_chord_and_before_the_next() -> None:
    chords = [Struck(1.0, 1.01), Struck(2.0, 2.02), Struck(3.0, 3.0)]
    heard = [
        Heard(0.9, ON),  # before any chord
        Heard(1.005, ON),  # while the first is still being struck
        Heard(1.02, OFF),
        Heard(1.04, ON.copy(velocity=0)),
        Heard(1.06, ON),
        Heard(1.09, ON),
        Heard(3.5, ON),
    ]
    assert answer_times(chords, heard) == [pytest.approx(0.05), None, pytest.approx(0.5)]


def test_what_is_told_to_end_takes_its_daemon_along(tmp_path: Path) -> None:
    """As `timeout` does it to a bench."""
    rehearsal = (
        "import time\nfrom jazzd.rehearsal import daemon\n"
        "with daemon([], {'JAZZD_MIDI__BACKEND': 'none'}) as it:\n"
        "    print(it.pid, flush=True)\n    time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", rehearsal], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        pid = int(process.stdout.readline())
        assert Path(f"/proc/{pid}").exists()
        process.terminate()
        assert process.wait(10) == 128 + signal.SIGTERM
    assert not Path(f"/proc/{pid}").exists()


@pytest.fixture
def echo() -> Iterator[str]:
    """The address of something that sends back what it gets, byte by byte."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                while data := connection.recv(100):
                    for byte in data:
                        connection.send(bytes([byte]))

        thread = threading.Thread(target=serve)
        thread.start()
        yield "{}:{}".format(*server.getsockname())
        thread.join()


def test_a_tcp_line_hears_what_comes_back(echo: str) -> None:
    with TcpLine(echo) as line:
        line.send(ON)
        line.send(OFF)
        deadline = time.monotonic() + 10
        while len(line.heard) < 2 and time.monotonic() < deadline:
            threading.Event().wait(0.001)
    assert [it.message for it in line.heard] == [ON, OFF]
    assert line.heard[0].at <= line.heard[1].at


def test_nobody_at_the_other_end_is_one_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = "{}:{}".format(*taken.getsockname())
    with pytest.raises(MidiError, match=f"no MIDI connection to {address}"):
        TcpLine(address)


def test_a_daemon_that_cannot_start_says_why() -> None:
    with daemon(["--base", "nowhere"], {"JAZZD_SOLO__LOW": "far too low"}) as started:  # noqa: SIM117
        with pytest.raises(JazzdError, match=r"the daemon ended at once: .*JAZZD_SOLO__LOW"):
            started.wait_until_ready()
