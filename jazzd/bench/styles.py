"""What styles cost: while a real daemon plays and the style changes all the time, and in the model alone."""

import contextlib
import random
import statistics
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import jax
import mido
import numpy as np

from jazzd.bench import machine
from jazzd.bench.latency import OPENING_S, line_to, transport
from jazzd.errors import JazzdError
from jazzd.moonbeam import lora, resident, weights
from jazzd.moonbeam.config import Config
from jazzd.moonbeam.decode import Decoder
from jazzd.moonbeam.sampling import Controls
from jazzd.moonbeam.targets import Adapter, shapes
from jazzd.moonbeam.tokens import COMPING, SOLO
from jazzd.rehearsal import Daemon, Heard, Line, daemon
from jazzd.styles import style
from jazzd.styles.manifest import Manifest

SWITCHES, SWITCH_EVERY_S = 1000, 0.3
DROPS_EVERY = 20
"""A file is dropped into the folder at every so many switches."""
RESIDENT, RANK = 32, 16
STEPS = 400
STYLE_CONTROL = 20
CHORDS = ((50, 53, 57, 60), (55, 59, 62, 65), (48, 52, 55, 59))
PATIENCE_S = 10.0
LIVE = Controls(temperature=0.9, top_p=0.95, free_time=True, audible=True, program=SOLO, low=48, high=96)
COMPILED = "/jax/core/compile/backend_compile_duration"


