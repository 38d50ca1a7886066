"""Calls a function again and again on the running loop."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from headrace.containment import contained, log_raised

logger = logging.getLogger("distributed.core")

#: Seconds between two lines about failures of one callback.
SECONDS_BETWEEN_LINES = 1.0


class PeriodicCallback:
    """Calls `callback` every so many milliseconds until it is stopped; never while the last call still runs.

    Args:
        callback: sync or async. Exceptions from it are logged, once a second.
        milliseconds: time from one call to the next; missed calls are left out, not caught up on.
    """

    def __init__(self, callback: Callable[[], Any], milliseconds: float) -> None:
        if milliseconds <= 0:
            raise ValueError(f"a period must be positive, not {milliseconds} ms")
        self.callback = callback
        self.callback_time = milliseconds
        self._loop: asyncio.AbstractEventLoop | None = None
        self._handle: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._next = 0.0
        self._said_at = float("-inf")
        self._left_out = 0

    def start(self) -> None:
        """Begin; the first call comes after one period. On the loop's thread only."""
        if self._handle is None:
            self._loop = asyncio.get_running_loop()
            self._next = self._loop.time()
            self._schedule()

    def change_period(self, milliseconds: float, seconds_to_next: float) -> None:
        """Go on with another period.

        Args:
            milliseconds: time from one call to the next.
            seconds_to_next: time to the next call, which does not come later than it would have come anyway.
        """
        self.callback_time = milliseconds
        if self._handle is not None and self._loop is not None:
            self._handle.cancel()
            self._next = min(self._next, self._loop.time() + seconds_to_next)
            self._handle = self._loop.call_at(self._next, self._run)

    def stop(self) -> None:
        """Stop calling. A call under way goes on."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def is_running(self) -> bool:
        """Whether the callback was started and not stopped."""
        return self._handle is not None

    def _schedule(self) -> None:
        assert self._loop is not None
        now, period = self._loop.time(), self.callback_time / 1000
        self._next = max(self._next + period, now + period * 0.1)
        self._handle = self._loop.call_at(self._next, self._run)

    def _run(self) -> None:
        if self._handle is None:
            return
        self._schedule()
        if self._task is not None:
            return
        try:
            result = self.callback()
        except BaseException as raised:
            self._say_raised(raised)
            return
        if inspect.isawaitable(result):
            assert self._loop is not None
            self._task = self._loop.create_task(self._await(result))

    async def _await(self, result: Awaitable[object]) -> None:
        try:
            await result
        except BaseException as raised:
            self._say_raised(raised, awaited=True)
        finally:
            self._task = None

    def _say_raised(self, raised: BaseException, awaited: bool = False) -> None:
        """Log a failure, once a second: a callback that fails each time must not decide how long the log gets."""
        assert self._loop is not None
        now = self._loop.time()
        if now - self._said_at < SECONDS_BETWEEN_LINES:
            contained(raised, awaited)  # lets exceptions pass that are not the callback's doing
            self._left_out += 1
            return
        more = f" ({self._left_out} more like this before)" if self._left_out else ""
        self._said_at, self._left_out = now, 0
        log_raised(logger, raised, f"Exception in periodic callback %r{more}", self.callback, awaited=awaited)
