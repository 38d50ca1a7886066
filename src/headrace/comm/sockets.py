"""The sockets under comms: those that listen, the options of those that are connected, and their addresses as text.

Listening sockets are made without the event loop's help where none is needed.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import socket
import sys
from typing import TypeAlias, cast

from headrace.config import CommOptions

from .addressing import unparse_host_port

#: A socket's address by the system: host and port, and two numbers more for IPv6.
SocketAddress: TypeAlias = tuple[str, int] | tuple[str, int, int, int]
#: Hosts that stand for all interfaces.
EVERYWHERE = ("", "*")
#: Ports that are tried until one is free for all sockets of a listener.
PORTS_TRIED = 10


async def bound_sockets(host: str, port: int) -> list[socket.socket]:
    """Sockets bound to an address: one if the host is an IP address, else one for each address of its name.

    An empty host, or "*", means all interfaces, with IPv4 and, where the system has it, with IPv6. All sockets have the
    same port; port 0 stands for one that is free for all of them.

    uvloop looks up any host, even a number, in libuv's threads. A process that is forked afterwards dies of SIGSEGV
    when it ends, since libuv waits there for threads that are the parent's. So IP addresses are not looked up.

    Raises:
        OSError: the address cannot be had.
    """
    found = await _places(host)
    for attempt in range(1, PORTS_TRIED + 1):
        try:
            return _bound_together(found, port, optional_ipv6=host in EVERYWHERE)
        except OSError as error:
            # a port that the system has chosen for the first socket may be in use where the second is to be
            if port or len(found) == 1 or error.errno != errno.EADDRINUSE or attempt == PORTS_TRIED:
                raise
    raise AssertionError


async def _places(host: str) -> list[tuple[int, SocketAddress]]:
    """The families and addresses of a host, without port; IPv4 first."""
    if host in EVERYWHERE:
        places: list[tuple[int, SocketAddress]] = [(socket.AF_INET, ("0.0.0.0", 0))]
        return [*places, (socket.AF_INET6, ("::", 0))] if socket.has_ipv6 else places
    families = {6: socket.AF_INET6, 4: socket.AF_INET}
    try:
        if "%" in host:
            raise ValueError
        return [(families[ipaddress.ip_address(host).version], (host, 0))]
    except ValueError:
        loop = asyncio.get_running_loop()
        infos = await loop.getaddrinfo(host, 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        return sorted({(info[0], cast(SocketAddress, info[4])) for info in infos})


def is_loopback(host: str) -> bool:
    """Whether a host is an address, or the name, by which a machine reaches itself only."""
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return host == "localhost"


def _bound_together(found: list[tuple[int, SocketAddress]], port: int, *, optional_ipv6: bool) -> list[socket.socket]:
    made: list[socket.socket] = []
    try:
        for family, (host, _, *more) in found:
            try:
                made.append(_bound(family, cast(SocketAddress, (host, port, *more))))
            except OSError as error:
                # A kernel without IPv6 has no such family; one that was told to do without has no such address.
                if family != socket.AF_INET6 or not optional_ipv6 or error.errno == errno.EADDRINUSE:
                    raise
            else:
                port = made[-1].getsockname()[1]
    except BaseException:
        for one in made:
            one.close()
        raise
    return made


def _bound(family: int, address: SocketAddress) -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        if sys.platform != "win32":
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.setblocking(False)
        made.bind(address)
    except BaseException:
        made.close()
        raise
    return made


def set_options(sock: socket.socket) -> None:
    """Have a connected socket send at once, and end a connection whose other end has been silent for too long.

    The time is `distributed.comm.timeouts.tcp`. Options that the system or the kind of socket does not have are left.
    """
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        timeout = max(3, int(CommOptions.from_config().tcp_timeout))
        if hasattr(socket, "TCP_KEEPIDLE"):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, max(1, timeout // 4))
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, max(1, timeout // 10))
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 7)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, timeout * 1000)


def address_text(scheme: str, name: SocketAddress | None) -> str:
    """The address of one end of a connection, with its scheme; the scheme alone if the system does not tell."""
    return f"{scheme}://{unparse_host_port(name[0], name[1])}" if name else f"{scheme}://"
