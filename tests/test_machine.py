"""The description of the machine that goes with every figure."""

import datetime
import json

from jazzd.bench import machine


def test_a_figure_says_where_and_with_what_it_was_measured() -> None:
    found = machine.describe()
    assert json.loads(json.dumps(found)) == found
    assert found["hardware"]["cpu"]
    assert found["hardware"]["cores"] >= 1
    assert {"python", "jax", "numpy"} <= found["versions"].keys()
    assert datetime.datetime.fromisoformat(found["date"]).tzinfo is not None
