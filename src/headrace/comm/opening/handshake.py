"""What the ends of a connection tell each other of themselves, once each has admitted the other (see `opening`)."""

from __future__ import annotations

import os
import pickle
import sys
from functools import lru_cache
from typing import Any

#: The first bytes of every connection.
MAGIC = b"headrace"
#: Number of the protocol; raised whenever ends of the old and the new one could misunderstand each other.
PROTOCOL_VERSION = 2
#: The fatal alert "handshake failure", with which a TLS server refuses a peer.
TLS_ALERT = b"\x15\x03\x03\x00\x02\x02\x28"


@lru_cache
def package_version() -> str:
    """The version of the installed package, for messages."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("headrace")
    except PackageNotFoundError:
        return "(not installed)"


def handshake_info(compression: str | None = None) -> dict[str, Any]:
    """What this end tells of itself."""
    return {
        "protocol": PROTOCOL_VERSION,
        "package": package_version(),
        "python": list(sys.version_info[:3]),
        "pickle": pickle.HIGHEST_PROTOCOL,
        "compression": compression,
        "pid": os.getpid(),
    }


def looks_like_tls(seen: bytes) -> bool:
    """Whether the first bytes of a connection are those of TLS."""
    return seen[:2] in (b"\x16\x03", b"\x15\x03")


def describe(seen: bytes) -> str:
    """What a connection looks like that does not begin as headrace's do."""
    first = seen[:60]
    if first[:4] in (b"GET ", b"POST", b"HEAD", b"PUT ", b"OPTI", b"DELE") or first.startswith(b"HTTP/"):
        return "it looks like HTTP (this port is not for browsers; use a ws:// address on both sides, or on neither)"
    if looks_like_tls(first):
        return "it looks like TLS (use a tls:// address on both sides, or on neither)"
    return f"it began with {first!r}"
