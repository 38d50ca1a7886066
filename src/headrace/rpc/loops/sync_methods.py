"""Objects whose methods can be called with and without `await`: from the user's thread, or on the object's loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from headrace.config import parse_seconds

from .loop import sync


class SyncMethodMixin:
    """Gives `sync` to a class that has an attribute `loop`: an `IOLoop`, or anything with `.asyncio_loop`."""

    loop: Any

    @property
    def called_from_running_loop(self) -> bool:
        """Whether the caller is on this object's loop."""
        try:
            return self.loop.asyncio_loop is asyncio.get_running_loop()
        except RuntimeError:  # no loop runs here, or the object has none yet
            return False

    @property
    def asynchronous(self) -> bool:
        """Whether `sync` returns awaitables to this caller."""
        return self.called_from_running_loop

    def sync(
        self,
        func: Callable[..., Any],
        *args: object,
        asynchronous: bool | None = None,
        callback_timeout: float | str | None = None,
        **kwargs: object,
    ) -> Any:
        """Run a coroutine function on the object's loop and return its result; an awaitable when asynchronous.

        Args:
            asynchronous: whether to return an awaitable; found out by default.
            callback_timeout: seconds, or text such as "5s".

        Raises:
            TimeoutError: it took longer than `callback_timeout`.
        """
        if asynchronous or (asynchronous is None and self.asynchronous):
            work = func(*args, **kwargs)
            return work if callback_timeout is None else asyncio.wait_for(work, parse_seconds(callback_timeout))
        return sync(self.loop, func, *args, callback_timeout=callback_timeout, **kwargs)
