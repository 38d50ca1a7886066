"""A pool of comms that stay open for requests to the same address, and proxies that make calls look like methods."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Generator
from functools import partial
from typing import Any, Self

from headrace.comm import Comm, connect
from headrace.comm.addressing import normalize_address
from headrace.exceptions import RPCClosed

from .requests import send_recv

logger = logging.getLogger("distributed.core")

#: Idle comms kept, all addresses together.
IDLE_LIMIT = 512


class ConnectionPool:
    """Lends comms for requests; a comm that comes back is lent again.

    Args:
        limit: number of idle comms to keep; beyond it, the least recently used are closed.
        deserialize: whether pickles in replies are loaded, or come as `Serialized`.
        connection_args: what `Security.get_connection_args` gives, or a function that gives it.
        timeout: seconds to connect; `None` as configured.
        serializers, allow_offload, deserializers, server: accepted for compatibility.
    """

    def __init__(
        self,
        limit: int = IDLE_LIMIT,
        deserialize: bool = True,
        serializers: object = None,
        allow_offload: bool = True,
        deserializers: object = None,
        connection_args: dict[str, Any] | None = None,
        timeout: float | str | None = None,
        server: object = None,
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
        """Number of comms that are lent."""
        return len(self._lent)

    @property
    def open(self) -> int:
        """Number of comms that are lent or idle."""
        return len(self._lent) + len(self._idle)

    def __repr__(self) -> str:
        return f"<ConnectionPool: open={self.open}, active={self.active}, connecting={len(self._connecting)}>"

    def __await__(self) -> Generator[Any, None, Self]:
        return self.start().__await__()

    async def start(self) -> Self:
        """Return the pool, which needs no preparation; for compatibility."""
        return self

    def __call__(self, addr: str | None = None, ip: str | None = None, port: int | None = None) -> PooledRPCCall:
        """A proxy for the server at an address, or at a host and a port."""
        return PooledRPCCall(addr if addr is not None else f"{ip}:{port}", self)

    def rpc(self, address: str) -> PooledRPCCall:
        """A proxy for the server at an address."""
        return PooledRPCCall(address, self)

    async def connect(self, addr: str, timeout: float | str | None = None, retry_refused: bool = True) -> Comm:
        """Lend a comm; give it back with `reuse`, or close it. The arguments are those of `headrace.comm.connect`.

        Raises:
            RPCClosed: the pool is closed.
            OSError: see `headrace.comm.connect`.
        """
        address = normalize_address(addr)
        if self.closed:
            raise RPCClosed(f"the connection pool is closed: cannot call {address}")
        available = self._available.get(address)
        while available:
            comm = available.pop()
            del self._idle[comm]
            comm.when_closed = None
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
                retry_refused=retry_refused,
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

    def reuse(self, addr: str, comm: Comm) -> None:
        """Take back a comm on which no reply is outstanding."""
        address = self._lent.pop(comm, "") or normalize_address(addr)
        if comm.closed():
            return
        if self.closed:
            comm.abort()
            return
        self._idle[comm] = address
        self._available.setdefault(address, []).append(comm)
        # A turn later: the code that closes the comm may be about to look at the pool.
        comm.when_closed = partial(asyncio.get_running_loop().call_soon, self._forget_closed, comm)
        if len(self._idle) > self.limit:
            self.collect()

    def forget(self, comm: Comm) -> None:
        """Count a lent comm no more: it is closed, or has become a stream, and will not come back."""
        self._lent.pop(comm, None)

    def collect(self) -> None:
        """Forget the idle comms that have closed, and close those beyond the limit."""
        for comm in [comm for comm in self._idle if comm.closed()]:
            self._drop(comm)
        while len(self._idle) > self.limit:
            self._drop(next(iter(self._idle)))

    def remove(self, addr: str, *, reason: str = "Address removed.") -> None:
        """Close all comms to an address (its server is gone); calls under way fail."""
        address = normalize_address(addr)
        for comm in list(self._available.get(address, ())):
            self._drop(comm)
        for comm in [comm for comm, lent_to in self._lent.items() if lent_to == address]:
            logger.debug("Closing %r: %s", comm, reason)
            self._lent.pop(comm, None)
            comm.abort()

    def _forget_closed(self, comm: Comm) -> None:
        """Forget an idle comm that the other end has closed."""
        if comm in self._idle:
            self._drop(comm)

    def _drop(self, comm: Comm) -> None:
        address = self._idle.pop(comm)
        comm.when_closed = None
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
        for comm in idle:
            comm.when_closed = None
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


class _Calls:
    """A base of proxies: the server's operations look like methods."""

    address: str
    _closed = False

    def __getattr__(self, op: str) -> Callable[..., Coroutine[Any, Any, Any]]:
        if op.startswith("__"):
            raise AttributeError(op)

        async def call(**kwargs: Any) -> Any:
            return await self.call(op, **kwargs)

        return call

    async def call(self, op: str, **kwargs: Any) -> Any:
        """Call an operation by its name.

        Raises:
            RPCClosed: the proxy is closed.
            Exception: as for `send_recv`.
        """
        if self._closed:
            raise RPCClosed(f"this rpc is closed: cannot call {op!r} of {self.address}")
        comm = await self.live_comm()
        previous, comm.name = comm.name, op
        try:
            return await send_recv(comm, op=op, **kwargs)
        finally:
            comm.name = previous
            self._give_back(comm)

    async def live_comm(self) -> Comm:
        """A comm to the server without an outstanding reply, for one call alone."""
        raise NotImplementedError  # pragma: no cover - both kinds define it

    def _give_back(self, comm: Comm) -> None:
        raise NotImplementedError  # pragma: no cover - both kinds define it

    async def close_rpc(self) -> None:
        """Refuse further calls through this proxy."""
        self._closed = True

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close_rpc()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} to {self.address!r}>"


