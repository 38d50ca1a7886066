"""Pairs of comms of each scheme, and what a stream delivered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from headrace.comm import (
    Comm,
    Listener,
    connect,
    listen,
    packets,
    socket_comm,
)
from headrace.comm.lent_memory import memory_link
from headrace.security import Security


@dataclass
class Transport:
    """How to open a pair of comms of one scheme."""

    scheme: str
    listen_args: dict[str, Any] = field(default_factory=dict)
    connect_args: dict[str, Any] = field(default_factory=dict)

    @property
    def address(self) -> str:
        return "inproc://" if self.scheme == "inproc" else f"{self.scheme}://127.0.0.1:0"

    @property
    def on_sockets(self) -> bool:
        return self.scheme != "inproc"

    @asynccontextmanager
    async def listening(self, handle: Callable[[Comm], Any], **kwargs: Any) -> AsyncIterator[Listener]:
        listener = await listen(self.address, handle, **self.listen_args, **kwargs)
        try:
            yield listener
        finally:
            listener.stop()

    async def connect(self, listener: Listener, **kwargs: Any) -> Comm:
        return await connect(listener.contact_address, **{"timeout": 10, **self.connect_args, **kwargs})

    @asynccontextmanager
    async def pair(self, *, deserialize: bool = True) -> AsyncIterator[tuple[Comm, Comm]]:
        """The connecting end and the accepting end."""
        accepted: asyncio.Future[Comm] = asyncio.get_running_loop().create_future()

        async def handle(comm: Comm) -> None:
            accepted.set_result(comm)

        async with self.listening(handle, deserialize=deserialize) as listener:
            near = await self.connect(listener, deserialize=deserialize)
            far = await accepted
            try:
                yield near, far
            finally:
                near.abort()
                far.abort()
                await asyncio.gather(near.close(), far.close())


def make_transport(scheme: str, security: Security) -> Transport:
    if scheme in ("tls", "wss"):
        return Transport(scheme, security.get_listen_args("scheduler"), security.get_connection_args("client"))
    return Transport(scheme)


@contextmanager
def lending_from(nbytes: int, at_once: int | None = None) -> Iterator[None]:
    """Lend frames from this size on, and wait to hear whether they may be lent; read `at_once` bytes on the loop."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket_comm, "LEND_BYTES", nbytes)
        patch.setattr(memory_link, "LEND_BYTES", nbytes)
        patch.setattr(memory_link, "WORTH_WAITING_BYTES", nbytes)
        if at_once is not None:
            patch.setattr(memory_link, "AT_ONCE_BYTES", at_once)
        yield


@contextmanager
def free_frames(number: int) -> Iterator[None]:
    """So many frames in a packet may be of any size."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (packets, socket_comm):
            patch.setattr(module, "FREE_FRAMES", number)
        yield


class Collected:
    """What a stream delivered, and its end."""

    def __init__(self) -> None:
        self.batches: list[list[Any]] = []
        self.errors: list[Exception | None] = []
        self.changed = asyncio.Condition()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def messages(self) -> list[Any]:
        return [message for batch in self.batches for message in batch]

    def on_batch(self, messages: list[Any]) -> None:
        assert not self.errors, "messages after the end"
        self.batches.append(messages)
        self._notify()

    def on_close(self, error: Exception | None) -> None:
        self.errors.append(error)
        self._notify()

    async def wait_for(self, count: int) -> list[Any]:
        async with asyncio.timeout(20), self.changed:
            await self.changed.wait_for(lambda: len(self.messages) >= count)
        return self.messages

    async def wait_closed(self) -> Exception | None:
        async with asyncio.timeout(20), self.changed:
            await self.changed.wait_for(lambda: bool(self.errors))
        assert len(self.errors) == 1
        return self.errors[0]

    def _notify(self) -> None:
        async def notify() -> None:
            async with self.changed:
                self.changed.notify_all()

        task = asyncio.get_running_loop().create_task(notify())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