def measure(base: str = "builtin", options: Sequence[str] = (), switches: int = SWITCHES) -> dict[str, Any]:
    """The figures by the keys of the bench; `options` go to `jazzd run`."""
    config, fingerprint = weights.identify(base)
    with TemporaryDirectory(prefix="jazzd-") as temporary, transport() as (kind, variables):
        folder = Path(temporary)
        for number in range(RESIDENT - switches // DROPS_EVERY % RESIDENT):
            _write(folder / f"style{number:02}.safetensors", config, fingerprint, number)
        with daemon(["--styles", str(folder), *options], variables) as playing:
            status = playing.wait_until_ready()
            with line_to(kind, status) as line:
                time.sleep(OPENING_S)
                ready_ms = _play(line, playing, folder, switches, config, fingerprint)
                time.sleep(2.0)
                stuck = len(_sounding(line.heard))
            notes = playing.status()["notes"]
            playing.stop()
    alone = _alone(base)
    return machine.describe() | {
        "transport": kind,
        "base": base,
        "file_to_ready_ms": {
            "p50": round(float(np.percentile(ready_ms, 50)), 1),
            "p99": round(float(np.percentile(ready_ms, 99)), 1),
            "n": len(ready_ms),
        },
        "switches": switches,
        "notes": notes["sent"],
        "late": notes["late"],
        "dropped": notes["dropped"],
        "stuck": stuck,
        **alone,
    }


def _play(
    line: Line, playing: Daemon, folder: Path, switches: int, config: Config, fingerprint: str
) -> list[float]:
    """Chords and style changes without a pause; returns milliseconds from each dropped file to ready."""
    hand, ready_ms = random.Random(1), list[float]()
    held: tuple[int, ...] = ()
    begin = time.monotonic()
    for n in range(switches):
        if n % 8 == 0:
            for pitch in held:
                line.send(mido.Message("note_off", note=pitch))
            held = CHORDS[n // 8 % len(CHORDS)]
            for pitch in held:
                line.send(mido.Message("note_on", note=pitch, velocity=hand.randint(50, 90)))
        line.send(mido.Message("control_change", control=STYLE_CONTROL, value=hand.randrange(128)))
        if n % DROPS_EVERY == 0:
            name = f"dropped{n:04}"
            _write(folder / f"{name}.safetensors", config, fingerprint, n)
            ready_ms.append(1e3 * _wait_until_ready(playing, name))
        time.sleep(max(0.0, begin + (n + 1) * SWITCH_EVERY_S - time.monotonic()))
    for pitch in held:
        line.send(mido.Message("note_off", note=pitch))
    return ready_ms


def _wait_until_ready(playing: Daemon, name: str) -> float:
    """Seconds until the daemon offers the style."""
    began = time.monotonic()
    while playing.styles().get(name) != "ready":
        if time.monotonic() - began > PATIENCE_S:
            raise JazzdError(f"the style {name} was not ready within {PATIENCE_S:.0f} s")
        time.sleep(0.01)
    return time.monotonic() - began


def _sounding(heard: Sequence[Heard]) -> set[int]:
    down: set[int] = set()
    for each in heard:
        if each.message.type == "note_on" and each.message.velocity:
            down.add(each.message.note)
        elif each.message.type in ("note_on", "note_off"):
            down.discard(each.message.note)
    return down


def _alone(base: str) -> dict[str, Any]:
    """Without MIDI: a step among 32 resident styles over one of the plain base, compilations, and memory."""
    loaded, decoder = resident.load(base, widths=(lora.SLIM, lora.FULL))
    rack = lora.Rack(loaded.model.config, loaded.dtype, RESIDENT)
    rack.warm_up()
    with _counted_compilations() as compiled:
        for number in range(RESIDENT):
            rack.put(str(number), adapter(loaded.model.config, number))
            decoder.mix = rack.mix({str(number): 1.0})
            _steps(decoder, 2)
        one, blend = rack.mix({"0": 1.0}), rack.mix({"1": 0.5, "2": 0.5})
        pairs = []
        for _ in range(9):  # side by side, since a machine is not equally fast all the time
            times = []
            for decoder.mix in (None, one, blend):
                times.append(statistics.median(_steps(decoder, STEPS // 9)))
            pairs.append((times[1] / times[0], times[2] / times[0]))
    tensors = _bytes(adapter(loaded.model.config, 0), loaded.dtype)
    ratios = [statistics.median(ratio) for ratio in zip(*pairs, strict=True)]
    return {
        "recompilations": len(compiled),
        "step_ratio_32": round(ratios[0], 3),
        "step_ratio_32_blend": round(ratios[1], 3),
        "resident": len(rack.names),
        "memory_ratio": round(rack.bytes / (RESIDENT * tensors), 3),
    }


def _steps(decoder: Decoder, count: int) -> list[float]:
    """Seconds of each of `count` notes."""
    chord = np.array([[0, 200, 4, pitch, COMPING, 64] for pitch in (0, 4, 7, 11)])
    state, times = decoder.prefill(decoder.begin(0), chord), []
    for _ in range(count):
        began = time.perf_counter()
        state, _row = decoder.step(state, LIVE)
        times.append(time.perf_counter() - began)
    return times


@contextlib.contextmanager
def _counted_compilations() -> Iterator[list[float]]:
    """The seconds of every compilation in the block."""
    seconds: list[float] = []
    counting = True

    def count(event: str, duration_secs: float, **_: str | int) -> None:
        if counting and event == COMPILED:
            seconds.append(duration_secs)

    jax.monitoring.register_event_duration_secs_listener(count)
    try:
        yield seconds
    finally:
        counting = False


def adapter(config: Config, seed: int) -> Adapter:
    """A style of random numbers, of the size that jazzd teaches."""
    dice = np.random.default_rng(seed)
    return Adapter(
        RANK,
        {
            place: (
                dice.normal(0, inputs**-0.5, (inputs, RANK)).astype(np.float32),
                dice.normal(0, 0.02, (RANK, outputs)).astype(np.float32),
            )
            for place, (inputs, outputs) in shapes(config).items()
            if place[1] in lora.TAUGHT
        },
    )


def _bytes(of: Adapter, dtype: str) -> int:
    numbers = sum(factor.size for pair in of.factors.values() for factor in pair)
    return numbers * int(jax.numpy.dtype(dtype).itemsize)


def _write(path: Path, config: Config, fingerprint: str, seed: int) -> None:
    manifest = Manifest(base=fingerprint, rank=RANK, alpha=RANK, targets=lora.TAUGHT)
    style.write(path, style.Style(manifest, adapter(config, seed)))