class PooledRPCCall(_Calls):
    """Calls to a server over comms that a pool lends.

    Args:
        addr: the server's address.
        pool: lends the comms.
        serializers, deserializers: accepted for compatibility.
        retry_refused: see `headrace.comm.connect`.

    Attributes:
        address, addr: the server's address as others are told; its owner may set it to another than calls go to.
    """

    def __init__(
        self,
        addr: str,
        pool: ConnectionPool,
        serializers: object = None,
        deserializers: object = None,
        *,
        retry_refused: bool = True,
    ) -> None:
        self.address = self.addr = self._reached = normalize_address(addr)
        self.pool = pool
        self._retry_refused = retry_refused

    async def live_comm(self) -> Comm:
        return await self.pool.connect(self._reached, retry_refused=self._retry_refused)

    def _give_back(self, comm: Comm) -> None:
        self.pool.reuse(self._reached, comm)


class _BesidePackage(type):
    """A metaclass of a class that hides the package of the same name: gives the package's modules as attributes.

    `import headrace.rpc.loops.loop as loop` looks for `loops` in `headrace.rpc`, and finds the class `rpc` there.
    """

    # The name is both, by the documented interface: `headrace.rpc` is the class once it was used, since it must be
    # `distributed.core.rpc` and a class that may be subclassed, and the package has the name by its place. A module
    # that can be called would be no class; to give the modules to each importer by hand would miss the next one.

    def __getattr__(cls, name: str) -> Any:
        module = sys.modules.get(f"{__package__}.{name}")
        if module is None or name.startswith("_"):
            raise AttributeError(f"type object {cls.__name__!r} has no attribute {name!r}")
        return module


class rpc(_Calls, metaclass=_BesidePackage):
    """Calls to a server: `await rpc("tcp://…").identity()`. `close_rpc` closes the connections.

    Args:
        arg: the server's address.
        comm: a comm to the server, instead of its address: calls go over this comm, one after another.
        deserialize, timeout, connection_args: see `ConnectionPool`.
        serializers, deserializers: accepted for compatibility.

    Raises:
        ValueError: neither an address nor a comm is given.
    """

    def __init__(
        self,
        arg: str | None = None,
        comm: Comm | None = None,
        deserialize: bool = True,
        timeout: float | str | None = None,
        connection_args: dict[str, Any] | None = None,
        serializers: object = None,
        deserializers: object = None,
    ) -> None:
        if arg is None and comm is None:
            raise ValueError("rpc needs the address of a server, or a comm to it")
        self.address = normalize_address(arg) if arg is not None else comm.peer_address  # type: ignore[union-attr]
        self._pool = ConnectionPool(deserialize=deserialize, connection_args=connection_args, timeout=timeout)
        self._comm = comm
        self._turn = asyncio.Lock()

    @property
    def comms(self) -> dict[Comm, bool]:
        """The comms to the server, each with whether it is free."""
        if self._comm is not None:
            return {self._comm: not self._turn.locked()}
        return {**dict.fromkeys(self._pool._idle, True), **dict.fromkeys(self._pool._lent, False)}

    @property
    def active(self) -> int:
        """Number of calls under way."""
        return sum(not free for free in self.comms.values())

    async def live_comm(self) -> Comm:
        if self._comm is None:
            return await self._pool.connect(self.address)
        await self._turn.acquire()
        return self._comm

    def _give_back(self, comm: Comm) -> None:
        if self._comm is None:
            self._pool.reuse(self.address, comm)
        else:
            self._turn.release()

    def close_comms(self) -> None:
        """Close the connections; calls under way fail, later ones connect again."""
        if self._comm is not None:
            self._comm.abort()
        else:
            self._pool.remove(self.address)

    async def close_rpc(self) -> None:
        """Refuse further calls through this proxy, and close its connections."""
        await super().close_rpc()
        await self._pool.close()
        if self._comm is not None:
            await self._comm.close()


def _being_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
