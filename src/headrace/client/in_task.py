"""The client that tasks of a worker share: on the worker's loop, connected to the worker's scheduler.

Knows a worker only by its documented attributes.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from headrace.rpc import IOLoop

from .current import task_key

if TYPE_CHECKING:
    from .client import Client

_lock = threading.Lock()


def client_of_worker(worker: Any, timeout: Any = None) -> Client:
    """The worker's client, made when a task first asks for it.

    From a thread it is connected when this returns; on the worker's loop it connects in the background, and what is
    submitted until then waits.
    """
    from .client import Client

    client = _open_client(worker)
    if client is not None:
        return client
    on_loop = asyncio._get_running_loop() is IOLoop.of(worker.loop).asyncio_loop
    with _lock if not on_loop else _NoLock():
        client = _open_client(worker)
        if client is not None:
            return client
        keywords = {} if timeout is None else {"timeout": timeout}
        client = Client(
            _scheduler_address(worker),
            loop=worker.loop,
            security=getattr(worker, "security", None),
            set_as_default=False,
            asynchronous=on_loop,
            name="worker",
            direct_to_workers=True,
            **keywords,
        )
        worker._client = client
    return client


def _open_client(worker: Any) -> Client | None:
    client: Client | None = getattr(worker, "_client", None)
    return None if client is None or client.status in ("closing", "closed") else client


@contextlib.contextmanager
def outside_of_slot() -> Iterator[None]:
    """Give the thread's slot back while a task waits for other tasks: they may need it."""
    context = sys.modules.get("headrace.worker.context")
    if context is None or task_key() is None:
        yield
        return
    try:
        context.secede()
        seceded = True
    except Exception:  # it has seceded already, or is none of the worker's threads
        seceded = False
    try:
        yield
    finally:
        if seceded:
            context.rejoin()


class _NoLock:
    """On the loop nothing else runs meanwhile, and waiting there for a thread that needs the loop would never end."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        return None


def _scheduler_address(worker: Any) -> str:
    scheduler = getattr(worker, "scheduler", None)
    address = getattr(scheduler, "address", None) or getattr(worker, "scheduler_address", None)
    if not isinstance(address, str):
        raise ValueError(f"{worker!r} is not connected to a scheduler")
    return address
