"""Is all as it should be? Every check says what it found, and what to do."""

import asyncio
import contextlib
import json
import os
import platform
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import mido

from jazzd.config import read_token, socket_path
from jazzd.engine import protocol
from jazzd.errors import ConfigError, EngineError, JazzdError
from jazzd.mix import shares
from jazzd.player import control, drivers, ports
from jazzd.player.clock import MonotonicClock
from jazzd.player.connection import reach
from jazzd.player.latency import summary
from jazzd.service import manager
from jazzd.settings import Midi, Settings

State = Literal["ok", "warn", "fail"]
PROBES, PAUSE_S, LOST_S = 100, 0.005, 0.5
"""Notes that are sent round, how far apart, and when one counts as lost."""
WANTED_TIMER_MS, WANTED_ROUND_TRIP_MS = 2.0, 10.0
WANTED_RTPRIO = 10
PINGS, WANTED_LINE_MS = 50, 20.0
"""Of the way to an engine elsewhere."""
MODEL_S, ENGINE_S = 120, 10.0
PROBE_NAME = "jazzd doctor"


@dataclass(frozen=True)
class Check:
    name: str
    state: State
    found: str
    mend: str = ""
    """What to do about it; empty where all is well."""


def examine(settings: Settings, file: Path | None = None) -> list[Check]:
    """Every check, in the order in which things depend on each other; `file` is where the settings are."""
    checks: list[Callable[[], Check]] = [
        _system,
        lambda: _settings(file),
        _priority,
        _timer,
        lambda: _engine(settings),
        lambda: _device(settings),
        lambda: _base(settings),
        lambda: _styles(settings),
        lambda: _midi(settings),
        lambda: _synth(settings),
        lambda: _loopback(settings),
        _folder,
        _service,
        _daemon,
    ]
    return [check() for check in checks]


def examine_without(wrong: ConfigError) -> list[Check]:
    """The checks that hang on no settings, where these are wrong."""
    settings = Check("settings", "fail", str(wrong), "mend that; the other checks wait for it")
    checks = (_system, lambda: settings, _priority, _timer, _folder, _service, _daemon)
    return [check() for check in checks]


def to_json(checks: list[Check]) -> dict[str, Any]:
    """The checks by name, and the worst of their states."""
    order: tuple[State, ...] = ("ok", "warn", "fail")
    worst = max((check.state for check in checks), key=order.index)
    return {"state": worst, "checks": [asdict(check) for check in checks]}


def _system() -> Check:
    found = f"{platform.system()} {platform.release()}, Python {platform.python_version()}"
    if "microsoft" in platform.release().lower() and not Path("/dev/snd/seq").exists():
        mend = "WSL2 has no MIDI ports: run the player in Windows, the engine here (docs/fl-studio.md)"
        return Check("system", "warn", f"{found}, in WSL2", mend)
    return Check("system", "ok", found)


def _settings(file: Path | None) -> Check:
    """Where they are, and whether the daemon that runs has the same."""
    found = str(file or "the defaults: there is no daemon.toml")
    try:
        its = control.ask({"do": "status"})["player"].get("config", "")
    except JazzdError:
        return Check("settings", "ok", found)
    if its != str(file or ""):
        mend = f"to examine what it runs on: jazzd doctor --config {its}" if its else "start it anew"
        return Check("settings", "warn", f"{found}; the daemon runs on {its or 'the defaults'}", mend)
    return Check("settings", "ok", found)


def _priority() -> Check:
    if sys.platform != "linux":
        return Check("priority", "ok", "the system decides")
    import resource

    limit = resource.getrlimit(resource.RLIMIT_RTPRIO)[0]
    if os.geteuid() == 0 or limit >= WANTED_RTPRIO or limit == resource.RLIM_INFINITY:
        return Check("priority", "ok", "notes may go before everything else")
    mend = "join the group audio, or write `@audio - rtprio 20` into /etc/security/limits.d/audio.conf"
    return Check("priority", "warn", f"real-time priority is limited to {limit}", mend)


