"""The user's half of `Event`: a flag that the whole cluster shares by its name."""

from __future__ import annotations

import uuid
from collections.abc import Generator, Hashable
from typing import TYPE_CHECKING, Any

from headrace.config import seconds_of

from ..shared_objects import Shared, Timeout, hashable

if TYPE_CHECKING:
    from headrace.client.client import Client


class Event(Shared):
    """A flag that clients and tasks share by name; unset at first.

    Args:
        name: the same name is the same flag. Random by default.
        client: the client to use; by default that of the task or process that uses the flag.

    Examples:
        >>> event = Event("loaded")  # doctest: +SKIP
        >>> event.wait(timeout=1)  # doctest: +SKIP
        >>> # in another process
        >>> Event("loaded").set()  # doctest: +SKIP
    """

    def __init__(self, name: Hashable = None, client: Client | None = None) -> None:
        self.name = f"event-{uuid.uuid4().hex}" if name is None else hashable(name)
        self._client = client

    def __await__(self) -> Generator[Any, None, Event]:
        async def itself() -> Event:
            return self

        return itself().__await__()

    def wait(self, timeout: Timeout = None) -> Any:
        """Wait until the flag is set; False when the time was over before (awaitable with an asynchronous client).

        Args:
            timeout: seconds, or text such as "200ms"; for ever by default.
        """
        return self.client.sync(self._ask, "event_wait", seconds_of(timeout))

    def set(self) -> Any:
        """Set the flag: all calls of `wait` return."""
        return self.client.sync(self._ask, "event_set")

    def clear(self) -> Any:
        """Unset the flag: from now on `wait` waits."""
        return self.client.sync(self._ask, "event_clear")

    def is_set(self) -> Any:
        """Ask whether the flag is set."""
        return self.client.sync(self._ask, "event_is_set")

    async def _ask(self, op: str, timeout: float | None = None) -> Any:
        question = {"timeout": timeout} if op == "event_wait" else {}
        return await self.client._call(op, name=self.name, **question)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.name,)

    def __repr__(self) -> str:
        return f"<Event: {self.name}>"
