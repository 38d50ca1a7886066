"""`distributed.comm.utils`: messages as frames and back, for transports of users' own."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

from dask.sizeof import sizeof

from headrace.comm.interfaces import get_ip, get_ipv6
from headrace.compat.protocol import core
from headrace.protocol.frames import Frame

#: Messages that take so many bytes of memory are made and read in a thread, so that the loop goes on.
OFFLOAD_THRESHOLD = 10_000_000

__all__ = [
    "OFFLOAD_THRESHOLD",
    "ensure_concrete_host",
    "from_frames",
    "get_tcp_server_address",
    "get_tcp_server_addresses",
    "to_frames",
]


async def to_frames(msg: object, allow_offload: bool = True, **kwargs: Any) -> list[Frame]:
    """Frames of a message, for `from_frames`.

    Args:
        msg: see `distributed.protocol.dumps`.
        allow_offload: whether a large message is worked on in a thread.
        kwargs: for `distributed.protocol.dumps`: `serializers`, `on_error`, `context`, `frame_split_size`.
    """
    dumps = partial(core.dumps, msg, **kwargs)
    if allow_offload and int(sizeof(msg)) > OFFLOAD_THRESHOLD:
        return await asyncio.to_thread(dumps)
    return dumps()


async def from_frames(
    frames: Sequence[Frame],
    deserialize: bool = True,
    deserializers: Iterable[str] | None = None,
    allow_offload: bool = True,
) -> Any:
    """The message in what `to_frames` returned; arguments and errors as of `distributed.protocol.loads`."""
    loads = partial(core.loads, frames, deserialize, deserializers)
    if allow_offload and deserialize and sum(memoryview(frame).nbytes for frame in frames) > OFFLOAD_THRESHOLD:
        return await asyncio.to_thread(loads)
    return loads()


def ensure_concrete_host(host: str | None, default_host: str | None = None) -> str:
    """A host that others can connect to: `default_host`, or this machine's address, for one that means all of them."""
    if host in ("0.0.0.0", "", None):
        return default_host or get_ip()
    if host == "::":
        return default_host or get_ipv6()
    return str(host)


def get_tcp_server_addresses(tcp_server: Any) -> list[tuple[Any, ...]]:
    """Addresses of the sockets of a server of asyncio or tornado, as the system tells them.

    Raises:
        RuntimeError: it does not listen.
    """
    sockets = getattr(tcp_server, "sockets", None)
    if sockets is None:
        sockets = getattr(tcp_server, "_sockets", {}).values()
    addresses = [one.getsockname() for one in sockets]
    if not addresses:
        raise RuntimeError(f"{tcp_server!r} does not listen anywhere")
    return addresses


def get_tcp_server_address(tcp_server: Any) -> tuple[Any, ...]:
    """The first of a server's addresses; see `get_tcp_server_addresses`."""
    return get_tcp_server_addresses(tcp_server)[0]
