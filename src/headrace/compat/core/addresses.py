"""Addresses that are given in one of two ways."""

from __future__ import annotations

from headrace.comm.addressing import coerce_to_address


def addr_from_args(
    addr: str | tuple[str, int | None] | None = None, ip: str | None = None, port: int | None = None
) -> str:
    """The address with its scheme, from either an address or an ip with its port.

    Raises:
        TypeError: both are given, or neither.
    """
    if (addr is None) == (ip is None):
        raise TypeError("give an address, or an ip (and its port)")
    return coerce_to_address((ip, port) if ip is not None else addr)  # type: ignore[arg-type]
