"""Stories of tasks, compared with those that a test expects."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headrace import Worker


#: Seconds that a line of a story may be old.
_OLDEST = 3600


def assert_valid_story(story: list[tuple[Any, ...]], ordered_timestamps: bool = True) -> None:
    """Fail unless all lines of a story end with a stimulus (text) and a time, and times do not go back.

    Args:
        story: of `Worker.story` or `Scheduler.story`.
        ordered_timestamps: whether times must not go back; not so for a story put together from several servers.

    Raises:
        AssertionError: a line has no stimulus, or a time that is more than an hour ago or still to come.
    """
    latest = now = time.time()
    latest -= _OLDEST
    for line in story:
        assert isinstance(line, tuple), _malformed(line, "it is no tuple")
        assert len(line) >= 3, _malformed(line, "it is too short for a subject, a stimulus and a time")
        stimulus, moment = line[-2:]
        assert isinstance(stimulus, str), _malformed(line, "no stimulus stands before the last place")
        assert stimulus, _malformed(line, "its stimulus is empty")
        assert isinstance(moment, float), _malformed(line, "no time stands at the end")
        assert moment <= now + 1, _malformed(line, "its time has not come yet")
        assert moment >= latest, _malformed(line, f"its time is before {latest}")
        if ordered_timestamps:
            latest = moment


def _malformed(line: object, why: str) -> str:
    return f"Malformed story event: {line}: {why}"


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
        assert found, _failed(story, strict, f"{expected} is not in its place")
    rest = list(lines)
    assert not (strict and rest), _failed(story, strict, f"not expected at the end: {rest}")


def _failed(story: list[tuple[Any, ...]], strict: bool, why: str) -> str:
    return f"assert_story({strict=}) failed: {why} in\n" + "\n".join(map(str, story))


def _fits(line: tuple[Any, ...], expected: tuple[Any, ...]) -> bool:
    if len(expected) not in (len(line), len(line) - 2):
        return False
    return all(
        wanted(value) if callable(wanted) else wanted == value for value, wanted in zip(line, expected, strict=False)
    )


async def wait_for_stimulus(
    type_: type | tuple[type, ...], dask_worker: Worker, *, interval: float = 0.01, **matches: object
) -> Any:
    """Wait until a worker's state has taken an event of a type (or one of several), and return the first such.

    The worker must have been made with `validate=True`, as `gen_cluster` does: only then are events kept.

    Args:
        matches: attributes that it must have, with these values.
    """
    log = dask_worker.state.stimulus_log
    wanted = type_ if isinstance(type_, tuple) else (type_,)
    for documented in wanted:  # the worker's own events have shorter names
        wanted += getattr(documented, "core", ())
    while True:
        for event in log:
            if isinstance(event, wanted) and all(getattr(event, name) == value for name, value in matches.items()):
                return event
        await asyncio.sleep(interval)
