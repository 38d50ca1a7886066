"""How a cluster object asks its scheduler: directly when it is in this process, else over a connection.

Both kinds have the scheduler's operations as asynchronous methods, so that nothing else has to know which it is.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from inspect import isawaitable
from typing import Any


class LocalLink:
    """The operations of a Scheduler in this process, by the names under which others ask for them.

    Args:
        scheduler: a Scheduler that runs on the same loop.
    """

    def __init__(self, scheduler: Any) -> None:
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


async def workers_to_close(scheduler: Any, link: Any, key: Callable[[Any], Any] | None, **kwargs: Any) -> list[Any]:
    """`Scheduler.workers_to_close`, whose `key` is a function: it has to be pickled to go to another process.

    Args:
        scheduler: the Scheduler, if it is in this process.
        link: to it.
        key: groups WorkerStates; groups are closed whole.
    """
    if key is None:
        return list(await link.workers_to_close(**kwargs))
    if isinstance(link, LocalLink):
        return list(scheduler.workers_to_close(key=key, **kwargs))
    from headrace.protocol import dumps, loads, unwrap

    reply = await link.run_function(
        function=dumps(_workers_to_close), args=dumps(()), kwargs=dumps({"key": key, **kwargs}), wait=True
    )
    if reply["status"] != "OK":
        raise RuntimeError(f"the scheduler could not choose workers to close: {reply.get('text', reply)}")
    result = unwrap(reply["result"])
    return list(loads(result) if isinstance(result, (bytes, bytearray, memoryview)) else result)


def _workers_to_close(dask_scheduler: Any = None, **kwargs: Any) -> list[Any]:
    return list(dask_scheduler.workers_to_close(**kwargs))
