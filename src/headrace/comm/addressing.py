"""Addresses: `scheme://location`, where a location is mostly `host:port`."""

from __future__ import annotations

from typing import Any

from .registry import get_backend

DEFAULT_SCHEME = "tcp"


def parse_address(address: str, strict: bool = False) -> tuple[str, str]:
    """Scheme and location.

    >>> parse_address("tcp://127.0.0.1:8786")
    ('tcp', '127.0.0.1:8786')

    Args:
        strict: whether an address without a scheme is an error.

    Raises:
        TypeError: not text.
        ValueError: `strict` and no scheme.
    """
    if not isinstance(address, str):
        raise TypeError(f"expected an address as text, not {type(address).__name__}: {address!r}")
    scheme, separator, location = address.rpartition("://")
    if strict and not separator:
        raise ValueError(f"Invalid url scheme. Must include protocol like tcp://localhost:8000. Got {address}")
    return (scheme, location) if separator and scheme else (_default_scheme(), location)


def unparse_address(scheme: str, location: str) -> str:
    """Inverse of `parse_address`."""
    return f"{scheme}://{location}"


def normalize_address(address: str) -> str:
    """The address with its scheme."""
    return unparse_address(*parse_address(address))


def parse_host_port(location: str, default_port: int | None = None) -> tuple[str, int]:
    """Host and port of a location; IPv6 hosts stand in brackets.

    >>> parse_host_port("[::1]:80")
    ('::1', 80)

    Raises:
        ValueError: malformed, or no port and no default.
    """
    if isinstance(location, tuple):
        return location
    host, port_text = location, ""
    if location.startswith("["):
        host, bracket, rest = location[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise ValueError(f"malformed address {location!r}")
        port_text = rest[1:]
    elif location.count(":") == 1:
        host, _, port_text = location.partition(":")
    elif ":" in location:
        raise ValueError(f"malformed address {location!r}: put an IPv6 host in brackets, [host]:port")
    if not port_text:
        if default_port is None:
            raise ValueError(f"missing port number in address {location!r}: write host:port, such as '127.0.0.1:8786'")
        return host, default_port
    try:
        port = int(port_text)
    except ValueError:
        raise ValueError(f"malformed port number in address {location!r}") from None
    if not 0 <= port < 65536:
        raise ValueError(f"port number out of range in address {location!r}")
    return host, port


def unparse_host_port(host: str, port: int | None = None) -> str:
    """Inverse of `parse_host_port`."""
    if ":" in host and not host.startswith("["):
        host = f"[{host}]"
    return f"{host}:{port}" if port is not None else host


def coerce_to_address(value: str | tuple[str, int | None] | list[Any]) -> str:
    """The address with its scheme, of an address or of (host, port)."""
    return normalize_address(value if isinstance(value, str) else unparse_host_port(*value))


def addr_from_args(
    addr: str | tuple[str, int | None] | None = None, ip: str | None = None, port: int | None = None
) -> str:
    """The address with its scheme, of what is given in one of two ways.

    Raises:
        TypeError: in both, or in none.
    """
    if (addr is None) == (ip is None):
        raise TypeError("give an address, or an ip (and its port)")
    return coerce_to_address((ip, port) if ip is not None else addr)  # type: ignore[arg-type]


def get_address_host(address: str) -> str:
    """The host of an address."""
    scheme, location = parse_address(address)
    return get_backend(scheme).get_address_host(location)


def get_address_host_port(address: str, strict: bool = False) -> tuple[str, int]:
    """Host and port of an address.

    Raises:
        ValueError: its scheme has no ports (`inproc`).
    """
    scheme, location = parse_address(address, strict=strict)
    try:
        return get_backend(scheme).get_address_host_port(location)
    except NotImplementedError:
        raise ValueError(f"an address of scheme {scheme!r} has no host and port: {address!r}") from None


def resolve_address(address: str) -> str:
    """The address with its host name looked up."""
    scheme, location = parse_address(address)
    return unparse_address(scheme, get_backend(scheme).resolve_address(location))


def get_local_address_for(address: str) -> str:
    """An address of this host, without a port, that reaches the given one."""
    scheme, location = parse_address(address)
    return unparse_address(scheme, get_backend(scheme).get_local_address_for(location))


def uri_from_host_port(host: str | None, port: int | str | None, default_port: int | None) -> str:
    """An address to listen at, from a host (perhaps with scheme and port) and a port, as command lines give them.

    >>> uri_from_host_port("", 8786, None)
    'tcp://:8786'

    Raises:
        ValueError: two ports that differ.
    """
    scheme, location = parse_address(host or "")
    port = int(port) if port not in (None, "") else None
    named_host, named_port = parse_host_port(location, default_port=-1)
    if port is None:
        port = (default_port or 0) if named_port == -1 else named_port
    elif named_port not in (-1, port):
        raise ValueError(f"port number given twice, and differently: {host!r} and {port}")
    return unparse_address(scheme, unparse_host_port(named_host, port))


def address_from_user_args(
    host: str | None = None,
    port: int | str | None = None,
    interface: str | None = None,
    protocol: str | None = None,
    peer: str | None = None,
    security: Any = None,
    default_port: int = 0,
) -> str:
    """An address to listen at, from the documented keywords of servers.

    Args:
        interface: name of a network interface, instead of `host`.
        protocol: scheme, with or without `://`.
        peer: an address that must be reachable from the result.

    Raises:
        ValueError: contradictory arguments, or no such interface.
    """
    if security is not None and getattr(security, "require_encryption", None) and not protocol:
        protocol = "tls"
    protocol = protocol.partition("://")[0] if protocol else None
    if protocol == "inproc":
        if any((host, port, interface)):
            raise ValueError(f"inproc takes no host, port or interface (host={host!r}, port={port!r})")
        return "inproc://"
    if interface:
        if host:
            raise ValueError(f"give either interface or host, not both: {interface!r}, {host!r}")
        from .interfaces import get_ip_interface

        host = get_ip_interface(interface)
    if host and "://" in host and protocol and parse_address(host)[0] != protocol:
        raise ValueError(f"two protocols given: {host!r} and {protocol!r}")
    if protocol and "://" not in (host or ""):
        host = protocol + "://" + (unparse_host_port(host) if host and _bare_ipv6(host) else host or "")
    elif not host and peer:
        return get_local_address_for(peer) + (f":{int(port)}" if port else f":{default_port}")
    return uri_from_host_port(host, port, default_port)


def addresses_from_user_args(port: Any = None, **kwargs: Any) -> list[str]:
    """As `address_from_user_args`; several addresses when several hosts or ports are given (lists, "1000:1010")."""
    hosts = kwargs.pop("host", None)
    host_list = list(hosts) if isinstance(hosts, (list, tuple)) else [hosts]
    if isinstance(port, (list, tuple)):
        return [address_from_user_args(host=host, port=one, **kwargs) for host in host_list for one in port]
    return [address_from_user_args(host=host, port=port, **kwargs) for host in host_list]


def _bare_ipv6(host: str) -> bool:
    return host.count(":") > 1 and not host.startswith("[")


def _default_scheme() -> str:
    import sys

    config = sys.modules.get("dask.config")
    if config is None:  # nobody has configured anything: do not import dask for this
        return DEFAULT_SCHEME
    return str(config.get("distributed.comm.default-scheme", DEFAULT_SCHEME))
