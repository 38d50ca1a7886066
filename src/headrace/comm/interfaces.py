"""The addresses of this host, as far as the system tells without looking names up on the network."""

from __future__ import annotations

import functools
import socket


@functools.lru_cache
def get_ip(host: str = "8.8.8.8", port: int = 80) -> str:
    """The address of this host from which `host` would be reached (nothing is sent); 127.0.0.1 if there is none."""
    return _source_address(host, port, socket.AF_INET, "127.0.0.1")


@functools.lru_cache
def get_ipv6(host: str = "2001:4860:4860::8888", port: int = 80) -> str:
    """The IPv6 address of this host from which `host` would be reached (nothing is sent); `::1` if there is none."""
    return _source_address(host, port, socket.AF_INET6, "::1")


def get_ip_interface(ifname: str) -> str:
    """The first IPv4 address of a network interface.

    Raises:
        ValueError: there is no such interface (the message names those that there are), or it has no IPv4 address.
    """
    import psutil

    interfaces = psutil.net_if_addrs()
    if ifname not in interfaces:
        raise ValueError(f"{ifname!r} is not a network interface. The interfaces are: {sorted(interfaces)}")
    for entry in interfaces[ifname]:
        if entry.family == socket.AF_INET:
            return str(entry.address)
    raise ValueError(f"network interface {ifname!r} has no IPv4 address")


def ensure_ip(host: str) -> str:
    """The IP address of a host; that of this machine for itself if the host is empty.

    Raises:
        OSError: the host's name cannot be looked up.
    """
    if host in ("", "*"):
        return "127.0.0.1"
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, host)
            return host
        except OSError:
            pass
    try:
        entries = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        raise socket.gaierror(error.errno, f"cannot look up the host {host!r}: {error.strerror}") from error
    entries.sort(key=lambda entry: entry[0] != socket.AF_INET)
    return str(entries[0][4][0])


def _source_address(host: str, port: int, family: socket.AddressFamily, default: str) -> str:
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((host, port))
            return str(probe.getsockname()[0])
        except OSError:
            return default
