"""`distributed.comm.utils`: what transports of one's own are made of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from headrace.comm.interfaces import get_ip, get_ipv6
from headrace.compat.protocol.core import dumps, loads
from headrace.protocol.frames import Frame


async def to_frames(msg: object, allow_offload: bool = True, **kwargs: Any) -> list[Frame]:
    """Frames of a message, as `distributed.protocol.dumps` makes them.

    Args:
        allow_offload: accepted for compatibility: large values are packed without copies, where they are.
        kwargs: of `dumps`: `serializers`, `on_error`, `context`, `frame_split_size`.
    """
    return dumps(msg, **kwargs)


async def from_frames(
    frames: Sequence[Frame],
    deserialize: bool = True,
    deserializers: Iterable[str] | None = None,
    allow_offload: bool = True,
) -> Any:
    """The message in what `to_frames` returned, as `distributed.protocol.loads` makes it.

    Args:
        allow_offload: accepted for compatibility.
    """
    return loads(frames, deserialize, deserializers)


def ensure_concrete_host(host: str, default_host: str | None = None) -> str:
    """The host, or one that others can reach if it stands for all interfaces.

    Args:
        default_host: what others can reach; by default this machine's address towards the internet.
    """
    if host in ("", "0.0.0.0"):
        return default_host or get_ip()
    return (default_host or get_ipv6()) if host == "::" else host


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


__all__ = ["ensure_concrete_host", "from_frames", "get_tcp_server_address", "get_tcp_server_addresses", "to_frames"]
