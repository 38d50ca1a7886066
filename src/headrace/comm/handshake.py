"""The opening of every connection: magic bytes, then `u32 length` and a msgpack dictionary, both ways at once.

The format of the opening never changes, so that any two versions can tell each other which they are.
"""

from __future__ import annotations

import os
import pickle
import struct
import sys
from functools import lru_cache
from typing import Any

import msgspec

from headrace.exceptions import CommClosedError, FatalCommClosedError, ProtocolVersionError

MAGIC = b"headrace"
#: Number of the protocol; raised whenever ends of the old and the new one could misunderstand each other.
PROTOCOL_VERSION = 1
#: Longest handshake, in bytes.
MAX_HANDSHAKE_BYTES = 64 * 1024

#: The fatal alert "handshake failure", with which a TLS server refuses a peer.
TLS_ALERT = b"\x15\x03\x03\x00\x02\x02\x28"

_length = struct.Struct("<I")
_OPENING = len(MAGIC) + _length.size


@lru_cache
def package_version() -> str:
    """The version of the installed package, for messages."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("headrace")
    except PackageNotFoundError:
        return "(not installed)"


def handshake_info(compression: str | None = None) -> dict[str, Any]:
    """The handshake of this end."""
    return {
        "protocol": PROTOCOL_VERSION,
        "package": package_version(),
        "python": list(sys.version_info[:3]),
        "pickle": pickle.HIGHEST_PROTOCOL,
        "compression": compression,
        "pid": os.getpid(),
    }


def encode_handshake(info: dict[str, Any]) -> bytes:
    """The opening bytes of a connection."""
    body = msgspec.msgpack.encode(info)
    return MAGIC + _length.pack(len(body)) + body


class HandshakeReader:
    """Collects the other side's opening.

    Attributes:
        info: the other side's handshake once it is complete.
        rest: bytes that came after the handshake.
    """

    def __init__(self) -> None:
        self.info: dict[str, Any] | None = None
        self.rest = b""
        self._data = bytearray()

    @property
    def started(self) -> bool:
        """Whether any byte has come."""
        return bool(self._data)

    def feed(self, data: bytes | memoryview) -> bool:
        """Take bytes, and tell whether the handshake is complete.

        Raises:
            CommClosedError: the other side does not speak headrace's protocol; the message says what it looks like.
        """
        self._data += data
        seen = self._data
        if seen[: len(MAGIC)] != MAGIC[: len(seen)]:
            kind = FatalCommClosedError if _looks_like_tls(bytes(seen)) else CommClosedError
            raise kind(f"the other side does not speak headrace's protocol: {_describe(bytes(seen))}")
        if len(seen) < _OPENING:
            return False
        (size,) = _length.unpack_from(seen, len(MAGIC))
        if size > MAX_HANDSHAKE_BYTES:
            raise CommClosedError(f"malformed handshake: {size} bytes announced, at most {MAX_HANDSHAKE_BYTES} allowed")
        if len(seen) < _OPENING + size:
            return False
        try:
            self.info = msgspec.msgpack.decode(seen[_OPENING : _OPENING + size], type=dict[str, Any])
        except msgspec.MsgspecError as error:
            raise CommClosedError(f"malformed handshake: {error}") from error
        self.rest = bytes(seen[_OPENING + size :])
        return True


def check_versions(own: dict[str, Any], peer: dict[str, Any], peer_address: str) -> None:
    """Refuse a peer of another protocol version.

    Raises:
        ProtocolVersionError: the versions differ; the message names both, and says what to do.
    """
    if peer.get("protocol") != own["protocol"]:
        raise ProtocolVersionError(
            f"{peer_address} speaks protocol version {peer.get('protocol')} (headrace {peer.get('package')}), "
            f"this process version {own['protocol']} (headrace {own['package']}): "
            "install the same version of headrace on both sides"
        )


def _looks_like_tls(seen: bytes) -> bool:
    return seen[:2] in (b"\x16\x03", b"\x15\x03")


def _describe(seen: bytes) -> str:
    first = seen[:60]
    if first[:4] in (b"GET ", b"POST", b"HEAD", b"PUT ", b"OPTI", b"DELE") or first.startswith(b"HTTP/"):
        return "it looks like HTTP (this port is not for browsers; use a ws:// address on both sides, or on neither)"
    if _looks_like_tls(first):
        return "it looks like TLS (use a tls:// address on both sides, or on neither)"
    return f"it began with {first!r}"
