"""Stories of tasks, compared with those that a test expects."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headrace import Worker


def assert_valid_story(story: list[tuple[Any, ...]], ordered_timestamps: bool = True) -> None:
    """Fail unless all lines of a story end with a stimulus (text) and a time, and times do not go back.

    Args:
        story: of `Worker.story` or `Scheduler.story`.
        ordered_timestamps: whether times must not go back; not so for a story put together from several servers.
    """
    latest = float("-inf")
    for line in story:
        assert isinstance(line, tuple), f"{line} is no tuple"
        assert len(line) >= 2, f"{line} is too short for a stimulus and a time"
        assert isinstance(line[-2], str), f"no stimulus stands before the last place of {line}"
        assert isinstance(line[-1], float), f"no time stands at the end of {line}"
        assert line[-1] <= time.time() + 1, f"the time at the end of {line} has not come yet"
        assert not ordered_timestamps or line[-1] >= latest, f"{line} is older than the line before it"
        latest = line[-1]


def assert_story(
    story: list[tuple[Any, ...]],
    expect: list[tuple[Any, ...]],
    *,
    strict: bool = False,
    ordered_timestamps: bool = True,
) -> None:
    """Fail unless the expected lines stand in a story, in this order.

    Args:
        story: of `Worker.story` or `Scheduler.story`.
        expect: lines, whole or without stimulus and time; a function in them is asked whether it likes what stands in
            its place.
        strict: whether other lines may not stand between them.
        ordered_timestamps: see `assert_valid_story`.
    """
    assert_valid_story(story, ordered_timestamps=ordered_timestamps)
    lines = iter(story)
    for expected in expect:
        if strict:
            line = next(lines, None)
            found = line is not None and _fits(line, expected)
        else:
            found = any(_fits(line, expected) for line in lines)
        assert found, f"{expected} is not in its place in\n" + "\n".join(map(str, story))
    rest = list(lines)
    assert not (strict and rest), f"not expected at the end: {rest}"


def _fits(line: tuple[Any, ...], expected: tuple[Any, ...]) -> bool:
    if len(expected) not in (len(line), len(line) - 2):
        return False
    return all(
        wanted(value) if callable(wanted) else wanted == value for value, wanted in zip(line, expected, strict=False)
    )


async def wait_for_stimulus(
    type_: type | tuple[type, ...], dask_worker: Worker, *, interval: float = 0.01, **matches: object
) -> Any:
    """Wait until a worker's state has taken an event of a type (or one of several), and return the latest.

    The worker must have been made with `validate=True`, as `gen_cluster` does: only then are events kept.

    Args:
        matches: attributes that it must have, with these values.
    """
    log = dask_worker.state.stimulus_log
    wanted = type_ if isinstance(type_, tuple) else (type_,)
    for documented in wanted:  # the worker's own events have shorter names
        wanted += getattr(documented, "core", ())
    while True:
        for event in reversed(log):
            if isinstance(event, wanted) and all(getattr(event, name) == value for name, value in matches.items()):
                return event
        await asyncio.sleep(interval)
