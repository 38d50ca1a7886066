"""Whether servers can be reached at addresses: IPv4, IPv6, from this machine and from others."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, ParamSpec, TypeVar

import pytest

from headrace.comm import connect
from headrace.comm.interfaces import get_ip, get_ipv6

P = ParamSpec("P")
T = TypeVar("T")


async def assert_can_connect(addr: str, timeout: float = 0.5, **kwargs: Any) -> None:
    """Fail unless something can be reached at the address within so many seconds; `kwargs`: see `connect`."""
    comm = await connect(addr, timeout=timeout, **kwargs)
    comm.abort()


async def assert_cannot_connect(
    addr: str, timeout: float = 0.5, exception_class: type[Exception] = EnvironmentError, **kwargs: Any
) -> None:
    """Fail if something can be reached at the address, or the attempt fails in another way than expected."""
    with pytest.raises(exception_class):
        await assert_can_connect(addr, timeout, **kwargs)


async def _assert_each(reachable: Iterable[str], not_reachable: Iterable[str], **kwargs: Any) -> None:
    await asyncio.gather(
        *[assert_can_connect(address, **kwargs) for address in reachable],
        *[assert_cannot_connect(address, **kwargs) for address in not_reachable],
    )


async def assert_can_connect_from_everywhere_4_6(port: int, protocol: str = "tcp", **kwargs: Any) -> None:
    """Fail unless a port of this machine is reachable at its IPv4 and IPv6 addresses."""
    hosts = ["127.0.0.1", get_ip()]
    if has_ipv6():
        hosts += ["[::1]", f"[{get_ipv6()}]"]
    await _assert_each([f"{protocol}://{host}:{port}" for host in hosts], [], **kwargs)


async def assert_can_connect_from_everywhere_4(port: int, protocol: str = "tcp", **kwargs: Any) -> None:
    """Fail unless a port of this machine is reachable at its IPv4 addresses, and only there."""
    others = ["[::1]", f"[{get_ipv6()}]"] if has_ipv6() else []
    hosts = ["127.0.0.1", get_ip()]
    await _assert_each(
        [f"{protocol}://{host}:{port}" for host in hosts], [f"{protocol}://{host}:{port}" for host in others], **kwargs
    )


async def assert_can_connect_locally_4(port: int, **kwargs: Any) -> None:
    """Fail unless a port is reachable at this machine's own IPv4 address, and only there."""
    others = [get_ip()] if get_ip() != "127.0.0.1" else []
    if has_ipv6():
        others += ["[::1]", f"[{get_ipv6()}]"]
    await _assert_each([f"tcp://127.0.0.1:{port}"], [f"tcp://{host}:{port}" for host in others], **kwargs)


async def assert_can_connect_from_everywhere_6(port: int, **kwargs: Any) -> None:
    """Fail unless a port of this machine is reachable at its IPv6 addresses, and only there."""
    hosts = ["[::1]", f"[{get_ipv6()}]"]
    others = ["127.0.0.1", get_ip()]
    await _assert_each(
        [f"tcp://{host}:{port}" for host in hosts], [f"tcp://{host}:{port}" for host in others], **kwargs
    )


async def assert_can_connect_locally_6(port: int, **kwargs: Any) -> None:
    """Fail unless a port is reachable at this machine's own IPv6 address, and only there."""
    others = ["127.0.0.1", get_ip()]
    if get_ipv6() != "::1":
        others.append(f"[{get_ipv6()}]")
    await _assert_each([f"tcp://[::1]:{port}"], [f"tcp://{host}:{port}" for host in others], **kwargs)


def has_ipv6() -> bool:
    """Whether this machine has IPv6, and may listen there."""
    import socket

    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as one:
            one.bind(("::1", 0))
        get_ipv6()
    except OSError:
        return False
    return True


def requires_ipv6(test_func: Callable[P, T]) -> Callable[P, T]:
    """Skip a test where there is no IPv6."""
    return pytest.mark.skipif(not has_ipv6(), reason="ipv6 required")(test_func)
