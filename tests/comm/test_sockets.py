"""Where a listener's sockets are bound."""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Iterator

import pytest

from headrace.comm import Comm, connect, listen, sockets
from headrace.comm.sockets import SocketAddress, bound_sockets


@contextlib.contextmanager
def closing(made: list[socket.socket]) -> Iterator[list[socket.socket]]:
    try:
        yield made
    finally:
        for one in made:
            one.close()


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this system has no IPv6")


@needs_ipv6
@pytest.mark.parametrize("host", ["", "*"])
async def test_all_interfaces_have_one_port_by_both_versions(host: str) -> None:
    with closing(await bound_sockets(host, 0)) as made:
        assert [one.family for one in made] == [socket.AF_INET, socket.AF_INET6]
        assert made[0].getsockname()[1] == made[1].getsockname()[1] != 0


@pytest.mark.parametrize(("host", "family"), [("0.0.0.0", socket.AF_INET), ("127.0.0.1", socket.AF_INET)])
async def test_an_ip_address_is_bound_alone(host: str, family: int) -> None:
    with closing(await bound_sockets(host, 0)) as (only,):
        assert only.family == family


@needs_ipv6
async def test_clients_of_both_versions_reach_a_listener_on_all_interfaces() -> None:
    async def handle(comm: Comm) -> None:
        await comm.write(await comm.read())
        await comm.close()

    async with listen("tcp://", handle) as listener:
        port = listener.listen_address.rpartition(":")[2]
        assert listener.listen_address == f"tcp://0.0.0.0:{port}"
        for host in ("127.0.0.1", "[::1]"):
            comm = await connect(f"tcp://{host}:{port}")
            await comm.write(host)
            assert await comm.read() == host
            await comm.close()


def refusing(monkeypatch: pytest.MonkeyPatch, numbers: list[int]) -> None:
    """Have binding an IPv6 socket fail with these error numbers, one after another."""
    bind = sockets._bound

    def refuse(family: int, address: SocketAddress) -> socket.socket:
        if family == socket.AF_INET6 and numbers:
            raise OSError(numbers.pop(0), "refused")
        return bind(family, address)

    monkeypatch.setattr(sockets, "_bound", refuse)


@pytest.mark.parametrize("number", [errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL])
async def test_a_system_without_ipv6(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    refusing(monkeypatch, [number])
    with closing(await bound_sockets("", 0)) as (only,):
        assert only.family == socket.AF_INET


@needs_ipv6
async def test_another_port_where_one_is_free_for_half(monkeypatch: pytest.MonkeyPatch) -> None:
    refusing(monkeypatch, [errno.EADDRINUSE] * (sockets.PORTS_TRIED - 1))
    with closing(await bound_sockets("", 0)) as made:
        assert len({one.getsockname()[1] for one in made}) == 1
    refusing(monkeypatch, [errno.EADDRINUSE] * sockets.PORTS_TRIED)
    with pytest.raises(OSError, match="refused"):
        await bound_sockets("", 0)


@needs_ipv6
async def test_a_port_that_was_asked_for_must_be_free_for_both(unused_tcp_port: int) -> None:
    with socket.socket(socket.AF_INET6) as other:
        other.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        other.bind(("::", unused_tcp_port))
        other.listen()
        with pytest.raises(OSError, match="in use"):
            await bound_sockets("", unused_tcp_port)
