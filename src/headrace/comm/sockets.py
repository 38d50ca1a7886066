"""Sockets that listen, made without the event loop's help where none is needed."""

from __future__ import annotations

import ipaddress
import socket
import sys
from typing import Any


def where_to_listen(host: str, port: int) -> dict[str, Any]:
    """Keywords of `loop.create_server`: a bound socket if the host is an IP address, else names to be looked up.

    uvloop looks everything up in libuv's threads, and a process that is forked afterwards dies of SIGSEGV when it
    ends, since libuv waits there for threads that are the parent's. So nothing is looked up that need not be.

    Raises:
        OSError: the address cannot be had.
    """
    try:
        version = ipaddress.ip_address(host).version
    except ValueError:
        return {"host": host, "port": port}
    if sys.platform == "win32" or "%" in host:
        return {"host": host, "port": port}
    made = socket.socket(socket.AF_INET6 if version == 6 else socket.AF_INET, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if version == 6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.setblocking(False)
        made.bind((host, port))
    except BaseException:
        made.close()
        raise
    return {"sock": made}
