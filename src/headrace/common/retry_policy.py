"""Retry policies as they travel, and the time that a failed task waits by them. Pure.

On the wire a policy is a plain dictionary among a task's annotations, under "retries": `count`, `delay`, `backoff`,
`maximum_delay` (None for none), `jitter` and `on` (names of exception classes; empty for all). The scheduler counts the
attempts and waits; the worker tells whether an exception is one of `on`, since it alone may unpickle the exception.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from zlib import crc32

#: Seconds that no task waits longer than, whatever its policy multiplies up to.
LONGEST = 10.0 * 365 * 24 * 3600

_NUMBERS = ("delay", "backoff", "jitter")


def policy_of(annotations: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The retry policy among a task's annotations; None without one, or for a plain number of retries."""
    policy = annotations.get("retries")
    return policy if isinstance(policy, Mapping) else None


def problem_of_policy(policy: Mapping[str, Any]) -> str | None:
    """A text about the first fault of a policy that came over the wire; None if the policy is valid."""
    for name in _NUMBERS:
        if not _is_amount(policy.get(name)):
            return f"a retry policy's {name!r} must be a number that is not negative, not {policy.get(name)!r}"
    maximum = policy.get("maximum_delay")
    if maximum is not None and not _is_amount(maximum):
        return f"a retry policy's 'maximum_delay' must be a number that is not negative, or None, not {maximum!r}"
    if type(policy.get("count")) is not int or policy["count"] < 0:
        return f"a retry policy's 'count' must be a whole number that is not negative, not {policy.get('count')!r}"
    return None


def _is_amount(value: object) -> bool:
    """Whether a value is a number that is not negative; True, False and nan are none."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value >= 0


def seconds_before(policy: Mapping[str, Any], attempt: int, key: object) -> float:
    """Seconds that a task waits before it is tried again.

    They are `delay * backoff ** (attempt - 1)`, at most `maximum_delay`, and then more or less by a share of up to
    `jitter`. The share is derived from key and attempt, so that the same events give the same times.

    Args:
        attempt: 1 for the first retry.
    """
    try:
        seconds = float(policy["delay"]) * float(policy["backoff"]) ** (attempt - 1)
    except OverflowError:
        seconds = LONGEST
    maximum = policy.get("maximum_delay")
    if maximum is not None:
        seconds = min(seconds, float(maximum))
    drawn = crc32(repr((key, attempt)).encode()) / 2**32
    seconds *= 1 + float(policy["jitter"]) * (2 * drawn - 1)
    return min(max(seconds, 0.0), LONGEST)


def names_of(kind: type) -> list[str]:
    """Qualified names of an exception class and its bases."""
    return [f"{base.__module__}.{base.__qualname__}" for base in kind.__mro__]


def matches(policy: Mapping[str, Any], error: BaseException) -> bool:
    """Whether a policy has a task tried again after this exception.

    Classes are compared by qualified names: those pickled by value, or defined in `__main__`, are other objects here.
    """
    wanted = policy.get("on")
    return not wanted or any(name in wanted for name in names_of(type(error)))
