"""News of the workers that come to a cluster's scheduler and go, as it happens.

Two forms of the same, for a scheduler of this process and for one elsewhere. Nothing is decided here.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Callable
from typing import Any, Protocol, TypeAlias

from headrace.common.status import Status
from headrace.diagnostics.plugin import SchedulerPlugin
from headrace.rpc import rpc

logger = logging.getLogger("distributed.deploy.cluster")


Came: TypeAlias = Callable[[str, dict[str, Any]], None]
Left: TypeAlias = Callable[[str, Any], None]


class TakesPlugins(Protocol):
    """A scheduler of this process, as far as it tells of its workers."""

    workers: Any
    plugins: Any
    status: Any

    def add_plugin(self, plugin: object, *, name: str) -> object: ...
    def remove_plugin(self, name: str) -> object: ...


class LocalNews(SchedulerPlugin):
    """News from a scheduler of this process.

    Args:
        scheduler: the scheduler.
        came: called with the address of a worker that has come, and what `identity` says of it.
        left: called with the address of a worker that has gone, and its name.
    """

    def __init__(self, scheduler: TakesPlugins, came: Came, left: Left) -> None:
        self.name = f"cluster-{uuid.uuid4().hex}"
        self._scheduler = scheduler
        self._came, self._left = came, left
        self._names: dict[str, Any] = {}

    def begin(self) -> None:
        """Tell from now on; does nothing if that was begun."""
        if self.name not in self._scheduler.plugins:
            self._names = {address: worker.name for address, worker in self._scheduler.workers.items()}
            self._scheduler.add_plugin(self, name=self.name)

    def stop(self) -> None:
        """Tell no more."""
        if self.name in self._scheduler.plugins:
            self._scheduler.remove_plugin(name=self.name)

    def add_worker(self, scheduler: object, worker: str, **kwargs: object) -> None:
        record = self._scheduler.workers.get(worker)
        if record is not None:
            self._names[worker] = record.name
            self._came(worker, record.identity())

    def remove_worker(self, scheduler: object, worker: str, **kwargs: object) -> None:
        if worker in self._names and self._scheduler.status is Status.running:  # not since the scheduler closes
            self._left(worker, self._names.pop(worker))


class RemoteNews:
    """News from a scheduler elsewhere, over a connection of their own.

    Args:
        scheduler: calls the scheduler.
        came, left: as for `LocalNews`; at the beginning, the workers that are there have come.
    """

    def __init__(self, scheduler: rpc, came: Came, left: Left) -> None:
        self._scheduler = scheduler
        self._came, self._left = came, left
        self._following: asyncio.Task[None] | None = None
        self._ended = False

    def begin(self) -> None:
        """Follow from now on; does nothing while that goes on, and begins anew after the connection broke."""
        if not self._ended and (self._following is None or self._following.done()):
            self._following = asyncio.ensure_future(self._follow())

    def stop(self) -> None:
        """Follow no more."""
        self._ended = True
        if self._following is not None:
            self._following.cancel()

    async def _follow(self) -> None:
        comm = None
        try:
            comm = await self._scheduler.live_comm()
            await comm.write({"op": "subscribe_worker_status"})
            identity = await comm.read()
            if "workers" not in identity:
                self._ended = True  # the scheduler blocks this operation
                return
            names: dict[str, Any] = {}
            batch: list[tuple[str, Any]] = [("add", {"workers": identity["workers"]})]
            while True:
                for op, news in batch:
                    if op == "add":
                        for address, worker in news["workers"].items():
                            names[address] = worker["name"]
                            self._came(address, worker)
                    elif news in names:
                        self._left(news, names.pop(news))
                batch = await comm.read()
        except OSError as error:
            logger.debug("No more news of workers from %s: %s", self._scheduler.address, error)
        finally:
            if comm is not None:
                comm.abort()
