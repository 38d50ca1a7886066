"""A task's story, as it is shown: the log of transitions holds plain tuples, which cost less."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from headrace.common.keys import Key


class Transition(NamedTuple):
    """A task has moved.

    Attributes:
        key: the task's.
        start, finish: from which state to which.
        recommendations: always empty here; transitions that follow have lines of their own.
        stimulus_id: what brought it about.
        timestamp: when, in seconds since the epoch.
    """

    key: Key
    start: str
    finish: str
    recommendations: dict[Key, str]
    stimulus_id: str
    timestamp: float


class ErredTask(NamedTuple):
    """A task has erred.

    Attributes:
        key: the task's.
        timestamp: when, in seconds since the epoch.
        erred_on: addresses of the workers on which it failed.
        exception_text, traceback_text: of its exception.
    """

    key: Key
    timestamp: float
    erred_on: set[str]
    exception_text: str
    traceback_text: str


def transitions(lines: Iterable[tuple[Key, str, str, str, float]]) -> list[Transition]:
    """The lines of a log as they are shown."""
    return [Transition(key, start, finish, {}, stimulus, now) for key, start, finish, stimulus, now in lines]
