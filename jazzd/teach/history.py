"""The figures of a training run, and their curve."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from jazzd.files import replacing

VALIDATION = {
    "chords": "validation: solos over chords",
    "plain": "validation: other music",
    "held_out": "validation: pieces held out",
}
LABELS = {"train": "training", **VALIDATION}


@dataclass
class History:
    """The figures of every validation of a run, kept as `history.jsonl`; step 0 is before the training."""

    path: Path
    entries: list[dict[str, Any]]
    writes: bool = True
    """Whether the file is this process's to write."""

    @classmethod
    def load(cls, run: Path, writes: bool = True) -> "History":
        path = run / "history.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        return cls(path, [json.loads(line) for line in lines], writes)

    @property
    def start(self) -> dict[str, Any] | None:
        """The figures from before the training, if there are any."""
        return self.entries[0] if self.entries and self.entries[0]["step"] == 0 else None

    @property
    def best(self) -> dict[str, Any]:
        """Those of the best validation since the training began."""
        return min((entry for entry in self.entries if entry["step"] > 0), key=_validation)

    def stale(self, patience: int) -> bool:
        """Whether that many validations in a row have not been better than the best one."""
        return len(self.entries) > patience and self.best["step"] <= self.entries[-1 - patience]["step"]

    def cut(self, step: int) -> None:
        """Forget what a killed run wrote after its last checkpoint."""
        self.entries = [entry for entry in self.entries if entry["step"] <= step]

    def add(self, figures: dict[str, Any]) -> bool:
        """Note the figures of a validation; whether they are the best so far. Raises OSError."""
        self.entries.append(figures)
        if self.writes:
            with replacing(self.path) as partial:
                partial.write_text("".join(json.dumps(entry) + "\n" for entry in self.entries))
        return figures["step"] > 0 and figures is self.best

    def summary(self) -> str:
        last = self.entries[-1]
        return ", ".join(f"{name.replace('_', ' ')} {last[name]:.3f}" for name in LABELS if name in last)

    def draw(self, path: Path, title: str) -> None:
        """The curves of training and validation loss as a PNG. Raises OSError."""
        figure = Figure(figsize=(8, 4.5), layout="constrained")
        axes = figure.subplots()
        for name, label in LABELS.items():
            points = [(entry["step"], entry[name]) for entry in self.entries if name in entry]
            axes.plot(*zip(*points, strict=True), label=label) if points else None
        axes.set(xlabel="step", ylabel="nats per note", title=title)
        axes.grid(alpha=0.3)
        axes.legend()
        with replacing(path) as partial:
            figure.savefig(partial, format="png", dpi=120)


def _validation(figures: dict[str, Any]) -> float:
    present = [float(figures[name]) for name in VALIDATION if name in figures]
    return sum(present) / len(present)
