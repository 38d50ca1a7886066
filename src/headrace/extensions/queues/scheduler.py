"""The scheduler's half of `Queue`: it stores pickles, and keeps the tasks of the futures in them."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any

from headrace.comm import Comm
from headrace.config import parse_seconds

from ..stored_futures import Keeping
from ..waiting_requests import Waiting
from .core import Item, QueueState


class QueueExtension:
    """Queues by name. One that nobody made is made when it is first used."""

    def __init__(self, scheduler: Any) -> None:
        self.queues: dict[Any, QueueState] = {}
        self.waiting = Waiting()
        self.keeping = Keeping.of(scheduler)
        self.scheduler_closing = self.waiting.close
        self._numbers = itertools.count()
        scheduler.server.handlers.update(
            queue_create=self.create,
            queue_put=self.put,
            queue_get=self.get,
            queue_qsize=self.qsize,
            queue_release=self.release,
            queue_withdraw=self.withdraw,
            queue_give_back=self.give_back,
        )

    def create(self, name: Any = None, client: str | None = None, maxsize: int = 0) -> None:
        """Open a handle; makes the queue if there is none of the name (else `maxsize` stays what it is)."""
        queue = self.queues.get(name)
        if queue is None:
            queue = self.queues[name] = QueueState(maxsize)
        queue.handles += 1

    def release(self, name: Any = None, client: str | None = None) -> None:
        """Close a handle; with the last, the queue goes with all that is in it."""
        queue = self.queues.get(name)
        if queue is None:
            return
        queue.handles -= 1
        if queue.handles > 0:
            return
        del self.queues[name]
        collected = [item for getter in queue.getters.values() for item in getter.items]
        self.keeping.let_go([item.keeper for item in (*queue.items, *collected)])
        for request in [*queue.getters, *queue.putters]:
            self.waiting.fail(request, RuntimeError(f"the queue {name!r} was closed while this waited for it"))

    async def put(
        self,
        name: Any = None,
        key: Any = None,
        data: Any = None,
        client: str | None = None,
        timeout: float | str | None = None,
        comm: Comm | None = None,
    ) -> bool:
        """Put a value; False when there was no room within `timeout` seconds.

        Args:
            key: those of the futures in the value.
            data: the value, pickled.
        """
        queue = self._queue(name)
        keys = tuple(key or ())
        item = Item(data, keys, self.keeping.keep(f"queue-{name}", keys))
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
                self.keeping.let_go([item.keeper])
                self._tell(queue)
        return accepted

    async def get(
        self,
        name: Any = None,
        client: str | None = None,
        timeout: float | str | None = None,
        batch: bool | int = False,
        request: str | None = None,
        comm: Comm | None = None,
    ) -> dict[str, Any] | None:
        """Get a value, or several; None when there were none within `timeout` seconds.

        Args:
            client: who is to have the futures in them.
            batch: True for all that there are now; a number for so many.
            request: what the caller calls this, to withdraw it.

        Returns:
            "items": the values, each with the keys of its futures; "token": see `Keeping.hand_over`.
        """
        queue = self._queue(name)
        if batch is True:
            return self._handed_over(queue, queue.get_all(), client)
        number: Any = next(self._numbers) if request is None else request
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
        self, queue: QueueState, number: Any, comm: Comm | None, seconds: float | None
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

    def withdraw(self, name: Any = None, request: str | None = None) -> None:
        """Nobody waits for the answer of this `get` any more."""
        self.waiting.grant(request, None)

    def give_back(self, name: Any = None, items: Any = ()) -> None:
        """What was handed over has not been received: it is the first of the queue again."""
        queue = self._queue(name)
        queue.give_back([Item(data, tuple(keys), self.keeping.keep(f"queue-{name}", keys)) for data, keys in items])
        self._tell(queue)

    def qsize(self, name: Any = None, client: str | None = None) -> int:
        """How many values are in it."""
        return len(self._queue(name).items)

    def future_release(self, name: Any = None, key: Any = None, client: Any = None) -> None:
        """A client has futures of its own for what it was handed with this token (`key`)."""
        self.keeping.keys_received(client, key)

    # What the scheduler tells

    def work_forgotten(self) -> None:
        """A restart: values with futures in them are gone."""
        for queue in self.queues.values():
            self.keeping.let_go([item.keeper for item in queue.remove_kept()])
            self._tell(queue)

    def _queue(self, name: Any) -> QueueState:
        queue = self.queues.get(name)
        if queue is None:
            queue = self.queues[name] = QueueState()
        return queue

    def _handed_over(self, queue: QueueState, items: Iterable[Item], client: str | None) -> dict[str, Any]:
        self._tell(queue)
        items = list(items)
        token = self.keeping.hand_over(client, [item.keeper for item in items])
        return {"items": [(item.payload, list(item.keys)) for item in items], "token": token}

    def _tell(self, queue: QueueState) -> None:
        """Answer those who have been served; what goes to somebody who has gone is the first again."""
        while queue.served:
            request, items = queue.served.popleft()
            if not self.waiting.grant(request, True if items is None else items) and items is not None:
                queue.give_back(items)
