"""Which user a connection comes from, if it comes from this machine: asked of the kernel, by the connection's ends.

Linux tells the owner of each TCP socket, to anybody: by a netlink socket (`sock_diag(7)`), or, where that is not to be
had, in `/proc/net/tcp` and `tcp6`. Elsewhere the owner is not known.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import socket
import struct
import sys
from functools import lru_cache
from typing import Any

#: Whether this system tells the owners of sockets.
TELLS_USERS = sys.platform == "linux"
#: Of the kernel's interface `sock_diag`.
_NETLINK_SOCK_DIAG, _BY_FAMILY, _REQUEST, _NO_COOKIE, _ERROR = 4, 20, 1, 0xFFFFFFFF, 2
_message = struct.Struct("=IHHII")
_request = struct.Struct("=BBBBI")
_ports = struct.Struct(">HH")
#: State of an open connection. Sockets in all other states may have lost their owner, and show root instead.
_ESTABLISHED = 1
_SECONDS = 1.0
#: Stands for this machine among hosts.
THIS_MACHINE = "this machine"
#: Not empty once the kernel has told the owner of a socket; one that lacks the module for it says that there is none.
_answers: set[bool] = set()


def is_same_user(own: Any, peer: Any) -> bool:
    """Whether the socket at the other end of a connection belongs to this process's user, or to root, on this machine.

    Only to be asked while the connection is open, and after the other end has sent something: before that, nobody may
    own its socket yet.

    Args:
        own, peer: addresses of this end and of the other, as `getsockname` and `getpeername` give them.
    """
    uid = peer_uid(own, peer)
    return uid is not None and uid in (0, os.geteuid())


def is_local(own: Any, peer: Any) -> bool:
    """Whether a connection stays within this machine: it leads to loopback, or both ends have one address."""
    ends = _plain(own), _plain(peer)
    return None not in ends and (ends[1].is_loopback or ends[0] == ends[1])  # type: ignore[union-attr]


def host_of(own: Any, peer: Any) -> object:
    """The host at the other end, to tell it from others: `THIS_MACHINE`, an IPv4 address, an IPv6 network; or None."""
    if is_local(own, peer):
        return THIS_MACHINE
    address = _plain(peer)
    if isinstance(address, ipaddress.IPv6Address):
        return address.packed[:8]  # of /64, since whoever has one such address has them all
    return address


def peer_uid(own: Any, peer: Any) -> int | None:
    """The user who owns the socket at the other end of a connection; None if it is not known.

    None as well for users that this process's namespace has no number for.
    """
    if not TELLS_USERS or not is_local(own, peer):
        return None
    try:
        uid = _ask_kernel(own, peer)
    except OSError:
        uid = _look_up(own, peer)
    return None if uid == overflow_uid() else uid


@lru_cache
def overflow_uid() -> int:
    """The number that the kernel shows for users whom a namespace does not know."""
    with contextlib.suppress(OSError, ValueError), open("/proc/sys/kernel/overflowuid", encoding="ascii") as file:
        return int(file.read())
    return 65534


def _plain(address: Any) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The IP address of a socket's address, as IPv4 if it stands for one; None if it has none."""
    if not isinstance(address, tuple | list) or len(address) < 2:
        return None
    try:
        found = ipaddress.ip_address(str(address[0]).partition("%")[0])
    except ValueError:
        return None
    return (found.ipv4_mapped or found) if isinstance(found, ipaddress.IPv6Address) else found


def _ask_kernel(own: Any, peer: Any) -> int | None:
    """Ask by netlink, which takes some 0.03 ms however many sockets there are.

    Raises:
        OSError: the kernel does not answer such questions, or has no such socket (which `/proc` may still show).
    """
    source, destination = _plain(peer), _plain(own)
    assert source is not None
    assert destination is not None
    family = socket.AF_INET if source.version == 4 else socket.AF_INET6
    ends = (
        _ports.pack(peer[1], own[1])
        + source.packed.ljust(16, b"\0")
        + destination.packed.ljust(16, b"\0")
        + struct.pack("=III", 0, _NO_COOKIE, _NO_COOKIE)
    )
    question = _request.pack(family, socket.IPPROTO_TCP, 0, 0, 1 << _ESTABLISHED) + ends
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_SOCK_DIAG) as asking:
        asking.settimeout(_SECONDS)
        asking.send(_message.pack(_message.size + len(question), _BY_FAMILY, _REQUEST, 1, 0) + question)
        answer = asking.recv(8192)
    _, kind, _, _, _ = _message.unpack_from(answer)
    is_gone = kind == _ERROR and -struct.unpack_from("=i", answer, _message.size)[0] == errno.ENOENT
    # A peer that resets its connection must not have us read a long table. (Netlink does not find connections of one
    # link without its interface.)
    if is_gone and _answers and not source.is_link_local:
        return None
    if kind != _BY_FAMILY:
        raise OSError("the kernel does not know this connection by netlink")
    _answers.add(True)
    # struct inet_diag_msg: family, state, two bytes, 48 bytes of ends, then expires, rqueue, wqueue, uid, inode.
    state = answer[_message.size + 1]
    ports = _ports.unpack_from(answer, _message.size + 4)
    _, _, _, uid, inode = struct.unpack_from("=IIIII", answer, _message.size + 52)
    if state != _ESTABLISHED or inode == 0 or ports != (peer[1], own[1]):
        return None
    return int(uid)


def _look_up(own: Any, peer: Any) -> int | None:
    """Look for the connection in the tables of `/proc/net`."""
    wanted = (_plain(peer), peer[1], _plain(own), own[1])
    for name in ("tcp", "tcp6"):
        with contextlib.suppress(OSError), open(f"/proc/net/{name}", encoding="ascii") as table:
            next(table, None)
            for line in table:
                fields = line.split()
                is_open = int(fields[3], 16) == _ESTABLISHED and fields[9] != "0"
                if is_open and (*_end(fields[1]), *_end(fields[2])) == wanted:
                    return int(fields[7])
    return None


def _end(text: str) -> tuple[ipaddress.IPv4Address | ipaddress.IPv6Address | None, int]:
    """Address and port of an entry such as `0100007F:1F90`: words of 32 bits in the machine's order."""
    host, _, port = text.partition(":")
    words = [bytes.fromhex(host[start : start + 8]) for start in range(0, len(host), 8)]
    packed = b"".join(word[::-1] if sys.byteorder == "little" else word for word in words)
    return _plain((str(ipaddress.ip_address(packed)), 0)), int(port, 16)
