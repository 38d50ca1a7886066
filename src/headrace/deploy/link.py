"""A cluster's link to a scheduler in its own process, with the same methods as the `rpc` to one elsewhere.

Both have the scheduler's operations as asynchronous methods, so that the cluster need not know where its scheduler is.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from inspect import isawaitable
from typing import Any, Protocol

from headrace.rpc import RequestServer


class HasOperations(Protocol):
    """A scheduler as `LocalLink` sees it."""

    server: RequestServer

    @property
    def address(self) -> str: ...


class LocalLink:
    """The operations of a Scheduler in this process as asynchronous methods, under the names of the requests.

    Args:
        scheduler: a Scheduler that runs on the same loop.
    """

    def __init__(self, scheduler: HasOperations) -> None:
        self._scheduler = scheduler

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

    async def close_rpc(self) -> None:
        """Do nothing: there is no connection to close, as `rpc` has."""

    def __repr__(self) -> str:
        return f"<link to {self._scheduler!r}>"
