"""The daemon's status as Prometheus reads it, for a node exporter's textfile collector."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

_QUANTILES = {"p50": "0.5", "p95": "0.95", "p99": "0.99"}


def exposition(status: Mapping[str, Any] | None) -> str:
    """The text for a status, or for no daemon at all (None). Format: prometheus.io, "text-based format"."""
    lines = [*_metric("up", "gauge", "Whether a daemon runs.", status is not None)]
    if status is not None:
        lines += _metrics(status)
    return "\n".join(lines) + "\n"


def _metrics(status: Mapping[str, Any]) -> Iterator[str]:
    engine, midi, notes = status["engine"], status["midi"], status["notes"]
    yield from _metric("engine_ready", "gauge", "Whether solos can be made.", engine["state"] == "ready")
    yield from _metric("engine_restarts_total", "counter", "Engines lost.", engine["restarts"])
    yield from _metric("midi_connected", "gauge", "Whether the MIDI ports are there.", midi["connected"])
    yield from _metric("strain", "gauge", "How hard the engine is pressed, 0 to 1.", status["strain"])
    yield from _metric("notes_sent_total", "counter", "Notes of the solo that were struck.", notes["sent"])
    yield from _metric("notes_late_total", "counter", "Notes more than 10 ms late.", notes["late"])
    yield from _metric("notes_dropped_total", "counter", "Notes never struck.", notes["dropped"])
    yield from _metric("notes_sounding", "gauge", "Notes that sound now.", notes["sounding"])
    told = "From the last key of a chord to the first note of its answer."
    yield from _summary("chord_to_note_seconds", told, status["chord_to_note_ms"])
    yield from _summary("note_lateness_seconds", "How late notes were struck.", notes["lateness_ms"])
    yield "# HELP jazzd_styles Files in the styles folder."
    yield "# TYPE jazzd_styles gauge"
    for kind, count in sorted(Counter(style["status"] for style in status["styles"]).items()):
        yield f'jazzd_styles{{status="{kind}"}} {count}'


def _metric(name: str, kind: str, told: str, value: float) -> Iterator[str]:
    yield f"# HELP jazzd_{name} {told}"
    yield f"# TYPE jazzd_{name} {kind}"
    yield f"jazzd_{name} {value:g}" if isinstance(value, float) else f"jazzd_{name} {int(value)}"


def _summary(name: str, told: str, figures_ms: Mapping[str, float | None]) -> Iterator[str]:
    yield f"# HELP jazzd_{name} {told}"
    yield f"# TYPE jazzd_{name} summary"
    for key, quantile in _QUANTILES.items():
        if (ms := figures_ms[key]) is not None:
            yield f'jazzd_{name}{{quantile="{quantile}"}} {ms / 1000:g}'
    yield f"jazzd_{name}_count {figures_ms['n']:g}"
