"""The faults: each happens to a rig while it plays, and says what it took until all was well again."""

import contextlib
import json
import os
import random
import shutil
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass

from chaos.rig import PIANIST, RECORDER, SETTINGS, Rig, alive
from jazzd.errors import JazzdError

Recovery = float
"""Seconds."""
FLOOD_S, FLOOD_BYTES_S = 2.0, 1 << 20
STOPPED_S = 10.0
A_START_S = 10.0
"""What a player that was killed needs is a whole start, most of it JAX's: no figure is promised for that, it
takes what the machine takes (4 to 8 s on those we know). This only finds one that hangs."""
KNOBS = {"temperature": 0.9, "density": 0, "harmony": 0.5, "quantize": 0, "swing": 50, "layback_ms": 0}


@dataclass(frozen=True)
class Fault:
    name: str
    times: int
    """In ten minutes."""
    strike: Callable[[Rig, random.Random], Recovery]
    within_s: float
    """Longest recovery that will do."""
    ends_engine: bool = False
    ends_player: bool = False
    still_s: float = 0.0
    """For how long the player does nothing at all: it gets no engine ready for the next crash, either."""


def kill_engine(rig: Rig, dice: random.Random) -> Recovery:
    """Until a note is heard again."""
    pid = rig.status()["engine"]["pid"]
    os.kill(pid, signal.SIGKILL)
    # What was sent already may be heard a moment later, and is no sign of life.
    return 0.05 + rig.music(time.perf_counter() + 0.05)


def stop_engine(rig: Rig, dice: random.Random) -> Recovery:
    """The same; that it does not answer has to be noticed first, which takes a second."""
    pid = rig.status()["engine"]["pid"]
    os.kill(pid, signal.SIGSTOP)
    at = time.perf_counter()
    rig.wait_for(lambda status: status["engine"]["pid"] != pid)
    noticed = time.perf_counter()
    return noticed - at + rig.music(noticed)


def kill_player(rig: Rig, dice: random.Random) -> Recovery:
    """From the start of the next one to its first note. The engine of the old one has to be gone by then."""
    engine = rig.status()["engine"]["pid"]
    rig.daemon.kill()
    rig.daemon.wait()
    killed = time.perf_counter()
    while alive(engine) and time.perf_counter() < killed + 2:
        time.sleep(0.02)
    rig.orphans += alive(engine)
    rig.start_daemon()
    return rig.music(rig.born)


def stop_player(rig: Rig, dice: random.Random) -> Recovery:
    """From its awakening to the next note."""
    rig.daemon.send_signal(signal.SIGSTOP)
    time.sleep(STOPPED_S)
    rig.daemon.send_signal(signal.SIGCONT)
    return rig.music(time.perf_counter())


def restart_jack(rig: Rig, dice: random.Random) -> Recovery:
    """From the return of another's port to its use, the longer of two.

    One comes after the other, as on a stage: where three programs open clients at once a server in
    synchronous mode may never run a cycle again (docs/reliability.md).
    """
    before = rig.said("ports_found")
    rig.restart_jack()
    output_s = rig.wait_for(lambda _: rig.said("ports_found") > before)
    rig.pianist.reconnect()
    input_s = rig.wait_for(lambda status: status["midi"]["connected"])
    rig.music(time.perf_counter())
    return max(output_s, input_s)


def churn_styles(rig: Rig, dice: random.Random) -> Recovery:
    """Styles come, go, are cut off and are no styles at all, one of them while it plays."""
    whole = (rig.styles / "parker.safetensors").read_bytes()
    files = [rig.styles / f"churn{number}.safetensors" for number in range(4)]
    for _ in range(12):
        file = dice.choice(files)
        match dice.randrange(4):
            case 0:
                shutil.copy(rig.styles / "davis.safetensors", file)
            case 1:
                file.write_bytes(whole[: dice.randrange(len(whole))])
            case 2:
                file.write_bytes(dice.randbytes(5000))
            case 3:
                file.unlink(missing_ok=True)
        if dice.random() < 0.3:
            with contextlib.suppress(JazzdError):  # it may be none
                rig.ask(do="use", mix={file.stem: 1.0})
        time.sleep(dice.uniform(0, 0.15))
    for file in files:
        file.unlink(missing_ok=True)
    return rig.music(time.perf_counter())


