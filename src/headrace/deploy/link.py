"""A cluster's link to a scheduler in its own process, with the same methods as the `rpc` to one elsewhere.

Both have the scheduler's operations as asynchronous methods, so that the cluster need not know where its scheduler is.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Coroutine
from inspect import isawaitable
from typing import Any, Protocol

from headrace.comm import Comm, connect
from headrace.rpc import RequestServer


class HasOperations(Protocol):
    """A scheduler as `LocalLink` sees it."""

    server: RequestServer
    connection_args: dict[str, Any]

    @property
    def address(self) -> str: ...


class LocalLink:
    """The operations of a Scheduler in this process as asynchronous methods, under the names of the requests.

    Args:
        scheduler: a Scheduler that runs on the same loop.
    """

    def __init__(self, scheduler: HasOperations) -> None:
        self._scheduler = scheduler
        self._comms: weakref.WeakSet[Comm] = weakref.WeakSet()

    @property
    def address(self) -> str:
        """The scheduler's address."""
        return str(self._scheduler.address)

    def __getattr__(self, op: str) -> Callable[..., Coroutine[Any, Any, Any]]:
        if op.startswith("__"):
            raise AttributeError(op)
        handler = self._scheduler.server.handlers.get(op)
        if handler is None:
            raise AttributeError(f"the scheduler has no operation {op!r}")

        async def call(**kwargs: Any) -> Any:
            result = handler(**kwargs)
            return await result if isawaitable(result) else result

        return call

    async def live_comm(self) -> Comm:
        """A connection to the scheduler for the caller, who closes it; `close_rpc` does, too."""
        comm = await connect(self.address, **self._scheduler.connection_args)
        self._comms.add(comm)
        return comm

    async def close_rpc(self) -> None:
        """Close the connections of `live_comm`; calls need none, other than with `rpc`."""
        for comm in self._comms:
            comm.abort()

    def __repr__(self) -> str:
        return f"<link to {self._scheduler!r}>"
