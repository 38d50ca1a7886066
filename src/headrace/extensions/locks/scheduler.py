"""The scheduler's half of `Lock`: who holds each name, and who waits for it, first come first served.

A request waits here until it is granted, its time is over, or its connection breaks; nobody polls.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

from headrace.comm import Comm


class LockExtension:
    """Locks by name: the holder's identifier and the requests that wait."""

    def __init__(self, scheduler: Any) -> None:
        self.scheduler = scheduler
        self.holders: dict[str, str] = {}
        self.waiting: dict[str, deque[tuple[str, Comm, asyncio.Future[None]]]] = {}
        scheduler.server.handlers.update(lock_acquire=self.acquire, lock_release=self.release, lock_locked=self.locked)

    async def acquire(self, comm: Comm, name: str, identifier: str, timeout: float | None = None) -> bool:
        """Grant the lock to an identifier, in turn; False when `timeout` seconds were not enough.

        Args:
            timeout: seconds to wait; 0 to take the lock only if it is free, `None` to wait for ever.
        """
        if name not in self.holders:
            self.holders[name] = identifier
            return True
        if timeout is not None and timeout <= 0:
            return False
        granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queue = self.waiting.setdefault(name, deque())
        entry = (identifier, comm, granted)
        queue.append(entry)
        try:
            async with asyncio.timeout(timeout):
                await granted
        except TimeoutError:
            return granted.done() and not granted.cancelled()
        finally:
            if entry in queue:
                queue.remove(entry)
            if not queue and self.waiting.get(name) is queue:
                del self.waiting[name]
        return True

    def release(self, name: str, identifier: str) -> None:
        """Give the lock up, to whoever waits longest.

        Raises:
            ValueError: the identifier does not hold it.
        """
        if self.holders.get(name) != identifier:
            raise ValueError(f"lock {name!r} is not held by {identifier!r}: it was released already, or never acquired")
        self._pass_on(name)

    def _pass_on(self, name: str) -> None:
        queue = self.waiting.get(name)
        while queue:
            identifier, comm, granted = queue.popleft()
            if not granted.done() and not comm.closed():
                self.holders[name] = identifier
                granted.set_result(None)
                return
        self.holders.pop(name, None)

    def locked(self, name: str) -> bool:
        """Whether somebody holds it."""
        return name in self.holders
