"""Deadlines, and warnings about what takes long."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from headrace.config import parse_seconds


class Deadline:
    """A time by which something must be done, or never. It is not moved when the wall clock is set.

    Args:
        expires_at: seconds since the epoch; `None` for never.

    Attributes:
        started_at: seconds since the epoch.
        started_at_mono, expires_at_mono: as of `time.monotonic`.
    """

    started_at: float
    started_at_mono: float
    expires_at_mono: float | None

    def __init__(self, expires_at: float | None = None) -> None:
        self.started_at = time.time()
        self.started_at_mono = time.monotonic()
        self.expires_at_mono = None if expires_at is None else self.started_at_mono + expires_at - self.started_at

    @classmethod
    def after(cls, duration: float | None = None) -> Deadline:
        """A deadline in so many seconds, or never."""
        made = cls()
        made.expires_at_mono = None if duration is None else made.started_at_mono + duration
        return made

    @property
    def expires(self) -> bool:
        """Whether it ever does."""
        return self.expires_at_mono is not None

    @property
    def expires_at(self) -> float | None:
        """Seconds since the epoch, as the wall clock goes now."""
        return None if self.expires_at_mono is None else time.time() + self.expires_at_mono - time.monotonic()

    @property
    def duration(self) -> float | None:
        """Seconds from its making to its end."""
        return None if self.expires_at_mono is None else self.expires_at_mono - self.started_at_mono

    @property
    def elapsed(self) -> float:
        """Seconds since its making."""
        return time.monotonic() - self.started_at_mono

    @property
    def remaining(self) -> float | None:
        """Seconds that are left, not less than 0."""
        return None if self.expires_at_mono is None else max(0.0, self.expires_at_mono - time.monotonic())

    @property
    def expired(self) -> bool:
        """Whether no time is left."""
        return self.remaining == 0


@contextmanager
def warn_on_duration(duration: str | float | timedelta, msg: str) -> Iterator[None]:
    """Warn if the body takes longer.

    Args:
        duration: seconds, or text such as "5s".
        msg: of the `UserWarning`; `{duration}` in it becomes the time that it took.
    """
    limit = duration.total_seconds() if isinstance(duration, timedelta) else parse_seconds(duration)
    start = time.monotonic()
    yield
    took = time.monotonic() - start
    if took > limit:
        warnings.warn(msg.format(duration=timedelta(seconds=took)), stacklevel=3)


class EmptyContext:
    """Does nothing, with `with` and `async with`."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        return None

    async def __aenter__(self) -> None:
        return None

    async def __aexit__(self, *_: object) -> None:
        return None
