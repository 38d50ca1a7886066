"""The user's half of `Variable`: one value that the whole cluster shares by its name."""

from __future__ import annotations

import uuid
from collections.abc import Hashable
from typing import TYPE_CHECKING, Any, Unpack

from headrace.client.packing.stored_values import (
    PackedValue,
    pack,
    settled_and_known,
    unpack,
)
from headrace.config import seconds_of

from ..shared_objects import Shared, SyncKeywords, Timeout, begun, hashable

if TYPE_CHECKING:
    from headrace.client.client import Client


class Variable(Shared):
    """A variable that clients and tasks share by name; unset at first.

    Values go through the scheduler, so they should be small: share large ones by their futures. The results of futures
    in it are kept until it has another value.

    Args:
        name: the same name is the same variable. Random by default.
        client: the client to use; by default the one of the task or process that uses it.

    Examples:
        >>> limit = Variable("limit")  # doctest: +SKIP
        >>> limit.set(123)  # doctest: +SKIP
        >>> limit.get()  # doctest: +SKIP
        123
    """

    def __init__(self, name: Hashable = None, client: Client | None = None) -> None:
        self.name = f"variable-{uuid.uuid4().hex}" if name is None else hashable(name)
        self._client = client

    def set(self, value: object, timeout: float | str | None = "30 s", **kwargs: Any) -> Any:
        """Set the value, and wake all calls of `get` that wait for one.

        Args:
            value: a future, or something small with or without futures in it.
            timeout: seconds, or text, for the scheduler to answer.

        Raises:
            TimeoutError: it did not; or a future in the value is cancelled.
        """
        return self.client.sync(self._set, pack(value, self.client), callback_timeout=timeout, **kwargs)

    async def _set(self, packed: PackedValue) -> None:
        client = self.client
        await settled_and_known(client, packed)
        await client._call("variable_set", name=self.name, key=packed.keys, data=packed.payload, client=client.id)

    def get(self, timeout: Timeout = None, **kwargs: Unpack[SyncKeywords]) -> Any:
        """Get the value; waits until there is one.

        Args:
            timeout: seconds, or text such as "200ms"; for ever by default.

        Raises:
            TimeoutError: there was none in that time.
        """
        return self.client.sync(self._get, seconds_of(timeout), **kwargs)

    async def _get(self, seconds: float | None) -> Any:
        client = self.client
        answer = await client._call("variable_get", name=self.name, client=client.id, timeout=seconds)
        if answer is None:
            raise TimeoutError(f"the variable {self.name!r} was not set for {seconds} s")
        return (await unpack(client, [answer["data"]], answer["token"]))[0]

    def delete(self) -> Any:
        """Unset the variable, for all its users; with an asynchronous client also if the result is not awaited."""
        return begun(self.client.sync(self._delete))

    async def _delete(self) -> None:
        await self.client._call("variable_delete", name=self.name, client=self.client.id)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.name,)

    def __repr__(self) -> str:
        return f"<Variable: {self.name}>"
