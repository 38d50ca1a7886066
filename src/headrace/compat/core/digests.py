"""Measurements in the methods of a server, told to its digests."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Hashable
from functools import wraps
from typing import Any, TypeVar

from headrace.metrics import context_meter

Method = TypeVar("Method", bound=Callable[..., Coroutine[Any, Any, Any]])


def context_meter_to_server_digest(digest_tag: str) -> Callable[[Method], Method]:
    """A decorator of a server's coroutine method: what is measured in it goes to the server's `digest_metric`.

    Args:
        digest_tag: with which the names begin: `(digest_tag, label, unit)`; a label that is a tuple is spread out.
    """

    def decorate(function: Method) -> Method:
        @wraps(function)
        async def call(self: Any, *args: Any, **kwargs: Any) -> Any:
            def tell(label: Hashable, value: float, unit: str) -> None:
                parts = label if isinstance(label, tuple) else (label,)
                self.digest_metric((digest_tag, *parts, unit), value)

            with context_meter.add_callback(tell, allow_offload=True):
                return await function(self, *args, **kwargs)

        return call  # type: ignore[return-value]

    return decorate
