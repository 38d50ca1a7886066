"""The user's half of `Queue`: a queue of futures and small values that the whole cluster shares by its name."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Generator, Hashable
from typing import TYPE_CHECKING, Any, NamedTuple, Unpack

from headrace.client.packing.stored_values import (
    PackedValue,
    pack,
    settled_and_known,
    unpack,
)
from headrace.common.keys import Key
from headrace.config import seconds_of
from headrace.messages.base import Payload

from ..shared_objects import Shared, SyncKeywords, Timeout, begun, hashable, unless_interrupted, until_cancelled

if TYPE_CHECKING:
    from headrace.client.client import Client


class Received(NamedTuple):
    """Items that came out of a queue: pickles with the keys of their futures, as they came, and the values."""

    items: list[tuple[Payload, list[Key]]]
    values: list[Any]


class Queue(Shared):
    """A queue that clients and tasks share by name.

    Values go through the scheduler, so they should be small: share large ones by their futures. The results of futures
    in the queue are kept as long as they are in it.

    Args:
        name: the same name is the same queue. Random by default.
        client: the client to use; by default the one of the task or process that uses it.
        maxsize: how many values it holds; 0 for any number. The first object of this name that is used decides.

    Examples:
        >>> queue = Queue("results")  # doctest: +SKIP
        >>> queue.put(client.submit(inc, 1))  # doctest: +SKIP
        >>> queue.get().result()  # doctest: +SKIP
        2
    """

    def __init__(self, name: Hashable = None, client: Client | None = None, maxsize: int = 0) -> None:
        self.name = f"queue-{uuid.uuid4().hex}" if name is None else hashable(name)
        self.maxsize = maxsize
        self._client = client
        self._opened = False
        self._opening: asyncio.Future[None] | None = None

    def __await__(self) -> Generator[Any, None, Queue]:
        async def opened() -> Queue:
            await self._open()
            return self

        return opened().__await__()

    async def _open(self) -> None:
        if not self._opened:
            if self._opening is None or self._opening.done():
                self._opening = asyncio.ensure_future(self._create())
            # All calls wait for the one opening: a request before it would make the queue without `maxsize`.
            await asyncio.shield(self._opening)

    async def _create(self) -> None:
        await self.client._call("queue_create", name=self.name, client=self.client.id, maxsize=self.maxsize)
        self._opened = True

    def put(self, value: object, timeout: Timeout = None, **kwargs: Unpack[SyncKeywords]) -> Any:
        """Put a value; waits while the queue is full.

        Args:
            value: a future, or something small with or without futures in it.
            timeout: seconds, or text such as "200ms"; for ever by default.

        Raises:
            TimeoutError: there was no room in that time; or a future in the value is cancelled.
        """
        return self.client.sync(self._put, pack(value, self.client), seconds_of(timeout), **kwargs)

    async def _put(self, packed: PackedValue, seconds: float | None) -> None:
        await self._open()
        await settled_and_known(self.client, packed)
        accepted = await self.client._call(
            "queue_put",
            name=self.name,
            key=packed.keys,
            data=packed.payload,
            client=self.client.id,
            timeout=seconds,
        )
        if not accepted:
            raise TimeoutError(f"the queue {self.name!r} was full for {seconds} s")

    def get(self, timeout: Timeout = None, batch: bool | int = False, **kwargs: Unpack[SyncKeywords]) -> Any:
        """Get a value; waits while the queue is empty.

        Args:
            timeout: seconds, or text such as "200ms"; for ever by default.
            batch: True for a list of all that there are now (perhaps none), a number for a list of so many.

        Raises:
            TimeoutError: nothing came in that time.
            NotImplementedError: a timeout and a number.
        """
        if timeout is not None and batch and batch is not True:
            raise NotImplementedError(
                "a queue cannot wait for a number of values for a limited time: leave out one of the two"
            )
        client, seconds = self.client, seconds_of(timeout)
        delivered: list[Received] = []

        async def return_delivered() -> None:
            for received in delivered:
                await client._call("queue_give_back", name=self.name, items=received.items)

        return unless_interrupted(
            client, lambda: client.sync(self._get, seconds, batch, delivered, **kwargs), return_delivered
        )

    async def _get(self, seconds: float | None, batch: bool | int, delivered: list[Received]) -> Any:
        await self._open()
        client, request = self.client, uuid.uuid4().hex

        async def withdraw() -> None:
            await client._call("queue_withdraw", name=self.name, request=request)

        async def give_back(received: Received | None) -> None:
            if received is not None:
                await client._call("queue_give_back", name=self.name, items=received.items)

        received = await until_cancelled(self._receive(request, seconds, batch), withdraw, give_back)
        if received is None:
            raise TimeoutError(f"nothing came into the queue {self.name!r} for {seconds} s")
        delivered.append(received)
        return received.values if batch else received.values[0]

    async def _receive(self, request: str, seconds: float | None, batch: bool | int) -> Received | None:
        client = self.client
        answer = await client._call(
            "queue_get", name=self.name, client=client.id, timeout=seconds, batch=batch, request=request
        )
        if answer is None:
            return None
        items = answer["items"]
        return Received(items, await unpack(client, [payload for payload, _ in items], answer["token"]))

    def qsize(self, **kwargs: Unpack[SyncKeywords]) -> Any:
        """The number of values in the queue (awaitable with an asynchronous client)."""
        return self.client.sync(self._qsize, **kwargs)

    async def _qsize(self) -> int:
        await self._open()
        return int(await self.client._call("queue_qsize", name=self.name, client=self.client.id))

    def close(self) -> Any:
        """Close this handle; with the last handle, the queue goes with all that is in it. It need not be awaited."""
        return begun(self.client.sync(self._close))

    async def _close(self) -> None:
        if self._opened:
            self._opened = False
            await self.client._call("queue_release", name=self.name, client=self.client.id)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.name, None, self.maxsize)

    def __repr__(self) -> str:
        return f"<Queue: {self.name}>"
