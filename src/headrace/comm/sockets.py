"""Sockets that listen, made without the event loop's help where none is needed."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import sys
from typing import Any


async def bound_sockets(host: str, port: int) -> list[socket.socket]:
    """Sockets to listen with: one if the host is an IP address, else one for each address of its name.

    uvloop looks everything up in libuv's threads, and a process that is forked afterwards dies of SIGSEGV when it
    ends, since libuv waits there for threads that are the parent's. So nothing is looked up that need not be.

    Raises:
        OSError: the address cannot be had.
    """
    try:
        families = {6: socket.AF_INET6, 4: socket.AF_INET}
        found: set[Any] = {(families[ipaddress.ip_address(host).version], (host, port))}
        if "%" in host:
            raise ValueError
    except ValueError:
        loop = asyncio.get_running_loop()
        infos = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        found = {(info[0], info[4]) for info in infos}
    made: list[socket.socket] = []
    try:
        for family, address in sorted(found):
            made.append(_bound(family, address))
    except BaseException:
        for one in made:
            one.close()
        raise
    return made


def _bound(family: int, address: Any) -> socket.socket:
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
