"""What a note costs: the model alone, without MIDI.

Needs jax, flax, numpy and safetensors only: `python -m jazzd.bench.engine --base random-839m --json` runs
wherever this folder was copied to.
"""

import argparse
import json
import resource
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jazzd.bench import machine
from jazzd.moonbeam import resident
from jazzd.moonbeam.config import Numerics
from jazzd.moonbeam.decode import BUCKETS, Decoder
from jazzd.moonbeam.model import Moonbeam
from jazzd.moonbeam.sampling import Controls
from jazzd.moonbeam.tokens import COMPING, FIELDS, SOLO

NOTES, PREFILLS = 200, 15
COPY_BYTES = 256 * 2**20
LIVE = Controls(temperature=0.9, top_p=0.95, free_time=True, audible=True, program=SOLO, low=48, high=96)


def bench(
    base: str = "builtin",
    dtype: resident.Dtype | None = None,
    numerics: Numerics | None = None,
    device: resident.Device = "auto",
) -> dict[str, Any]:
    """The figures of DESIGN section 4 for one base: milliseconds, megabytes, gigabytes a second."""
    began = time.monotonic()
    loaded, decoder = resident.load(base, dtype, numerics, device)
    load_s = time.monotonic() - began
    notes, prefills = _notes(decoder), {str(k): _prefill(decoder, k) for k in BUCKETS}
    bandwidth = _bandwidth()
    return machine.describe() | {
        "base": loaded.name,
        "params": loaded.parameters,
        "device": loaded.device,
        "dtype": loaded.dtype,
        "ms_per_note": {"p50": _percentile(notes, 50), "p99": _percentile(notes, 99)},
        "prefill_ms": prefills,
        "memory_mb": round(memory_mb(), 1),
        "bandwidth_gb_s": round(bandwidth / 1e9, 1),
        "floor_ms": round(1e3 * note_bytes(loaded.model) / bandwidth, 3),
        "load_s": round(load_s, 2),
        "n": NOTES,
    }


def note_bytes(model: Moonbeam) -> int:
    """Bytes of weights that a note must read: the trunk and each head once, the note decoder six times."""
    total = 0
    for path, leaf in nnx.to_flat_state(nnx.state(model, nnx.Param)):
        size = leaf[...].nbytes
        if path[:2] == ("decoder", "layers"):
            looked_up = path[2] == 0 and path[3] in ("input_kernel", "input_bias")  # see decode.Folded
            total += 0 if looked_up else len(FIELDS) * size
        elif path[:2] != ("decoder", "fc_out") and path[-1] != "embedding":  # part of the heads; looked up
            total += size
    return total


def _notes(decoder: Decoder) -> list[float]:
    """Seconds of each of `NOTES` notes, with a window that fills up."""
    state = decoder.prefill(decoder.begin(0), _chord(4))
    times = []
    for i in range(NOTES + 5):
        if int(state.length) + 1 > decoder.capacity:
            state = decoder.rollback(state, decoder.capacity // 2)
        began = time.perf_counter()
        state, _ = decoder.step(state, LIVE)
        if i >= 5:
            times.append(time.perf_counter() - began)
    return times


def _prefill(decoder: Decoder, rows: int) -> float:
    """Median milliseconds until this many rows are in the cache."""
    state, times = decoder.prefill(decoder.begin(0), _chord(4)), []
    for _ in range(PREFILLS):
        began = time.perf_counter()
        state = decoder.prefill(state, _chord(rows))
        jax.block_until_ready(state.cache)
        times.append(time.perf_counter() - began)
        state = decoder.rollback(state, rows)
    return round(1e3 * statistics.median(times), 3)


def _chord(rows: int) -> np.ndarray:
    return np.array([[0, 200, 4 + i % 3, i % 12, COMPING, 64] for i in range(rows)])


def _bandwidth() -> float:
    """Bytes a second that a sum reads from the device's memory: the floor of every product with one row."""
    block = jnp.ones(COPY_BYTES // 4, jnp.float32)
    total: Callable[[jax.Array], jax.Array] = jax.jit(jnp.sum)
    total(block).block_until_ready()
    times = []
    for _ in range(7):
        began = time.perf_counter()
        total(block).block_until_ready()
        times.append(time.perf_counter() - began)
    return COPY_BYTES / statistics.median(times)


def memory_mb() -> float:
    """Peak memory of the device, or of this process where the device is the CPU."""
    stats = jax.local_devices()[0].memory_stats()
    if stats:
        return float(stats["peak_bytes_in_use"]) / 1e6
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def _percentile(times: list[float], percent: int) -> float:
    return round(1e3 * float(np.percentile(times, percent)), 3)


def main() -> None:
    """The command line of the bench alone."""
    parser = argparse.ArgumentParser(description=bench.__doc__)
    parser.add_argument("--base", default="builtin")
    parser.add_argument("--dtype", choices=get_args(resident.Dtype))
    parser.add_argument("--numerics", choices=get_args(Numerics))
    parser.add_argument("--device", choices=get_args(resident.Device), default="auto")
    parser.add_argument("--json", action="store_true", help="one line instead of many")
    given = parser.parse_args()
    figures = bench(given.base, given.dtype, given.numerics, given.device)
    print(json.dumps(figures, indent=None if given.json else 1))


if __name__ == "__main__":
    main()
