"""`python -m chaos`, in tests/: faults at random moments for ten minutes, or an hour without any (`--calm`).

At the end nothing may hang, nothing but what was killed may have died, and all was well again in time; the
exit code is 1 otherwise. What happened stands as JSON on stdout.
"""

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path

from chaos.rage import rage
from chaos.soak import soak


def main() -> None:
    parser = argparse.ArgumentParser(prog="chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--patience", type=float, default=1.0, help="slack for a slow machine")
    parser.add_argument("--calm", action="store_true", help="no faults: a soak")
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="jazzd-chaos-"))
    if given.calm:
        found = soak(folder, given.seed, given.minutes)
    else:
        found = rage(folder, given.seed, given.minutes, given.patience)
    print(json.dumps(found))
    if found["broken"]:
        sys.exit(f"the logs are in {folder}")
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
