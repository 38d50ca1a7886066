"""The clock by which servers wait and measure: its seconds go on evenly, even when somebody sets the wall clock.

The clock begins in step with the seconds since the epoch, and parts from the time of day when somebody sets the wall
clock. People are shown wall time: a time of this clock plus `shift`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from headrace.messages.spending import Spent, spend

T = TypeVar("T")

_monotonic = time.monotonic
_BEGINNING = time.time() - time.monotonic()


def now() -> float:
    """Seconds that never go back and never jump; comparable within this process only."""
    return _BEGINNING + _monotonic()


def shift() -> float:
    """Seconds to add to a time of `now` for the time of day: those by which the wall clock has been set since."""
    return time.time() - _BEGINNING - _monotonic()


def measured(spent: Spent, activity: str, function: Callable[[], T]) -> T:
    """What a function returns; its seconds are added to what was spent on the activity."""
    start = time.perf_counter()
    result = function()
    spend(spent, activity, time.perf_counter() - start)
    return result
