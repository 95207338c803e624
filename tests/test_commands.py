"""What a running daemon is asked: numbers that are none, and lessons that nobody waits for."""

import asyncio
import json
from typing import Any

import pytest
from room import Room

from jazzd.errors import JazzdError
from jazzd.player import commands
from jazzd.player.commands import Commands


def asked(room: Room) -> Commands:
    async def keep() -> dict[str, Any]:
        return {}

    return Commands(room.session, dict, dict, keep, None)


@pytest.mark.parametrize("number", ["true", "1" + 400 * "0", "NaN", "Infinity", '"1"', "null"])
def test_a_knob_is_set_to_numbers_only(number: str) -> None:
    room = Room()
    before = dict(room.session.knobs)
    with pytest.raises(JazzdError, match="names and numbers"):
        asked(room).answer({"do": "set", "knobs": {"density": json.loads(number)}})
    assert room.session.knobs == before


async def test_a_lesson_is_over_when_nobody_asks_about_it_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "LESSON_S", 0.2)
    room = Room()
    ask = asked(room).answer
    ask({"do": "learn", "control": "density"})
    for _ in range(4):
        await asyncio.sleep(0.1)
        assert ask({"do": "learnt"})["control"] == "density"  # type: ignore[index]
    await asyncio.sleep(0.3)
    assert ask({"do": "learnt"})["control"] is None  # type: ignore[index]
    before = dict(room.session.controls.numbers)
    room.turn(99, 5)
    assert room.session.controls.numbers == before


async def test_who_stops_waiting_leaves_the_lesson_of_another_alone() -> None:
    room = Room()
    ask = asked(room).answer
    ask({"do": "learn", "control": "density"})
    ask({"do": "learn", "control": "temperature"})
    ask({"do": "unlearn", "control": "density"})
    room.turn(99, 5)
    told = ask({"do": "learnt"})
    assert (told["control"], told["number"]) == ("temperature", 99)  # type: ignore[index]
    ask({"do": "unlearn", "control": "temperature"})
    assert ask({"do": "learnt"})["control"] is None  # type: ignore[index]
