"""Player and engine on two hosts, and a bad line between them."""

import contextlib
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from jack import JackClient
from network import Host, bad_line
from stage import lift, staged, strike

pytestmark = pytest.mark.in_time

INPUT, OUTPUT = "loopMIDI Port 1", "loopMIDI Port 2"
PORT = 9090
CHORDS = 24


@contextlib.contextmanager
def engine_on(host: Host, token: Path) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "jazzd", "engine", "--listen", f"tcp://{host.address}:{PORT}"]
    process = subprocess.Popen([*host.within, *command, "--token-file", str(token)])
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


@pytest.mark.usefixtures("jack_server")
def test_forty_milliseconds_there_and_back_and_every_hundredth_packet_lost(private_user: Path) -> None:
    hand, token = random.Random(5), private_user / "token"
    token.write_text("a word that only these two know\n")
    token.chmod(0o600)
    with bad_line(0.020, 0.01) as (here, there), engine_on(there, token):
        variables = {
            "JAZZD_MIDI__BACKEND": "jack",
            "JAZZD_ENGINE__ADDRESS": f"tcp://{there.address}:{PORT}",
            "JAZZD_ENGINE__TOKEN_FILE": str(token),
        }
        with staged(private_user, variables, within=here.within) as stage:
            # It is looked for, in vain, until it listens.
            before = stage.wait_for(lambda status: status["engine"]["state"] == "ready", 120)
            with JackClient(INPUT, OUTPUT) as musician:
                for _ in range(CHORDS):
                    root = hand.randrange(45, 57)
                    keys = (root, root + 4, root + 7, root + 10)
                    struck = musician.play(*strike(*keys))
                    musician.wait_for(
                        lambda _, struck=struck: musician.heard[-1:] and musician.heard[-1][0] > struck
                    )
                    time.sleep(hand.uniform(0.3, 0.8))
                    musician.play(*lift(*keys))
                stage.wait_for(lambda status: status["notes"]["sounding"] == 0)
                musician.wait_for(lambda _: not musician.sounding)
            status = stage.status()
            stage.stop()
    assert status["engine"]["restarts"] == before["engine"]["restarts"]
    assert status["chord_to_note_ms"]["n"] == CHORDS
    # TCP sends a lost packet again after 200 ms and more: those notes may be late, and few are.
    assert status["notes"]["late"] <= 0.1 * status["notes"]["sent"]
    assert status["notes"]["dropped"] == 0
