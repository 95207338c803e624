"""Ableton Link with a second, real peer, and without the package."""

import asyncio
import builtins
from typing import Any

import pytest
from aalink import Link
from structlog.testing import capture_logs

from jazzd.music.grid import Grid
from jazzd.player.clock import MonotonicClock
from jazzd.player.link import ableton_link

pytestmark = pytest.mark.in_time


async def test_the_beat_of_a_peer_is_ours() -> None:
    clock, peer = MonotonicClock(), Link(100)
    with ableton_link("auto", 120, clock) as beats:
        assert beats() is None, "alone there is no beat to share"
        peer.enabled = True
        found: Grid | None = None
        for _ in range(100):
            await asyncio.sleep(0.1)
            if found := beats():
                break
        assert found
        peer.tempo = 140
        await asyncio.sleep(0.5)
        found = beats()
        assert found
        assert found.bpm == pytest.approx(140, abs=0.1)
        assert found.beat(clock.now()) == pytest.approx(peer.beat, abs=0.05)
        peer.enabled = False
        for _ in range(100):
            await asyncio.sleep(0.1)
            if beats() is None:
                break
        assert beats() is None


async def test_without_the_package_there_is_a_word_and_no_link(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name == "aalink":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with capture_logs() as logged, ableton_link("link", 120, MonotonicClock()) as beats:
        assert beats() is None
    assert [event["event"] for event in logged] == ["no_ableton_link"]
    for source in ("auto", "bpm"):
        with capture_logs() as logged, ableton_link(source, 120, MonotonicClock()) as beats:
            assert beats() is None
        assert not logged