def _timer() -> Check:
    late = []
    for _ in range(100):
        before = time.perf_counter()
        time.sleep(0.001)
        late.append(1000 * (time.perf_counter() - before) - 1)
    p99 = summary(late)["p99"] or 0.0
    found = f"a pause of 1 ms is {p99:.2f} ms late (99 of 100)"
    if p99 <= WANTED_TIMER_MS:
        return Check("timer", "ok", found)
    mend = "close what keeps every core busy; on a laptop, plug it in"
    return Check("timer", "warn", found, mend)


def _engine(settings: Settings) -> Check:
    """The one that somebody else keeps: whether it lets us in, and how far away it is."""
    address, token_file = settings.engine.address, settings.engine.token_file
    if not address:
        return Check("engine", "ok", "jazzd starts its own")
    start = f"start it there: jazzd engine --listen {address}"
    try:
        ready, trips = asyncio.run(_met(address, read_token(Path(token_file)) if token_file else ""))
    except ConfigError as error:
        return Check("engine", "fail", str(error), "name the right file in engine.token_file")
    except EngineError as error:
        if protocol.IN_USE in str(error):
            return Check("engine", "ok", f"{address} answers, and has a player already")
        return Check("engine", "fail", str(error), f"if it does not run, {start}; give both the same token")
    except TimeoutError:
        return Check("engine", "warn", f"{address} took the call and is not ready", "wait: it may be loading")
    told = summary(trips)
    found = f"{address}: {ready.base} on {ready.device}, {told['p50']:.1f} ms there and back"
    found += f", 99 of 100 within {told['p99']:.1f} ms"
    if (told["p99"] or 0) > WANTED_LINE_MS:
        return Check("engine", "warn", found, "every answer takes so much longer: prefer a cable to WLAN")
    return Check("engine", "ok", found)


async def _met(address: str, token: str) -> tuple[protocol.Ready, list[float]]:
    """What the engine says of itself, and the milliseconds of some round trips.

    Raises EngineError where it cannot be reached or will not have us, TimeoutError when it says nothing.
    """
    engine = await reach(address, token)
    try:
        async with asyncio.timeout(ENGINE_S):
            engine.greet()
            ready, trips = await engine.receive_a(protocol.Ready), []
            for number in range(PINGS):
                began = time.perf_counter()
                engine.send(protocol.Ping(n=number))
                await engine.receive_a(protocol.Pong)
                trips.append(1000 * (time.perf_counter() - began))
        return ready, trips
    except EngineError as error:
        raise EngineError(f"{address}: {error}") from None
    finally:
        await engine.close()


def _device(settings: Settings) -> Check:
    if settings.engine.address:
        return Check("device", "ok", f"the engine at {settings.engine.address} has its own")
    script = "import jax; print(jax.default_backend(), jax.devices()[0].device_kind, jax.__version__)"
    found, error = _python("-c", script)
    if error:
        return Check("device", "fail", f"JAX does not start: {error}", "install jazzd anew: make setup")
    backend = found.split()[0]
    wanted = {"cuda": "gpu"}.get(settings.engine.device, settings.engine.device)
    if wanted not in ("auto", backend):
        mend = "install jazzd[cuda13], or set engine.device to cpu"
        return Check("device", "fail", f"{found}, but engine.device is {settings.engine.device}", mend)
    return Check("device", "ok", f"{found}, {os.cpu_count()} cores")


def _base(settings: Settings) -> Check:
    if settings.engine.address:
        return Check("base", "ok", f"the engine at {settings.engine.address} has its own")
    found, error = _python("-m", "jazzd", "base", "info", "--base", settings.engine.base, "--json")
    if error:
        return Check("base", "fail", error, "set engine.base to builtin, or convert it again")
    told = json.loads(found)
    if told.get("intact") is False:
        mend = "convert or fetch it again: styles may not fit it any more"
        return Check("base", "fail", f"{settings.engine.base} was changed after it was made", mend)
    return Check("base", "ok", f"{settings.engine.base}, {told['parameters'] / 1e6:.1f} million parameters")


