"""What can be asked of a running daemon, and its answers."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, get_args

from jazzd.errors import JazzdError
from jazzd.player.controls import KNOBS, Mode
from jazzd.player.manner import Start
from jazzd.player.session import Session

Answer = dict[str, Any] | Awaitable[dict[str, Any]]
LESSON_S = 5.0
"""A lesson that nobody asks about for so long is over: whoever gave it has gone."""
LARGEST = 1e9
"""No number that is asked for comes near it."""
CHOICES = {"mode": get_args(Mode), "start": get_args(Start)}


class Commands:
    """`report` makes the status; `reload` applies the settings `file` anew and says what has changed; `keep`
    writes a take."""

    def __init__(
        self,
        session: Session,
        report: Callable[[], dict[str, Any]],
        reload: Callable[[], dict[str, Any]],
        keep: Callable[[], Awaitable[dict[str, Any]]],
        file: Path | None,
    ) -> None:
        self._session, self._file = session, file
        self._lesson_over: asyncio.TimerHandle | None = None
        self._done: dict[str, Callable[[dict[str, Any]], Answer | None]] = {
            "status": lambda request: report(),
            "panic": lambda request: session.silence("command"),
            "reload": lambda request: reload(),
            "keep": lambda request: keep(),
            "styles": lambda request: {"styles": [style.model_dump() for style in session.styling.records]},
            "use": lambda request: session.use(_numbers(request.get("mix"))),
            "scene": lambda request: session.play_scene(str(request.get("name"))),
            "set": self._set,
            "choose": self._choose,
            "learn": lambda request: self._learn(str(request.get("control"))),
            "learnt": lambda request: self._learnt(),
            "unlearn": lambda request: session.controls.forget_lesson(str(request.get("control"))),
        }

    def answer(self, request: dict[str, Any]) -> Answer:
        """The answer to `{"do": ...}`. Raises JazzdError for what cannot be done."""
        wanted = request.get("do")
        if not isinstance(wanted, str) or wanted not in self._done:
            raise JazzdError(f"the daemon cannot do {wanted!r}; it can do {', '.join(self._done)}")
        return self._done[wanted](request) or {}

    def _set(self, request: dict[str, Any]) -> None:
        knobs = _numbers(request.get("knobs"))
        for knob, value in knobs.items():
            _check_knob(knob, value)
        self._session.check_knobs(knobs)
        for knob, value in knobs.items():
            self._session.turn(knob, value)

    def _choose(self, request: dict[str, Any]) -> None:
        wanted = {key: value for key, value in request.items() if key != "do"}
        for key, value in wanted.items():
            if value not in CHOICES.get(key, ()):
                known = "; ".join(f"{name}: {' '.join(choices)}" for name, choices in CHOICES.items())
                raise JazzdError(f"{key} cannot be {value!r}; there are {known}")
        self._session.set_manner(**wanted)

    def _learn(self, control: str) -> None:
        self._session.controls.learn(control)
        self._expect_a_question()

    def _expect_a_question(self) -> None:
        if self._lesson_over:
            self._lesson_over.cancel()
        forget = self._session.controls.forget_lesson
        self._lesson_over = asyncio.get_running_loop().call_later(LESSON_S, forget)

    def _learnt(self) -> dict[str, Any]:
        lesson, numbers = self._session.controls.lesson, self._session.controls.numbers
        if lesson:
            self._expect_a_question()
        return {
            "control": lesson and lesson.control,
            "number": lesson and lesson.number,
            "refused": lesson and lesson.refused,
            "gave_way": lesson and lesson.gave_way,
            "numbers": numbers,
            "file": self._file and str(self._file),
        }


def _numbers(given: object) -> dict[str, float]:
    """A JSON object of numbers, true and false not among them. Raises JazzdError."""
    if isinstance(given, dict) and all(
        type(number) in (int, float) and -LARGEST <= number <= LARGEST for number in given.values()
    ):
        return given
    raise JazzdError(f"{given!r}: an object of names and numbers is wanted")


def _check_knob(knob: str, value: float) -> None:
    if knob not in KNOBS:
        raise JazzdError(f"there is no knob {knob!r}; there are {', '.join(KNOBS)}")
    low, high = KNOBS[knob]
    if not low <= value <= high:
        raise JazzdError(f"{knob} goes from {low:g} to {high:g}, {value:g} is outside")
