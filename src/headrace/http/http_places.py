"""Where an HTTP server listens: the documented forms of `dashboard_address`, and the sockets for them."""

from __future__ import annotations

import contextlib
import errno
import socket
from dataclasses import dataclass
from typing import Any

from headrace.comm.addressing import ports_of

#: Hosts that stand for all interfaces.
EVERYWHERE = ("", "0.0.0.0", "::")
#: Connections that the kernel keeps until they are accepted.
BACKLOG = 128


@dataclass(frozen=True, slots=True)
class Place:
    """A host and the ports to try there.

    Attributes:
        host: None for the host at which the server itself listens, "" for all interfaces.
        ports: in the order in which to try them; 0 takes a free one.
        named: whether the user named the port, so that he is told when another is taken.
    """

    host: str | None
    ports: tuple[int, ...]
    named: bool = True


def places_of(given: object, default_port: int) -> list[Place]:
    """The places that a `dashboard_address` names.

    Args:
        given: a port, "8787", ":8787", "host:8787", "[::1]:8787", "host:8000:8010" or ":8000:8010" for a range, (host,
            port), several of these in a list or with commas; True for the default.
        default_port: for a host without a port, and for True.

    Raises:
        ValueError: not such a thing; the message names it.

    >>> places_of(":8787,foo:0", 0)
    [Place(host=None, ports=(8787,), named=True), Place(host='foo', ports=(0,), named=False)]
    """
    if given is True:
        return [_place(None, default_port)]
    if isinstance(given, tuple) and len(given) == 2 and isinstance(given[0], str) and ":" not in given[0]:
        return [_place(given[0], given[1])]
    parts = given if isinstance(given, list | tuple) else given.split(",") if isinstance(given, str) else [given]
    found = [_place_of(part, default_port) for part in parts]
    if not found:
        raise ValueError(
            "dashboard_address is an empty list: give None for no HTTP server, or an address such as ':8787'"
        )
    return found


def _place_of(part: object, default_port: int) -> Place:
    if isinstance(part, tuple) and len(part) == 2:
        return _place(str(part[0]), part[1])
    if isinstance(part, int) and not isinstance(part, bool):
        return _place(None, part)
    if not isinstance(part, str):
        raise ValueError(f"a dashboard address is a port, ':port' or 'host:port', not {part!r}")
    text = part.strip()
    scheme, separator, rest = text.partition("://")
    if separator:
        if scheme not in ("http", "https", "tcp", "tls"):
            raise ValueError(f"a dashboard address is a port, ':port' or 'host:port', not {part!r}")
        text = rest
    text = text.rstrip("/")
    host: str | None
    if text.startswith("["):  # an IPv6 address
        host, bracket, ports = text[1:].partition("]")
        if not bracket or (ports and not ports.startswith(":")):
            raise ValueError(f"a dashboard address with IPv6 is written like '[::1]:8787', not {part!r}")
        ports = ports[1:]
    elif text.count(":") > 2 and not text.startswith(":"):
        host, ports = text, ""
    else:
        host, _, ports = text.partition(":")
        if host.isdigit():
            host, ports = "", text
        host = host or None
    return _place(host, ports or default_port, part)


def _place(host: str | None, port: Any, part: object = None) -> Place:
    try:
        ports = tuple(each or 0 for each in ports_of(port))
    except (TypeError, ValueError) as error:
        shown = port if part is None else part
        raise ValueError(f"a dashboard address is a port, ':port' or 'host:port', not {shown!r}: {error}") from None
    for each in ports:
        if not 0 <= each <= 65535:
            raise ValueError(f"a port is between 0 and 65535, not {each} (dashboard address {part or port!r})")
    return Place(host, ports, named=any(ports))


def bound_sockets(place: Place, host: str) -> tuple[list[socket.socket], str]:
    """Sockets that listen at a place: one, or for all interfaces one for IPv4 and one for IPv6.

    Args:
        host: for a place that names none.

    Returns:
        The sockets, and why the user's port could not be had, if another was taken; else "".

    Raises:
        OSError: nothing can be had there, not even another port.
    """
    chosen = host if place.host is None else place.host
    failure: OSError | None = None
    for port in place.ports:
        try:
            return _bound(chosen, port), ""
        except OSError as error:
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise _with_place(error, chosen, port) from error
            failure = error
    assert failure is not None
    try:
        return _bound(chosen, 0), failure.strerror or str(failure)
    except OSError as error:
        raise _with_place(error, chosen, 0) from error


def _with_place(error: OSError, host: str, port: int) -> OSError:
    return OSError(error.errno, f"cannot listen for HTTP at {host!r}, port {port}: {error.strerror or error}")


def _bound(host: str, port: int) -> list[socket.socket]:
    if host not in EVERYWHERE:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return [_listening(family, address)]
    if host == "::":
        return [_listening(socket.AF_INET6, (host, port))]
    first = _listening(socket.AF_INET, ("0.0.0.0", port))
    sockets = [first]
    if not host and socket.has_ipv6:
        with contextlib.suppress(OSError):  # no IPv6 on this machine, or its port is another's: IPv4 does
            sockets.append(_listening(socket.AF_INET6, ("::", first.getsockname()[1])))
    return sockets


def _listening(family: int, address: Any) -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.bind(address)
        made.listen(BACKLOG)
        made.setblocking(False)
    except BaseException:
        made.close()
        raise
    return made
