"""The user's half of `Lock`. It finds a client when first used, so it can be made and pickled without one."""

from __future__ import annotations

import uuid
from typing import Any

from headrace.config import parse_seconds


class Lock:
    """A lock that clients and tasks share by name.

    Args:
        name: of the lock; the same name is the same lock. Random by default.
        client: the client to use; by default the one of the task or process that uses the lock.
        scheduler_rpc, loop: accepted for compatibility.

    Examples:
        >>> lock = Lock("file.h5")  # doctest: +SKIP
        >>> with lock:  # doctest: +SKIP
        ...     write_to_the_file()
    """

    def __init__(self, name: Any = None, client: Any = None, scheduler_rpc: Any = None, loop: Any = None) -> None:
        self.name = f"lock-{uuid.uuid4().hex}" if name is None else name
        self.id = uuid.uuid4().hex
        self._client = client

    @property
    def client(self) -> Any:
        """The client that carries the requests.

        Raises:
            ValueError: there is none in this process.
        """
        if self._client is None:
            from headrace.worker import get_client

            self._client = get_client()
        return self._client

    def acquire(self, blocking: bool = True, timeout: float | str | None = None) -> Any:
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
        seconds = None if timeout is None else parse_seconds(timeout)
        return self.client.sync(self._acquire, seconds)

    async def _acquire(self, seconds: float | None) -> bool:
        return bool(await self.client.scheduler.lock_acquire(name=self.name, identifier=self.id, timeout=seconds))

    def release(self) -> Any:
        """Give the lock up.

        Raises:
            ValueError: this lock object does not hold it.
        """
        return self.client.sync(self._release)

    async def _release(self) -> None:
        await self.client.scheduler.lock_release(name=self.name, identifier=self.id)

    def locked(self) -> Any:
        """Whether anybody holds it."""
        return self.client.sync(self._locked)

    async def _locked(self) -> bool:
        return bool(await self.client.scheduler.lock_locked(name=self.name))

    def __enter__(self) -> Lock:
        self.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    async def __aenter__(self) -> Lock:
        await self._acquire(None)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._release()

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (self.name,))

    def __repr__(self) -> str:
        return f"<Lock: {self.name}>"
