"""Ports to listen on, as options give them."""

from __future__ import annotations

from typing import Any


def ports_of(port: Any) -> list[Any]:
    """The ports to try, in order.

    >>> ports_of("9000:9002"), ports_of("9000"), ports_of(None)
    ([9000, 9001, 9002], [9000], [None])

    Raises:
        ValueError: a range that ends before it begins.
    """
    if isinstance(port, str) and ":" in port:
        first, last = map(int, port.split(":"))
        if last < first:
            raise ValueError(f"port range {port!r} ends before it begins")
        return list(range(first, last + 1))
    if isinstance(port, str) and port.isdecimal():
        return [int(port)]
    if port is None or isinstance(port, (int, str)):
        return [port]
    return list(port)
