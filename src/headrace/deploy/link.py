"""How a cluster object asks its scheduler: directly when it is in this process, else over a connection.

Both kinds have the scheduler's operations as asynchronous methods, so that nothing else has to know which it is.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from inspect import isawaitable
from typing import Any, Protocol

from headrace.rpc import Server


class HasOperations(Protocol):
    """A scheduler as `LocalLink` sees it."""

    server: Server

    @property
    def address(self) -> str: ...


class LocalLink:
    """The operations of a Scheduler in this process, by the names under which others ask for them.

    Args:
        scheduler: a Scheduler that runs on the same loop.
    """

    def __init__(self, scheduler: HasOperations) -> None:
        self._scheduler = scheduler

    @property
    def address(self) -> str:
        """The scheduler's."""
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
        """Nothing to close; so that both kinds can be used alike."""

    def __repr__(self) -> str:
        return f"<link to {self._scheduler!r}>"
