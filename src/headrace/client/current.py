"""The client that is meant when none is named: that of this context, of the task that runs here, or the newest.

Clients register here; nothing here connects to anything, except `get_client` with an address.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
import weakref
from collections.abc import Iterator
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from headrace.common.current_run import register_client_finder, worker_here

if TYPE_CHECKING:
    from .client import Client

#: The client of `Client.as_current`.
current_client: ContextVar[Client | None] = ContextVar("headrace_current_client", default=None)

_clients: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()
_numbers = itertools.count()
_lock = threading.Lock()

NO_CLIENT = """No clients found
Start a client and point it to the scheduler address
  from dask.distributed import Client
  client = Client('ip-addr-of-scheduler:8786')
"""


def remember(client: Client) -> int:
    """Make a client the default until a newer one comes or it is forgotten."""
    with _lock:
        number = next(_numbers)
        _clients[number] = client
    return number


def forget(client: Client) -> None:
    """The client is closed."""
    with _lock:
        for number in [number for number, other in list(_clients.items()) if other is client]:
            del _clients[number]


def global_client() -> Client | None:
    """The newest client that was set as default and is not closed."""
    with _lock:
        for number in sorted(_clients.keys(), reverse=True):
            client: Client | None = _clients.get(number)
            if client is not None and client.status not in ("closed", "closing"):
                return client
    return None


def context_client() -> Client | None:
    """The client of `as_current`, if there is one here."""
    return current_client.get()


def default_client(c: Client | None = None) -> Client:
    """The client given, or the one that is the default.

    Raises:
        ValueError: there is none.
    """
    client = c or context_client() or global_client()
    if client is None:
        raise ValueError(NO_CLIENT)
    return client


def ensure_default_client(client: Client) -> None:
    """Make a client the default if it is not."""
    client.come_into_force()
    if global_client() is not client:
        remember(client)


@contextlib.contextmanager
def temp_default_client(c: Client) -> Iterator[None]:
    """Make a client the default within the context."""
    token = current_client.set(c)
    try:
        yield
    finally:
        current_client.reset(token)


def client_for_future() -> Client | None:
    """The client that a future which was just unpickled belongs to."""
    client = context_client()
    if client is not None:
        return client
    if worker_here() is not None:
        return get_client()
    return global_client()


def get_client(address: Any = None, timeout: float | str | None = None, resolve_address: bool = True) -> Client:
    """The client to use here: inside a task, one that shares the worker's loop and scheduler; else the current one.

    Args:
        address: of the scheduler; by default the one that the worker or the current client is connected to.
        timeout: seconds (or text such as "10s") to connect.
        resolve_address: ignored; addresses are compared in their normal form.

    Raises:
        ValueError: outside of a task, and there is no client, and no address was given.
    """
    from headrace.comm import normalize_address

    if hasattr(address, "scheduler_address"):
        address = address.scheduler_address
    wanted = normalize_address(address) if address else None
    worker = worker_here()
    if worker is not None:
        client: Client = worker.get_client(timeout=timeout)
        if wanted is None or wanted in (client.session.address, client.session.told_address):
            return client
    try:
        client = default_client()
        if wanted is None or wanted in (client.session.address, client.session.told_address):
            return client
    except ValueError:
        if wanted is None:
            raise
    from .client import Client as ClientClass

    return ClientClass(wanted, timeout=timeout) if timeout is not None else ClientClass(wanted)


def _after_fork() -> None:
    """Another thread may have held the lock, and it is not in the child."""
    global _lock
    _lock = threading.Lock()


register_client_finder(client_for_future)

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
