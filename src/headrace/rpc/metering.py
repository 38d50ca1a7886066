"""Brings what is measured within a method of a server to the server's own sums."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from headrace.metrics import context_meter


def context_meter_to_server_digest(digest_tag: str) -> Callable[..., Any]:
    """A decorator for coroutine methods of servers.

    What `context_meter` is told of within the method, as (label, value, unit), the server is told of by
    `digest_metric((digest_tag, label, unit), value)`.

    >>> class Server:
    ...     @context_meter_to_server_digest("serving")
    ...     async def serve(self): ...
    """

    def decorate(method: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(method)
        async def wrapper(self: Any, *args: Any, **kwargs: Any) -> Any:
            def tell(label: Any, value: float, unit: str) -> None:
                labels = label if isinstance(label, tuple) else (label,)
                self.digest_metric((digest_tag, *labels, unit), value)

            with context_meter.add_callback(tell, allow_offload=True):
                return await method(self, *args, **kwargs)

        return wrapper

    return decorate
