"""Comms kept open per address for requests, and the proxies that make calls look like methods."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from typing import Any

from headrace.comm import Comm, connect
from headrace.comm.addressing import normalize_address
from headrace.exceptions import RPCClosed

from .calls import send_recv

logger = logging.getLogger("distributed.core")

#: Idle comms kept, all addresses together.
IDLE_LIMIT = 512


class ConnectionPool:
    """Lends comms for requests; a comm that comes back is lent again.

    Args:
        limit: idle comms that are kept; beyond it, the least recently used are closed.
        deserialize: whether pickles in replies are loaded, or come as `Serialized`.
        connection_args: what `Security.get_connection_args` gives, or a function that gives it.
        timeout: seconds to connect; `None` as configured.
    """

    def __init__(
        self,
        limit: int = IDLE_LIMIT,
        deserialize: bool = True,
        connection_args: dict[str, Any] | None = None,
        timeout: float | str | None = None,
    ) -> None:
        self.limit = limit
        self.deserialize = deserialize
        self.connection_args = connection_args or {}
        self.timeout = timeout
        self.closed = False
        #: idle comms, least recently used first
        self._idle: OrderedDict[Comm, str] = OrderedDict()
        self._available: dict[str, list[Comm]] = {}
        self._lent: dict[Comm, str] = {}
        self._connecting: set[asyncio.Task[Comm]] = set()

    @property
    def active(self) -> int:
        """Comms that are lent."""
        return len(self._lent)

    @property
    def open(self) -> int:
        """Comms that are lent or idle."""
        return len(self._lent) + len(self._idle)

    def __repr__(self) -> str:
        return f"<ConnectionPool: open={self.open}, active={self.active}, connecting={len(self._connecting)}>"

    def __call__(self, address: str) -> rpc:
        """A proxy for the server at an address."""
        return rpc(address, pool=self)

    def rpc(self, address: str) -> rpc:
        """A proxy for the server at an address."""
        return rpc(address, pool=self)

    async def connect(self, address: str, timeout: float | str | None = None) -> Comm:
        """Lend a comm; give it back with `reuse`, or close it.

        Raises:
            RPCClosed: the pool is closed.
            OSError: see `headrace.comm.connect`.
        """
        if self.closed:
            raise RPCClosed(f"the connection pool is closed: cannot call {address}")
        address = normalize_address(address)
        available = self._available.get(address)
        while available:
            comm = available.pop()
            del self._idle[comm]
            if not available:
                self._available.pop(address, None)
            if not comm.closed():
                self._lent[comm] = address
                return comm
        task = asyncio.get_running_loop().create_task(
            connect(
                address,
                timeout=self.timeout if timeout is None else timeout,
                deserialize=self.deserialize,
                **self.connection_args,
            )
        )
        self._connecting.add(task)
        try:
            comm = await task
        except asyncio.CancelledError:
            if self.closed and not _being_cancelled():
                raise RPCClosed(f"the connection pool was closed while connecting to {address}") from None
            raise
        finally:
            self._connecting.discard(task)
            if not task.done():
                task.cancel()
        if self.closed:
            comm.abort()
            raise RPCClosed(f"the connection pool was closed while connecting to {address}")
        comm.name = "ConnectionPool"
        self._lent[comm] = address
        return comm

    def reuse(self, address: str, comm: Comm) -> None:
        """Take back a comm on which no reply is outstanding."""
        address = self._lent.pop(comm, "") or normalize_address(address)
        if comm.closed():
            return
        if self.closed:
            comm.abort()
            return
        self._idle[comm] = address
        self._available.setdefault(address, []).append(comm)
        if len(self._idle) > self.limit:
            self.collect()

    def forget(self, comm: Comm) -> None:
        """A lent comm will not come back: it is closed, or has become a stream."""
        self._lent.pop(comm, None)

    def collect(self) -> None:
        """Close the idle comms that are over the limit, and forget those that have closed."""
        for comm in [comm for comm in self._idle if comm.closed()]:
            self._drop(comm)
        while len(self._idle) > self.limit:
            self._drop(next(iter(self._idle)))

    def remove(self, address: str, reason: str = "Address removed.") -> None:
        """Close all comms to an address (its server is gone); calls under way fail."""
        address = normalize_address(address)
        for comm in list(self._available.get(address, ())):
            self._drop(comm)
        for comm in [comm for comm, lent_to in self._lent.items() if lent_to == address]:
            logger.debug("Closing %r: %s", comm, reason)
            self._lent.pop(comm, None)
            comm.abort()

    def _drop(self, comm: Comm) -> None:
        address = self._idle.pop(comm)
        available = self._available[address]
        available.remove(comm)
        if not available:
            del self._available[address]
        comm.abort()

    async def close(self) -> None:
        """Close all comms; calls under way fail, later ones raise `RPCClosed`."""
        self.closed = True
        connecting = list(self._connecting)
        for task in connecting:
            task.cancel()
        if connecting:
            await asyncio.wait(connecting)
        idle, lent = list(self._idle), list(self._lent)
        self._idle.clear()
        self._available.clear()
        self._lent.clear()
        for comm in lent:
            comm.abort()
        await asyncio.gather(*[comm.close() for comm in idle + lent], return_exceptions=True)

    async def __aenter__(self) -> ConnectionPool:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


class rpc:
    """Makes a server's operations look like methods: `await rpc("tcp://…").identity()`.

    Args:
        address: of the server.
        pool: where comms come from; without one the proxy has its own, which `close_rpc` closes.
        kwargs: for a pool of its own, see `ConnectionPool`.
    """

    def __init__(self, address: str, pool: ConnectionPool | None = None, **kwargs: Any) -> None:
        self.address = normalize_address(address)
        self._owned = pool is None
        self._pool = pool if pool is not None else ConnectionPool(**kwargs)
        self._closed = False

    def __getattr__(self, op: str) -> Callable[..., Coroutine[Any, Any, Any]]:
        if op.startswith("__"):
            raise AttributeError(op)

        async def call(**kwargs: Any) -> Any:
            return await self.call(op, **kwargs)

        return call

    async def call(self, op: str, **kwargs: Any) -> Any:
        """Call an operation by name; see `send_recv` for what is raised."""
        if self._closed:
            raise RPCClosed(f"this rpc is closed: cannot call {op!r} of {self.address}")
        pool = self._pool
        comm = await pool.connect(self.address)
        previous, comm.name = comm.name, op
        try:
            return await send_recv(comm, op=op, **kwargs)
        finally:
            comm.name = previous
            pool.reuse(self.address, comm)

    async def close_rpc(self) -> None:
        """No more calls through this proxy; closes the pool if it is the proxy's own."""
        self._closed = True
        if self._owned:
            await self._pool.close()

    async def __aenter__(self) -> rpc:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close_rpc()

    def __repr__(self) -> str:
        return f"<rpc to {self.address!r}>"


def _being_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
