"""`python -m fuzz --inputs 1000000`, in tests/: so many inputs for all readers together, led by coverage.

Each reader has a process of its own (atheris, which is libFuzzer); what breaks one is left in the folder
that is named at the end. Exit code 1 if any broke.
"""

import argparse
import atexit
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

SHARES = {
    "engine": 20,
    "player": 20,
    "stream": 25,
    "hands": 2,
    "command": 2,
    "settings": 1,
    "style": 6,
    "midi": 4,
    "chords": 2,
    "take": 6,
    "chart": 6,
    "symbols": 6,
}
"""Percent of the inputs: the slow ones have fewer."""
LONGEST = 4096
"""Bytes of an input."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", choices=SHARES, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.only:
        _fuzz(given.only, given.inputs, given.seed)
        return
    table, broken, found = (
        Table("reader", "inputs", "s", "broke"),
        0,
        Path(tempfile.mkdtemp(prefix="jazzd-fuzz-")),
    )
    for name, share in SHARES.items():
        inputs, began = given.inputs * share // 100, time.monotonic()
        command = [
            sys.executable,
            "-m",
            "fuzz",
            "--only",
            name,
            "--inputs",
            str(inputs),
            "--seed",
            str(given.seed),
        ]
        log = found / f"{name}.log"
        with log.open("wb") as output:
            code = subprocess.run(command, stdout=output, stderr=output).returncode
        broken += code != 0
        what = f"exit {code}: {log}" if code else "no"
        table.add_row(name, f"{inputs:,}", f"{time.monotonic() - began:.0f}", what)
    Console().print(table)
    sys.exit(bool(broken))


def _fuzz(name: str, inputs: int, seed: int) -> None:
    import atheris

    with atheris.instrument_imports(include=["jazzd", "mido"]):
        from fuzz.targets import targets

    with tempfile.TemporaryDirectory(prefix="jazzd-fuzz-") as folder:
        target, corpus = targets(Path(folder))[name], Path(folder) / "corpus"
        corpus.mkdir()
        for number, text in enumerate(target.seeds):
            (corpus / str(number)).write_bytes(text)
        options = [f"-atheris_runs={inputs}", f"-seed={seed}", f"-max_len={LONGEST}", "-timeout=20"]
        atheris.Setup([sys.argv[0], *options, str(corpus)], target.read)
        # libFuzzer's timer would end a process that is done already, once Python has let go of signals.
        atexit.register(signal.setitimer, signal.ITIMER_REAL, 0)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
