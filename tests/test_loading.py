"""A device without enough memory: fewer styles, then the CPU. The device is a pretended one."""

from collections.abc import Callable
from pathlib import Path

import jax
import pytest
from structlog.testing import capture_logs

from jazzd.engine import loading
from jazzd.errors import ModelError
from jazzd.moonbeam import resident

Attempt = tuple[str, int]
FULL = "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 4294967296 bytes."


@pytest.fixture
def attempts(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Attempt]]:
    """Loads with a device that has memory for no more than so many styles, -1 for none; what was tried."""

    def attempt(room: int, gpu: bool, room_on_cpu: int = 999, error: str = FULL) -> list[Attempt]:
        tried: list[Attempt] = []

        def load(base: str, dtype: None, numerics: None, device: str, styles: Path, count: int) -> str:
            tried.append((device, count))
            if count > (room_on_cpu if device == "cpu" else room):
                raise jax.errors.JaxRuntimeError(error)
            return "loaded"

        monkeypatch.setattr(loading, "_load", load)
        monkeypatch.setattr(resident, "leave_gpu", lambda: gpu)
        with capture_logs() as logs:
            try:
                loading.load("big", None, None, "auto", Path(), 32)
            finally:
                assert [log["resident_styles"] for log in logs] == [count for _, count in tried[: len(logs)]]
        return tried

    return attempt


def test_with_enough_memory_there_is_one_attempt(attempts: Callable[..., list[Attempt]]) -> None:
    assert attempts(32, gpu=True) == [("auto", 32)]


def test_fewer_styles_come_before_the_cpu(attempts: Callable[..., list[Attempt]]) -> None:
    assert attempts(8, gpu=True) == [("auto", 32), ("auto", 4)]
    assert attempts(-1, gpu=True) == [("auto", 32), ("auto", 4), ("cpu", 32)]


def test_memory_that_is_nowhere_is_one_sentence(attempts: Callable[..., list[Attempt]]) -> None:
    with pytest.raises(ModelError, match="the base big does not fit the memory"):
        attempts(-1, gpu=False)
    with pytest.raises(ModelError, match="the base big does not fit the memory"):
        attempts(-1, gpu=True, room_on_cpu=-1)


def test_other_errors_of_a_device_are_no_lack_of_memory(attempts: Callable[..., list[Attempt]]) -> None:
    with pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL"):
        attempts(-1, gpu=True, error="INTERNAL: the driver went away")


def test_on_a_machine_without_a_gpu_there_is_none_to_leave() -> None:
    assert not resident.leave_gpu()