def _styles(settings: Settings) -> Check:
    folder = settings.styles.folder
    if not folder.exists():
        mend = "make it, or set styles.folder to where they are"
        return Check("styles", "warn", f"there is no folder {folder}", mend)
    found, error = _python(
        "-m", "jazzd", "styles", "--styles", str(folder), "--base", settings.engine.base, "--json"
    )
    if error:
        return Check("styles", "warn", error, "set styles.folder to a folder that can be read")
    records = json.loads(found)
    bad = [record["name"] for record in records if record["status"] not in ("ready", "loading")]
    said = f"{len(records) - len(bad)} ready in {folder}"
    if bad:
        return Check("styles", "warn", f"{said}; not: {', '.join(bad)}", "`jazzd styles` says why")
    chosen = [settings.styles.default, *(scene.style or "" for scene in settings.scene)]
    wanted = {name for style in chosen for name in shares(style)}
    if missing := wanted - {record["name"] for record in records}:
        mend = "put them there, or change styles.default or the [[scene]] that names them"
        return Check("styles", "warn", f"{said}; missing: {', '.join(sorted(missing))}", mend)
    return Check("styles", "ok", said)


def _midi(settings: Settings) -> Check:
    midi = settings.midi
    if midi.backend in ("tcp", "none"):
        return Check("ports", "ok", f"midi.backend is {midi.backend}, {midi.tcp_listen or 'no address'}")
    listed = drivers.list_ports(midi.backend)
    if listed.backend == "none":
        mend = "start ALSA or JACK (jackd; jazzd reaches PipeWire by ALSA), or set midi.tcp_listen"
        return Check("ports", "fail", listed.reason, mend)
    missing = [
        name
        for name, there in ((midi.input, listed.inputs), (midi.output, listed.outputs))
        if not any(name in each for each in there)
    ]
    if missing and sys.platform == "win32":
        mend = "create them with loopMIDI, or name others in midi.input and midi.output"
        return Check("ports", "fail", f"{listed.backend}: there is no {' and no '.join(missing)}", mend)
    found = listed.backend + (f"; jazzd makes {' and '.join(missing)}" if missing else "")
    named = [name for name in missing if name not in (Midi().input, Midi().output)]
    if named:
        there = ", ".join((*listed.inputs, *listed.outputs)) or "none"
        mend = f"if you mean somebody else's, switch it on, or name it as it is; there are: {there}"
        return Check("ports", "warn", f"{found}: nothing has {' or '.join(named)} in its name", mend)
    return Check("ports", "ok", found)


def _synth(settings: Settings) -> Check:
    if settings.midi.backend in ("tcp", "none"):
        return Check("synth", "ok", "whoever is at the other end of the line")
    listed = drivers.list_ports(settings.midi.backend)
    if listed.backend == "none":
        return Check("synth", "warn", "no MIDI system leads to it", "see ports")
    own = f"whoever is connected to jazzd's own port {settings.midi.output}"
    name = next((each for each in listed.outputs if settings.midi.output in each), own)
    if "GS Wavetable" in name:
        mend = "it answers a quarter of a second late: play through any other synthesizer"
        return Check("synth", "warn", name, mend)
    return Check("synth", "ok", name)


