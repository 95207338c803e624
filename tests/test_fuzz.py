"""A little of `make fuzz`, for every day: seeds with some bytes turned, cut out and put in."""

import pytest
from fuzz.__main__ import SHARES
from fuzz.targets import Target, targets
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

EXAMPLES = 60


@pytest.fixture(scope="module")
def readers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Target]:
    return targets(tmp_path_factory.mktemp("fuzz"))


@pytest.mark.parametrize("name", SHARES)
@settings(
    max_examples=EXAMPLES, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(data=st.data())
def test_a_reader_refuses_and_does_nothing_worse(
    name: str, readers: dict[str, Target], data: st.DataObject
) -> None:
    target = readers[name]
    text = bytearray(data.draw(st.sampled_from(target.seeds)))
    for _ in range(data.draw(st.integers(0, 6))):
        at = data.draw(st.integers(0, max(0, len(text) - 1)))
        match data.draw(st.sampled_from(("turn", "cut", "put"))):
            case "turn":
                text[at : at + 1] = bytes([data.draw(st.integers(0, 255))])
            case "cut":
                del text[at : at + data.draw(st.integers(1, 30))]
            case "put":
                text[at:at] = data.draw(st.binary(min_size=1, max_size=20))
    target.read(bytes(text))


@pytest.mark.parametrize(
    "played",
    [
        "903c 9f400d 4000 0101 003a 0000 0040 0d40",  # struck and lifted just before all notes off
        "903c40 bf4040 90433c 40bf4040 904321 3c00 213c 00",  # and with a pedal down
    ],
)
def test_nothing_sounds_after_all_notes_off(readers: dict[str, Target], played: str) -> None:
    readers["hands"].read(bytes.fromhex(played))


def test_every_reader_is_named(readers: dict[str, Target]) -> None:
    assert list(readers) == list(SHARES)
    assert sum(SHARES.values()) == 100
