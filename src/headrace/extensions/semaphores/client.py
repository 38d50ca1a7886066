"""The user's half of `Semaphore`: at most so many holders of a name at a time, in the whole cluster."""

from __future__ import annotations

import logging
import uuid
from collections import deque
from collections.abc import Callable, Generator, Hashable
from typing import TYPE_CHECKING, Any, TypeAlias, Unpack

from headrace.config import get as config_get
from headrace.config import parse_seconds, seconds_of
from headrace.rpc import PeriodicCallback
from headrace.rpc.held_locks import gave_lock, took_lock
from headrace.rpc.loops.sync_methods import SyncMethodMixin

from ..shared_objects import (
    Shared,
    SyncKeywords,
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
    import asyncio

    from headrace.client.client import Client
    from headrace.rpc import IOLoop, PooledRPCCall, rpc

    #: Requests to a scheduler as methods.
    SemaphoreProxy: TypeAlias = PooledRPCCall | rpc

logger = logging.getLogger("distributed.semaphore")


class Semaphore(Shared, SyncMethodMixin):
    """A semaphore that clients and tasks share by name.

    Leases of a client or worker that dies end `distributed.scheduler.locks.lease-timeout` after its connection has
    gone. Leases of one that lives are held until they are released.

    Args:
        max_leases: how many may hold it at a time.
        name: the same name is the same semaphore. Random by default.
        scheduler_rpc: proxy to talk to the scheduler by, instead of a client; leases are then kept up by messages.
        loop: the event loop to use with `scheduler_rpc`; by default the one that runs.
        client: the client to use; by default the one of the task or process that uses it.

    Raises:
        ValueError: `max_leases` is not positive.

    Examples:
        >>> semaphore = Semaphore(max_leases=2, name="database")  # doctest: +SKIP
        >>> def access(part, semaphore):
        ...     with semaphore:
        ...         return read(part)
        >>> futures = client.map(access, range(10), semaphore=semaphore)  # doctest: +SKIP
        >>> client.gather(futures)  # doctest: +SKIP
        >>> semaphore.close()  # doctest: +SKIP
    """

    #: True if the scheduler is to forget the semaphore when nobody holds it.
    _fleeting = False

    def __init__(
        self,
        max_leases: int = 1,
        name: Hashable = None,
        scheduler_rpc: SemaphoreProxy | None = None,
        loop: IOLoop | asyncio.AbstractEventLoop | None = None,
        client: Client | None = None,
    ) -> None:
        if not isinstance(max_leases, int) or max_leases < 1:
            raise ValueError(f"max_leases must be a positive integer, not {max_leases!r}")
        self.name = f"{type(self).__name__.lower()}-{uuid.uuid4().hex}" if name is None else hashable(name)
        self.max_leases = max_leases
        self.id = uuid.uuid4().hex
        self.refresh_callback: PeriodicCallback | None = None
        self._client = client
        self._rpc = scheduler_rpc
        self._loop = loop
        self._leases: deque[str] = deque()
        self._registered = False

    # Requests to the scheduler

    @property
    def scheduler(self) -> Any:
        """Proxy for requests to the scheduler."""
        return self._rpc if self._rpc is not None else self.client.scheduler

    @property
    def loop(self) -> Any:
        """The event loop that requests run on."""
        if self._rpc is None:
            return self.client.loop
        from headrace.rpc import IOLoop

        return IOLoop.current() if self._loop is None else IOLoop.of(self._loop)

    @property
    def asynchronous(self) -> bool:
        """True where methods return awaitables: on the loop of the client, or of `scheduler_rpc`."""
        return bool(self.client.asynchronous) if self._rpc is None else super().asynchronous

    def sync(
        self,
        func: Callable[..., Any],
        *args: object,
        asynchronous: bool | None = None,
        callback_timeout: float | str | None = None,
        **kwargs: object,
    ) -> Any:
        """Run a coroutine function on the loop and return its result; an awaitable when asynchronous."""
        run = self.client.sync if self._rpc is None else super().sync
        return run(func, *args, asynchronous=asynchronous, callback_timeout=callback_timeout, **kwargs)

    async def _ask(self, op: str, **kwargs: object) -> Any:
        if self._rpc is not None:
            return await getattr(self._rpc, op)(name=self.name, **kwargs)
        return await self.client._call(op, name=self.name, **kwargs)

    # Leases

    def register(self, **kwargs: Unpack[SyncKeywords]) -> Any:
        """Have the scheduler make the semaphore; otherwise it does so when the semaphore is first acquired.

        Raises:
            ValueError: there is one of this name with another `max_leases`.
        """
        return self.sync(self._register, **kwargs)

    async def _register(self) -> None:
        await self._ask("semaphore_register", max_leases=self.max_leases, lease_timeout=None, fleeting=self._fleeting)
        self._registered = True

    def __await__(self) -> Generator[Any, None, Any]:
        async def register() -> Any:
            await self._register()
            return self

        return register().__await__()

    def acquire(self, timeout: Timeout = None) -> Any:
        """Take a lease; True if it was had (awaitable with an asynchronous client).

        Args:
            timeout: seconds, or text such as "200ms", to wait; for ever by default.

        Raises:
            RuntimeError: it was closed.
            ValueError: there is one of this name with another `max_leases`.
        """
        who = {} if self._rpc is not None else holder(self.client)
        lease, seconds = uuid.uuid4().hex, seconds_of(timeout)

        async def give_back() -> None:
            if lease in self._leases:
                self._leases.remove(lease)
                await self._release(lease)

        return noted(
            unless_interrupted(self, lambda: self.sync(self._acquire, lease, seconds, who), give_back),
            took_lock,
        )

    async def _acquire(self, lease: str, seconds: float | None, who: dict[str, Any]) -> bool:
        make = {"max_leases": self.max_leases, "fleeting": self._fleeting}
        question = {"timeout": seconds, "lease_id": lease, **who}
        if self._fleeting or not self._registered:
            question.update(make)

        async def release(_: object = None) -> None:
            await self._ask("semaphore_release", lease_id=lease)

        if not await until_cancelled(self._ask("semaphore_acquire", **question), release, release):
            return False
        self._registered = True
        self._leases.append(lease)
        self._keep_up()
        return True

    def release(self) -> Any:
        """Give a lease up.

        Returns:
            Whether it was held until now. If not, it has ended: the connection of its holder was gone for too long.

        Raises:
            RuntimeError: this object holds none.
        """
        try:
            lease = self._leases.popleft()
        except IndexError:
            raise RuntimeError(
                f"Released too often: this {type(self).__name__} holds no lease of {self.name!r}"
            ) from None
        gave_lock()
        return self.sync(self._release, lease)

    async def _release(self, lease: str) -> bool:
        return bool(await to_the_end(self._give_up(lease)))

    async def _give_up(self, lease: str) -> bool:
        try:
            if await self._ask("semaphore_release", lease_id=lease):
                return True
            logger.warning("The lease of %r had ended before it was released", self.name)
        except OSError as error:
            logger.error("The lease of %r could not be released (%s): it will end by itself", self.name, error)
        return False

    def get_value(self) -> Any:
        """Ask how many leases are held, by anybody."""
        return self.sync(self._ask, "semaphore_value")

    def close(self) -> Any:
        """Have the scheduler forget the semaphore; calls that wait for it raise a `RuntimeError`."""
        return self.sync(self._close)

    async def _close(self) -> None:
        self._leases.clear()
        await self._ask("semaphore_close")

    # Refreshes: without a client, no connection tells the scheduler that the holder lives

    def _keep_up(self) -> None:
        if self._rpc is None or self.refresh_callback is not None:
            return
        timeout = parse_seconds(config_get("distributed.scheduler.locks.lease-timeout"))
        if timeout != float("inf"):
            self.refresh_callback = PeriodicCallback(self._refresh, 1000 * timeout / 5)
            self.refresh_callback.start()

    async def _refresh(self) -> None:
        if self._leases:
            await self._ask("semaphore_refresh_leases", lease_ids=list(self._leases))
        elif self.refresh_callback is not None:
            self.refresh_callback.stop()
            self.refresh_callback = None

    def __enter__(self) -> Any:
        self.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    async def __aenter__(self) -> Any:
        await awaited(self.acquire())
        return self

    async def __aexit__(self, *_: object) -> None:
        await awaited(self.release())

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.max_leases, self.name)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.name}>"