def _loopback(settings: Settings) -> Check:
    listed = drivers.list_ports(settings.midi.backend)
    if listed.backend == "none":
        return Check("loop-back", "warn", "not measured: there is no MIDI system", "see ports")
    if listed.backend == "winmm":
        return Check("loop-back", "ok", "not measured: there is no port that leads back to us")
    try:
        times = _round_trips(listed.backend)
    except JazzdError as error:
        return Check("loop-back", "fail", str(error), "start the MIDI system anew")
    told = summary(times)
    lost = PROBES - len(times)
    if lost or not times:
        return Check("loop-back", "fail", f"{lost} of {PROBES} notes were lost", "is the MIDI system busy?")
    found = (
        f"from a port of jazzd's to another and back in {told['p50']:.1f} ms, 99 of 100 within "
        f"{told['p99']:.1f} ms; midi.lead_ms that makes up for it: {told['p50']:.1f} and what the synth takes"
    )
    if (told["p99"] or 0) > WANTED_ROUND_TRIP_MS:
        return Check("loop-back", "warn", found, "a smaller buffer of the sound system makes it shorter")
    return Check("loop-back", "ok", found)


def _round_trips(backend: str) -> list[float]:
    """Milliseconds that notes took out of a port of ours and back into another. Raises MidiError."""
    clock, heard, times = MonotonicClock(), threading.Event(), []
    came = [0.0]

    def hear(message: mido.Message, at: float) -> None:
        came[0] = at
        heard.set()

    # Each opens the port that the other has made.
    with _opened(backend, f"{PROBE_NAME} a", f"{PROBE_NAME} b", hear, clock):
        names = f"{PROBE_NAME} b", f"{PROBE_NAME} a"
        with _opened(backend, *names, lambda message, at: None, clock) as sender:
            time.sleep(ports.SETTLE_S)
            for number in range(PROBES):
                heard.clear()
                sent = clock.now()
                sender.send(mido.Message("note_on", note=number % 128, velocity=1))
                if heard.wait(LOST_S):
                    times.append(1000 * (came[0] - sent))
                time.sleep(PAUSE_S)
    return times


@contextlib.contextmanager
def _opened(
    backend: str, into: str, out: str, hear: ports.OnMessage, clock: MonotonicClock
) -> Iterator[ports.Ports]:
    pair = ports.open_ports(backend, into, out, hear, clock)
    try:
        yield pair
    finally:
        pair.close()


def _folder() -> Check:
    try:
        return Check("runtime folder", "ok", str(socket_path().parent))
    except JazzdError as error:
        return Check("runtime folder", "fail", str(error), "set JAZZD_SOCKET")


def _service() -> Check:
    try:
        told = manager.status(manager.RUN)
    except JazzdError as error:
        return Check("service", "ok", str(error))
    if not told["installed"]:
        return Check("service", "ok", "jazzd does not start at login (`jazzd service install`)")
    return Check("service", "ok", f"{told['system']}: {told['state']}")


def _daemon() -> Check:
    try:
        told = control.ask({"do": "status"})
    except JazzdError as error:
        return Check("daemon", "ok", str(error))
    latency, notes = told["chord_to_note_ms"], told["notes"]
    found = f"engine {told['engine']['state']}, {notes['late']} of {notes['sent']} notes late"
    if latency["n"]:
        found += f", chord to note {latency['p50']:.0f} ms, 99 of 100 within {latency['p99']:.0f} ms"
    if told["engine"]["state"] != "ready":
        mend = "if it stays so, the daemon's log says why"
        return Check("daemon", "warn", found, mend)
    if not told["midi"].get("connected", True):
        found += f"; a port is away (in: {told['midi']['input']}, out: {told['midi']['output']})"
        return Check("daemon", "warn", found, "switch it on, or name another in midi.input and midi.output")
    return Check("daemon", "ok", found)


def _python(*words: str) -> tuple[str, str]:
    """What a Python of our own printed, and what it complained about."""
    try:
        ended = subprocess.run([sys.executable, *words], capture_output=True, text=True, timeout=MODEL_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        return "", str(error)
    if ended.returncode:
        said = ended.stderr.strip().splitlines()
        return "", (said[-1] if said else f"exit code {ended.returncode}").removeprefix("jazzd: ")
    return ended.stdout.strip(), ""
