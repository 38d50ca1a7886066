"""Addresses: `scheme://location`, where a location is mostly `host:port`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from headrace.config import get

from .registry import get_backend

DEFAULT_SCHEME = "tcp"
#: Schemes of addresses with a path, and the ports that those without a port mean for whoever connects.
WEB_PORTS = {"ws": 80, "wss": 443}
#: Schemes of addresses that have a host and a port.
SOCKET_SCHEMES = frozenset({"tcp", "tls", *WEB_PORTS})


def parse_address(addr: str, strict: bool = False) -> tuple[str, str]:
    """Scheme and location of an address; the configured default scheme if the address has none.

    >>> parse_address("tcp://127.0.0.1:8786")
    ('tcp', '127.0.0.1:8786')

    Args:
        strict: whether an address without a scheme is an error.

    Raises:
        TypeError: the address is not text.
        ValueError: the address has no scheme, and `strict` is true.
    """
    if not isinstance(addr, str):
        raise TypeError(f"expected an address as text, not {type(addr).__name__}: {addr!r}")
    scheme, separator, location = addr.rpartition("://")
    if strict and not separator:
        raise ValueError(f"Invalid url scheme. Must include protocol like tcp://localhost:8000. Got {addr}")
    return (scheme, location) if separator and scheme else (_default_scheme(), location)


def unparse_address(scheme: str, loc: str) -> str:
    """Inverse of `parse_address`."""
    return f"{scheme}://{loc}"


def normalize_address(addr: str) -> str:
    """The address with its scheme, which is the configured default one if the address has none."""
    return unparse_address(*parse_address(addr))


def parse_host_port(address: str | tuple[str, int], default_port: str | int | None = None) -> tuple[str, int]:
    """Host and port of an address; IPv6 hosts stand in brackets.

    >>> parse_host_port("[::1]:80"), parse_host_port("tcp://127.0.0.1:80"), parse_host_port("wss://example.com/dask")
    (('::1', 80), ('127.0.0.1', 80), ('example.com', 443))

    Args:
        address: with or without a scheme; a pair is returned as it is. With `ws` and `wss` it may have a path, and
            has a port by default.

    Raises:
        TypeError: the address is neither text nor a pair.
        ValueError: the address is malformed, or has no port and there is no default.
    """
    if isinstance(address, tuple):
        return address
    if not isinstance(address, str):
        raise TypeError(f"expected an address as text, not {type(address).__name__}: {address!r}")
    scheme, _, address = address.rpartition("://")
    if scheme in WEB_PORTS:
        address = split_path(address)[0]
        default_port = WEB_PORTS[scheme] if default_port is None else default_port
    host, port_text = address, ""
    if address.startswith("["):
        host, bracket, rest = address[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise ValueError(f"malformed address {address!r}")
        port_text = rest[1:]
    elif address.count(":") == 1:
        host, _, port_text = address.partition(":")
    elif ":" in address:
        raise ValueError(f"malformed address {address!r}: put an IPv6 host in brackets, [host]:port")
    if not port_text:
        if default_port is None:
            raise ValueError(f"missing port number in address {address!r}: write host:port, such as '127.0.0.1:8786'")
        return host, int(default_port)
    try:
        port = int(port_text)
    except ValueError:
        raise ValueError(f"malformed port number in address {address!r}") from None
    if not 0 <= port < 65536:
        raise ValueError(f"port number out of range in address {address!r}")
    return host, port


def split_path(location: str) -> tuple[str, str]:
    """Host and port, and the path behind them, of a location of `ws` or `wss`; "/" at its end does not count.

    >>> split_path("example.com:8786/dask/"), split_path("example.com/")
    (('example.com:8786', '/dask'), ('example.com', ''))
    """
    place, slash, path = location.partition("/")
    return place, (slash + path).rstrip("/")


def unparse_host_port(host: str, port: int | None = None) -> str:
    """Inverse of `parse_host_port`."""
    if ":" in host and not host.startswith("["):
        host = f"[{host}]"
    return f"{host}:{port}" if port is not None else host


def coerce_to_address(o: str | tuple[str, int | None] | list[Any]) -> str:
    """The address with its scheme, from an address or a pair of host and port."""
    return normalize_address(o if isinstance(o, str) else unparse_host_port(*o))


def full_contact_address(given: str, listening: str) -> str:
    """A server's contact address: the one that its owner gave, completed by the scheme and the port that it listens at.

    >>> full_contact_address("gateway", "tls://10.0.0.1:9000")
    'tls://gateway:9000'

    Raises:
        TypeError, ValueError: `given` is no address.
    """
    if not isinstance(given, str):
        raise TypeError(f"contact_address must be an address as text, not {given!r}")
    scheme, location = parse_address(listening)
    if "://" in given:
        scheme, given = parse_address(given)
    if scheme not in SOCKET_SCHEMES:
        return unparse_address(scheme, given)
    path = ""
    if scheme in WEB_PORTS:
        given, path = split_path(given)
        path = path or split_path(location)[1]
    try:
        host, port = parse_host_port(given, default_port=parse_host_port(listening, 0)[1])
        if not host:
            raise ValueError("it has no host")
    except ValueError as error:
        raise ValueError(f"contact_address cannot be {given!r}: {error}") from None
    return unparse_address(scheme, unparse_host_port(host, port) + path)


def facing_address(listening: str, peer: str) -> str | None:
    """The address of this host that faces a peer, for a server that listens on all interfaces; None for another server.

    Args:
        listening: the address that the server is bound to.
    """
    scheme = parse_address(listening)[0]
    peer_scheme, there = parse_address(peer)
    if not {scheme, peer_scheme} <= SOCKET_SCHEMES or parse_host_port(listening, 0)[0] not in ("0.0.0.0", "::"):
        return None
    return unparse_address(scheme, get_backend(peer_scheme).get_local_address_for(there))


def get_address_host(addr: str) -> str:
    """The host of an address."""
    scheme, location = parse_address(addr)
    return get_backend(scheme).get_address_host(location)


def get_address_host_port(addr: str, strict: bool = False) -> tuple[str, int]:
    """Host and port of an address.

    Raises:
        ValueError: the address has a scheme without ports (`inproc`).
    """
    scheme, location = parse_address(addr, strict=strict)
    try:
        return get_backend(scheme).get_address_host_port(location)
    except NotImplementedError:
        raise ValueError(f"an address of scheme {scheme!r} has no host and port: {addr!r}") from None


def resolve_address(addr: str) -> str:
    """The address with its host name looked up."""
    scheme, location = parse_address(addr)
    return unparse_address(scheme, get_backend(scheme).resolve_address(location))


def get_local_address_for(addr: str) -> str:
    """An address of this host, without a port, that reaches the given one."""
    scheme, location = parse_address(addr)
    return unparse_address(scheme, get_backend(scheme).get_local_address_for(location))


def uri_from_host_port(host_arg: str | None, port_arg: int | str | None, default_port: int | None) -> str:
    """An address to listen at, from a host (perhaps with scheme and port) and a port, as command lines give them.

    >>> uri_from_host_port("", 8786, None), uri_from_host_port("127.0.0.1:9000", 0, 8786)
    ('tcp://:8786', 'tcp://127.0.0.1:9000')

    Args:
        port_arg: 0 stands for any port, unless the host names one.

    Raises:
        ValueError: host and port name two different ports.
    """
    scheme, location = parse_address(host_arg or "")
    location, path = split_path(location) if scheme in WEB_PORTS else (location, "")
    port = int(port_arg) if port_arg not in (None, "") else None
    named_host, named_port = parse_host_port(location, default_port=-1)
    if named_port == -1:
        named_port = (default_port or 0) if port is None else port
    elif port and named_port != port:
        raise ValueError(f"port number given twice, and differently: {host_arg!r} and {port}")
    return unparse_address(scheme, unparse_host_port(named_host, named_port) + path)


def has_port(host: str | None) -> bool:
    """Whether a host to listen at, as command lines give it, includes a port."""
    return bool(host) and parse_host_port(normalize_address(host or ""), default_port=-1)[1] != -1


def address_from_user_args(
    host: str | None = None,
    port: int | str | None = None,
    interface: str | None = None,
    protocol: str | None = None,
    peer: str | None = None,
    security: object = None,
    default_port: int = 0,
) -> str:
    """An address to listen at, from the documented keywords of servers.

    Args:
        host: perhaps with scheme and port; empty for all interfaces.
        interface: name of a network interface, instead of `host`.
        protocol: scheme, with or without `://`; counts rather than one that `host` has.
        peer: an address that must be reachable from the result, if there is no host, and that the result has its scheme
            from, if neither `host` nor `protocol` names one.
        security: `Security`; if it requires encryption, the scheme is "tls", or "wss" for a peer of WebSockets, unless
            `protocol` names another.

    Raises:
        ValueError: the arguments contradict each other, or there is no such interface.
    """
    if protocol:
        protocol = protocol.partition("://")[0]
    elif getattr(security, "require_encryption", None):
        protocol = "wss" if peer and parse_address(peer)[0] in WEB_PORTS else "tls"
    elif peer and (interface or host) and "://" not in (host or "") and parse_address(peer)[0] in SOCKET_SCHEMES:
        protocol = parse_address(peer)[0]
    if protocol == "inproc":
        if any((host, port, interface)):
            raise ValueError(f"inproc takes no host, port or interface (host={host!r}, port={port!r})")
        return "inproc://"
    if interface:
        if host:
            raise ValueError(f"give either interface or host, not both: {interface!r}, {host!r}")
        from .interfaces import get_ip_interface

        host = get_ip_interface(interface)
    if protocol:
        location = (host or "").rpartition("://")[2]
        host = unparse_address(protocol, unparse_host_port(location) if _bare_ipv6(location) else location)
    elif host is None and peer:
        return get_local_address_for(peer) + (f":{int(port)}" if port else f":{default_port}")
    return uri_from_host_port(host, port, default_port)


def addresses_from_user_args(
    host: str | Sequence[str | None] | None = None,
    port: int | str | Sequence[int | str | None] | None = None,
    interface: str | Sequence[str | None] | None = None,
    protocol: str | Sequence[str | None] | None = None,
    peer: str | None = None,
    security: object = None,
    default_port: int = 0,
) -> list[str]:
    """Addresses to listen at, from the keywords of `address_from_user_args`.

    >>> addresses_from_user_args(protocol=["tcp", "tls"], port=[8786, 8787])
    ['tcp://:8786', 'tls://:8787']

    Args:
        host, port, interface, protocol: lists give one address for each place in them; what is not a list, or is a list
            of one, holds for all. For "inproc" among several protocols such a host, port or interface does not count.

    Raises:
        ValueError: lists have different lengths; or as for `address_from_user_args`.
    """
    given: dict[str, Any] = {"host": host, "port": port, "interface": interface, "protocol": protocol}
    lists = {name: list(value) for name, value in given.items() if isinstance(value, (list, tuple))}
    lengths = {len(values) for values in lists.values() if len(values) != 1} or {1}
    if len(lengths) > 1:
        counts = " and ".join(f"{len(values)} of {name}" for name, values in lists.items())
        raise ValueError(f"cannot tell which belong together: {counts}")
    (count,) = lengths
    addresses = []
    for place in range(count):
        each = {name: values[place] if len(values) > 1 else values[0] for name, values in lists.items()}
        chosen = {**given, **each}
        if count > 1 and (chosen["protocol"] or "").partition("://")[0] == "inproc":
            chosen = {name: value for name, value in chosen.items() if len(lists.get(name, ())) > 1}
        addresses.append(address_from_user_args(**chosen, peer=peer, security=security, default_port=default_port))
    return addresses


def ports_of(port: int | str | Iterable[int | None] | None) -> list[int | None]:
    """The ports to try to listen at, in order, as options give them.

    Args:
        port: a port, a text such as "9000" or "9000:9002" (both included), several ports, or None for any.

    >>> ports_of("9000:9002"), ports_of("9000"), ports_of(None)
    ([9000, 9001, 9002], [9000], [None])

    Raises:
        ValueError: the text is neither a port nor a range of ports.
    """
    if port is None or port == "":
        return [None]
    if isinstance(port, str):
        return _ports_in(port)
    return [port] if isinstance(port, int) else list(port)


def _bare_ipv6(host: str) -> bool:
    return host.count(":") > 1 and not host.startswith("[")


def _ports_in(text: str) -> list[int | None]:
    first, colon, last = text.partition(":")
    try:
        ports = range(int(first), int(last if colon else first) + 1)
    except ValueError:
        raise ValueError(f"{text!r} is neither a port nor a range such as 9000:9010") from None
    if not ports or not 0 <= ports[0] <= ports[-1] < 1 << 16:
        raise ValueError(f"{text!r} is no range of ports between 0 and 65535")
    return list(ports)


def _default_scheme() -> str:
    return str(get("distributed.comm.default-scheme", DEFAULT_SCHEME))
