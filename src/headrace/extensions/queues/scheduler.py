"""The scheduler's half of `Queue`: it stores pickles, and keeps the tasks of the futures in them."""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Iterable
from typing import Any

from headrace.comm import Comm
from headrace.common.keys import Key
from headrace.config import parse_seconds
from headrace.messages.base import Payload
from headrace.rpc.server import Operation
from headrace.scheduler.extension_operations import register_operations
from headrace.scheduler.shell import HasShell, Shell

from ..stored_futures import FutureKeeper
from ..waiting_requests import Waiting
from .core import Item, QueueState


class QueueExtension:
    """Queues by name. The first request that names a queue makes it."""

    def __init__(self, scheduler: HasShell | Shell) -> None:
        self.queues: dict[Hashable, QueueState] = {}
        self.waiting = Waiting()
        self.futures = FutureKeeper.of(scheduler)
        self.scheduler_closing = self.waiting.close
        self._numbers = itertools.count()
        register_operations(
            scheduler,
            "queues",
            {
                "queue_create": self.create,
                "queue_put": Operation(self.put, takes_comm=True),
                "queue_get": Operation(self.get, takes_comm=True),
                "queue_qsize": self.qsize,
                "queue_release": self.release,
                "queue_withdraw": self.withdraw,
                "queue_give_back": self.give_back,
            },
        )

    def create(self, name: Hashable = None, client: str | None = None, maxsize: int = 0) -> None:
        """Open a handle; makes the queue if there is none of the name (else `maxsize` stays what it is)."""
        queue = self.queues.get(name)
        if queue is None:
            queue = self.queues[name] = QueueState(maxsize)
        queue.handles += 1

    def release(self, name: Hashable = None, client: str | None = None) -> None:
        """Close a handle; with the last, the queue goes with all that is in it."""
        queue = self.queues.get(name)
        if queue is None:
            return
        queue.handles -= 1
        if queue.handles > 0:
            return
        del self.queues[name]
        collected = [item for getter in queue.getters.values() for item in getter.items]
        self.futures.let_go([item.keeper for item in (*queue.items, *collected)])
        for request in [*queue.getters, *queue.putters]:
            self.waiting.fail(request, RuntimeError(f"the queue {name!r} was closed while this waited for it"))

    async def put(
        self,
        name: Hashable = None,
        key: Iterable[Key] | None = None,
        data: Payload = None,
        client: str | None = None,
        timeout: float | str | None = None,
        comm: Comm | None = None,
    ) -> bool:
        """Put a value; False when there was no room within `timeout` seconds.

        Args:
            key: keys of the futures in the value.
            data: the value, pickled.
        """
        queue = self._queue(name)
        keys = tuple(key or ())
        item = Item(data, keys, self.futures.keep(f"queue-{name}", keys))
        number = next(self._numbers)
        if queue.put(number, item):
            self._tell(queue)
            return True
        seconds = None if timeout is None else parse_seconds(timeout)
        accepted = False
        try:
            if seconds is None or seconds > 0:
                accepted = bool(await self.waiting.turn(number, comm, seconds))
        finally:
            if not accepted and queue.withdraw(number) is not None:
                self.futures.let_go([item.keeper])
                self._tell(queue)
        return accepted

    async def get(
        self,
        name: Hashable = None,
        client: str | None = None,
        timeout: float | str | None = None,
        batch: bool | int = False,
        request: str | None = None,
        comm: Comm | None = None,
    ) -> dict[str, Any] | None:
        """Get a value, or several; None when there were none within `timeout` seconds.

        Args:
            client: the client that is to have the futures in them.
            batch: True for all that there are now; a number for so many.
            request: the caller's name for this request, to withdraw it.

        Returns:
            "items": the values, each with the keys of its futures; "token": see `FutureKeeper.hand_over`.
        """
        queue = self._queue(name)
        if batch is True:
            return self._handed_over(queue, queue.get_all(), client)
        number: Hashable = next(self._numbers) if request is None else request
        items = queue.get(number, max(int(batch), 1))
        if items is None:
            items = await self._turn(queue, number, comm, None if timeout is None else parse_seconds(timeout))
            if items is None:
                return None
        if comm is not None and comm.closed():
            queue.give_back(items)
            self._tell(queue)
            return None
        return self._handed_over(queue, items, client)

    async def _turn(
        self, queue: QueueState, number: Hashable, comm: Comm | None, seconds: float | None
    ) -> list[Item] | None:
        self._tell(queue)
        items = None
        try:
            if seconds is None or seconds > 0:
                items = await self.waiting.turn(number, comm, seconds)
        finally:
            if items is None:
                queue.withdraw(number)
                self._tell(queue)
        return items

    def withdraw(self, name: Hashable = None, request: str | None = None) -> None:
        """Answer a `get` that nobody waits for any more."""
        self.waiting.grant(request, None)

    def give_back(self, name: Hashable = None, items: Iterable[tuple[Payload, Iterable[Key]]] = ()) -> None:
        """Put values that were handed over, but not received, back to the front of the queue."""
        queue = self._queue(name)
        queue.give_back([Item(data, tuple(keys), self.futures.keep(f"queue-{name}", keys)) for data, keys in items])
        self._tell(queue)

    def qsize(self, name: Hashable = None, client: str | None = None) -> int:
        """The number of values in the queue."""
        return len(self._queue(name).items)

    def future_release(self, name: Hashable = None, key: int | None = None, client: str | None = None) -> None:
        """A client has futures of its own for the values that it was handed with this token (`key`)."""
        if client is not None and key is not None:
            self.futures.keys_received(client, key)

    # Hooks that the scheduler calls

    def work_forgotten(self) -> None:
        """A restart: values with futures in them go with the tasks of these."""
        for queue in self.queues.values():
            self.futures.let_go([item.keeper for item in queue.remove_kept()])
            self._tell(queue)

    def _queue(self, name: Hashable) -> QueueState:
        queue = self.queues.get(name)
        if queue is None:
            queue = self.queues[name] = QueueState()
        return queue

    def _handed_over(self, queue: QueueState, items: Iterable[Item], client: str | None) -> dict[str, Any]:
        self._tell(queue)
        items = list(items)
        token = self.futures.hand_over(client, [item.keeper for item in items])
        return {"items": [(item.payload, list(item.keys)) for item in items], "token": token}

    def _tell(self, queue: QueueState) -> None:
        """Answer requests that have been served; items for one whose connection has closed go back to the front."""
        while queue.served:
            request, items = queue.served.popleft()
            if not self.waiting.grant(request, True if items is None else items) and items is not None:
                queue.give_back(items)
