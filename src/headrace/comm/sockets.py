"""The sockets under comms: those that listen, the options of those that are connected, and their addresses as text.

Listening sockets are made without the event loop's help where none is needed.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import sys
from typing import TypeAlias, cast

from headrace.config import CommOptions

from .addressing import unparse_host_port

#: A socket's address by the system: host and port, and two numbers more for IPv6.
SocketAddress: TypeAlias = tuple[str, int] | tuple[str, int, int, int]


async def bound_sockets(host: str, port: int) -> list[socket.socket]:
    """Sockets bound to an address: one if the host is an IP address, else one for each address of its name.

    uvloop looks up any host, even a number, in libuv's threads. A process that is forked afterwards dies of SIGSEGV
    when it ends, since libuv waits there for threads that are the parent's. So IP addresses are not looked up.

    Raises:
        OSError: the address cannot be had.
    """
    try:
        families = {6: socket.AF_INET6, 4: socket.AF_INET}
        found: set[tuple[int, SocketAddress]] = {(families[ipaddress.ip_address(host).version], (host, port))}
        if "%" in host:
            raise ValueError
    except ValueError:
        loop = asyncio.get_running_loop()
        infos = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        found = {(info[0], cast(SocketAddress, info[4])) for info in infos}
    made: list[socket.socket] = []
    try:
        for family, address in sorted(found):
            made.append(_bound(family, address))
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