def churn_settings(rig: Rig, dice: random.Random) -> Recovery:
    """Files of settings, good and bad, one after the other, each to be read at once."""
    good = SETTINGS.format(input=PIANIST, output=RECORDER)
    for _ in range(8):
        text = dice.choice(
            (
                good + f"[solo]\ntemperature = {dice.uniform(0.5, 1.2):.2f}\n",
                good + "[feel]\nswing = 66\n",
                good + "[solo]\ntemperature = 99\n",
                good + "[no_such_table]\n",
                good[: dice.randrange(len(good))],
                "\x00\xff[[[",
            )
        )
        rig.settings.write_text(text)
        if dice.random() < 0.5:
            rig.daemon.send_signal(signal.SIGHUP)
        else:
            with contextlib.suppress(JazzdError):  # refused, as it should be
                rig.ask(do="reload")
        time.sleep(dice.uniform(0, 0.1))
    rig.settings.write_text(good)
    rig.ask(do="reload")
    return rig.music(time.perf_counter())


def flood(rig: Rig, dice: random.Random) -> Recovery:
    """A megabyte of MIDI a second, or as much as is taken, over TCP; then until a note is heard again."""
    data = b"".join(
        bytes(
            (
                dice.choice((0x80, 0x90, 0xB0, 0xE0)) | dice.randrange(16),
                dice.randrange(128),
                dice.randrange(128),
            )
        )
        for _ in range(20_000)
    )
    end = time.perf_counter() + FLOOD_S
    with _midi(rig) as line, contextlib.suppress(OSError):  # it may be hung up on
        line.settimeout(0.5)
        while time.perf_counter() < end:
            line.sendall(data)
            time.sleep(len(data) / FLOOD_BYTES_S)
    return _as_before(rig)


def garbage(rig: Rig, dice: random.Random) -> Recovery:
    """Nonsense, endless lines and half requests on every door that is open."""
    for _ in range(20):
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as door:
            door.settimeout(0.5)
            door.connect(str(rig.socket))
            door.sendall(
                dice.choice(
                    (
                        dice.randbytes(2000),
                        b"{" * 100_000,
                        b'{"do": "status"',
                        json.dumps({"do": "set", "knobs": {"temperature": "hot"}}).encode() + b"\n",
                        json.dumps({"do": "use", "mix": [[[]]]}).encode() + b"\n",
                        b"[" * 4000 + b"\n",
                    )
                )
            )
            if dice.random() < 0.5:
                door.recv(1000)
    for _ in range(20):
        with contextlib.suppress(OSError), _midi(rig) as line:
            line.sendall(dice.randbytes(dice.randrange(3000)))
    return _as_before(rig)


def _midi(rig: Rig) -> socket.socket:
    host, _, port = rig.status()["midi"]["tcp"].rpartition(":")
    return socket.create_connection((host, int(port)), timeout=1)


def _as_before(rig: Rig) -> float:
    """Turns back what strangers have turned, as long as some of it is still being read; then until a note is
    heard that was asked for after that."""
    at = time.perf_counter()
    settled = 0
    while settled < 3:
        status = rig.status()
        as_before = (status["mode"], status["start"], status["density"]) == ("follow", "now", 0)
        settled = settled + 1 if as_before else 0
        if not as_before:
            rig.ask(do="choose", mode="follow", start="now")
            rig.ask(do="set", knobs=KNOBS)
        time.sleep(0.1)
    rig.music(time.perf_counter())
    return time.perf_counter() - at


FAULTS = (
    Fault("engine killed", 50, kill_engine, 3.0, ends_engine=True),
    Fault("engine stopped", 4, stop_engine, 3.0, ends_engine=True),
    Fault("player killed", 20, kill_player, A_START_S, ends_player=True),
    Fault("player stopped for 10 s", 2, stop_player, 3.0, still_s=STOPPED_S),
    Fault("JACK restarted", 10, restart_jack, 1.0),
    Fault("styles churned", 8, churn_styles, 3.0),
    Fault("settings churned", 8, churn_settings, 3.0),
    Fault("flooded with MIDI", 5, flood, 3.0),
    Fault("garbage on every socket", 8, garbage, 3.0),
)
