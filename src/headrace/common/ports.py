"""Ports to listen on, as options give them."""

from __future__ import annotations

from typing import Any


def ports_of(port: Any) -> list[Any]:
    """The ports to try, in order.

    Args:
        port: one, a text such as "9000" or "9000:9002" (both included), several, or None for any.

    >>> ports_of("9000:9002"), ports_of("9000"), ports_of(None)
    ([9000, 9001, 9002], [9000], [None])

    Raises:
        ValueError: a text that is neither a port nor a range of ports.
    """
    if port is None or port == "":
        return [None]
    if isinstance(port, str):
        return _ports_in(port)
    return [port] if isinstance(port, int) else list(port)


def _ports_in(text: str) -> list[int]:
    first, colon, last = text.partition(":")
    try:
        ports = range(int(first), int(last if colon else first) + 1)
    except ValueError:
        raise ValueError(f"{text!r} is neither a port nor a range such as 9000:9010") from None
    if not ports or not 0 <= ports[0] <= ports[-1] < 1 << 16:
        raise ValueError(f"{text!r} is no range of ports between 0 and 65535")
    return list(ports)
