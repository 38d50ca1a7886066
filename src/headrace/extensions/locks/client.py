"""The user's half of `Lock`: a semaphore with one lease, which the scheduler forgets when it is free."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING, Any

from headrace.extensions.semaphores import Semaphore

from ..shared_objects import Timeout

if TYPE_CHECKING:
    import asyncio

    from headrace.client.client import Client
    from headrace.rpc import IOLoop

    from ..semaphores.client import SemaphoreProxy


class Lock(Semaphore):
    """A lock that clients and tasks share by name.

    A lock of a client or worker that dies is free again `distributed.scheduler.locks.lease-timeout` after its
    connection has gone. A lock of one that lives is held until the object that acquired it releases it.

    Args:
        name: of the lock; the same name is the same lock. Random by default.
        scheduler_rpc, loop: see `Semaphore`.
        client: the client to use; by default the one of the task or process that uses the lock.

    Examples:
        >>> lock = Lock("file.h5")  # doctest: +SKIP
        >>> with lock:  # doctest: +SKIP
        ...     write_to_the_file()
    """

    _fleeting = True

    def __init__(
        self,
        name: Hashable = None,
        scheduler_rpc: SemaphoreProxy | None = None,
        loop: IOLoop | asyncio.AbstractEventLoop | None = None,
        client: Client | None = None,
    ) -> None:
        super().__init__(1, name, scheduler_rpc, loop, client)

    def acquire(self, blocking: bool = True, timeout: Timeout = None) -> Any:  # type: ignore[override]
        """Take the lock; True if it was had (awaitable with an asynchronous client).

        Args:
            blocking: whether to wait if it is taken.
            timeout: seconds, or text such as "5s", to wait; for ever by default.

        Raises:
            ValueError: a timeout was given to a call that is not to wait.
        """
        if not blocking:
            if timeout is not None:
                raise ValueError("can't specify a timeout for a non-blocking call")
            timeout = 0
        return super().acquire(timeout)

    def locked(self) -> Any:
        """Ask whether anybody holds the lock."""
        return self.sync(self._locked)

    async def _locked(self) -> bool:
        return bool(await self._ask("semaphore_value"))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.name,)
