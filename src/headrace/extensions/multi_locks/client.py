"""The user's half of `MultiLock`: locks by several names at once, without two waiting for each other."""

from __future__ import annotations

import logging
import threading
import uuid
from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from headrace.config import seconds_of
from headrace.rpc.held_locks import gave_lock, took_lock

from ..shared_objects import (
    Shared,
    Timeout,
    awaited,
    hashable,
    holder,
    noted,
    to_the_end,
    unless_interrupted,
    until_cancelled,
)

if TYPE_CHECKING:
    from headrace.client.client import Client

logger = logging.getLogger("distributed.multi_lock")


class MultiLock(Shared):
    """Several locks that clients and tasks share by name, taken together.

    Locks of a client or worker that dies are free again `distributed.scheduler.locks.lease-timeout` after its
    connection has gone.

    Args:
        names: of the locks; the same name is the same lock.
        client: the client to use; by default the one of the task or process that uses the lock.

    Examples:
        >>> lock = MultiLock(["x", "y"])  # doctest: +SKIP
        >>> lock.acquire(timeout=1)  # doctest: +SKIP
        >>> # do things with protected resource 'x' and 'y'
        >>> lock.release()  # doctest: +SKIP
    """

    def __init__(self, names: Iterable[str] | None = None, client: Client | None = None) -> None:
        self.names = [hashable(name) for name in names or []]
        self._client = client
        #: identifiers of the leases that this object holds, and the threads that took them
        self._leases: deque[tuple[str, int]] = deque()

    def acquire(self, blocking: bool = True, timeout: Timeout = None, num_locks: int | None = None) -> Any:
        """Take the locks; True if they were had (awaitable with an asynchronous client).

        Args:
            blocking: whether to wait if they are taken.
            timeout: seconds, or text such as "5s", to wait; for ever by default.
            num_locks: how many of them are needed; all by default.

        Raises:
            ValueError: a timeout was given to a call that is not to wait; or `num_locks` is more than there are.
            RuntimeError: this thread holds them already by this object, and would wait for itself.
        """
        if not blocking:
            if timeout is not None:
                raise ValueError("can't specify a timeout for a non-blocking call")
            timeout = 0
        if num_locks is not None and not 0 <= num_locks <= len(self.names):
            raise ValueError(f"num_locks must be from 0 to the number of names ({len(self.names)}), not {num_locks}")
        client, thread = self.client, threading.get_ident()
        if not client.asynchronous and self._taken_by(thread) is not None:
            raise RuntimeError(f"{self!r} is held by this object already: release it first")
        lease, seconds, who = uuid.uuid4().hex, seconds_of(timeout), holder(client)

        async def give_back() -> None:
            if (lease, thread) in self._leases:
                self._leases.remove((lease, thread))
                await self._release(lease)

        return noted(
            unless_interrupted(
                client, lambda: client.sync(self._acquire, lease, seconds, num_locks, who, thread), give_back
            ),
            took_lock,
        )

    async def _acquire(
        self, lease: str, seconds: float | None, num_locks: int | None, who: dict[str, Any], thread: int
    ) -> bool:
        request = self.client._call(
            "multi_lock_acquire", locks=self.names, id=lease, timeout=seconds, num_locks=num_locks, **who
        )

        async def release(_: object = None) -> None:
            await self.client._call("multi_lock_release", id=lease)

        if not await until_cancelled(request, release, release):
            return False
        self._leases.append((lease, thread))
        return True

    def _taken_by(self, thread: int) -> tuple[str, int] | None:
        return next((taken for taken in list(self._leases) if taken[1] == thread), None)

    def release(self) -> Any:
        """Give the locks up.

        Raises:
            ValueError: this object does not hold them.
        """
        taken = self._taken_by(threading.get_ident())
        try:
            taken = taken or self._leases[0]
            self._leases.remove(taken)
        except (IndexError, ValueError):
            raise ValueError("Lock is not yet acquired") from None
        gave_lock()
        return self.client.sync(self._release, taken[0])

    async def _release(self, lease: str) -> None:
        await to_the_end(self._give_up(lease))

    async def _give_up(self, lease: str) -> None:
        if not await self.client._call("multi_lock_release", id=lease):
            logger.warning("The lease of %r had ended before it was released", self.names)

    def locked(self) -> bool:
        """Tell whether this object holds the locks."""
        return bool(self._leases)

    def __enter__(self) -> MultiLock:
        self.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    async def __aenter__(self) -> MultiLock:
        await awaited(self.acquire())
        return self

    async def __aexit__(self, *_: object) -> None:
        await awaited(self.release())

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.names,)

    def __repr__(self) -> str:
        return f"<MultiLock: {', '.join(map(str, self.names))}>"
