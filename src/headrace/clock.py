"""The clock by which servers wait and measure: seconds that go on evenly, whatever is done to the wall clock.

They begin in step with the seconds since the epoch and look like these, but are no time of day: when somebody sets the
wall clock, the two part. What is shown to people is wall time: `shift` is what to add.
"""

from __future__ import annotations

import time

_monotonic = time.monotonic
_BEGINNING = time.time() - time.monotonic()


def now() -> float:
    """Seconds that never go back and never jump; comparable within this process only."""
    return _BEGINNING + _monotonic()


def shift() -> float:
    """What to add to a time of `now` for the time of day: the seconds by which the wall clock has been set since."""
    return time.time() - _BEGINNING - _monotonic()
