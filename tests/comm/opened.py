"""The opening of a connection as bytes, for tests that speak to listeners by plain sockets.

An end that belongs to the listener's user on its machine need prove nothing, and so may send all it has at once.
"""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from headrace.auth.access_rules import AccessRules
from headrace.comm.opening.handshake import MAGIC, handshake_info
from headrace.comm.opening.opening_states import GREETING_BYTES, Opening, OpeningChannel

#: Bytes of the proofs that the connecting end sends, and of the listening end's verdict.
PROOFS_BYTES, VERDICT_BYTES = 2 + 2 * 32, 2 + 32
#: Where a greeting has the number of its version.
VERSION_AT = len(MAGIC) + 4 + 10


def greeting(version: int | None = None, *, listens: bool = False) -> bytes:
    """What an end sends first, which connects unless it listens; of another version if one is given."""
    rules = AccessRules("scheduler" if listens else "client", auth="none", encryption="off")
    data = bytearray(Opening(listens=listens, rules=rules, info={}, channel=OpeningChannel("a test")).greeting)
    if version is not None:
        data[VERSION_AT] = version
    return bytes(data)


def opening_bytes(info: dict[str, Any] | None = None) -> bytes:
    """All that a connecting end sends until packets follow."""
    return greeting() + bytes(PROOFS_BYTES) + _packed(info)


def listening_bytes(info: dict[str, Any] | None = None) -> bytes:
    """All that a listening end sends to one that it admits without a proof."""
    return greeting(listens=True) + bytes(VERDICT_BYTES) + _packed(info)


def _packed(info: dict[str, Any] | None) -> bytes:
    body = msgspec.msgpack.encode(handshake_info() if info is None else info)
    return len(body).to_bytes(4, "little") + body


async def listeners_info(reader: asyncio.StreamReader) -> dict[str, Any]:
    """What a listening end tells of itself, once it has admitted the reader's end."""
    await reader.readexactly(GREETING_BYTES)
    verdict = await reader.readexactly(VERDICT_BYTES)
    assert verdict[0] == 0, "not admitted"
    size = int.from_bytes(await reader.readexactly(4), "little")
    return msgspec.msgpack.decode(await reader.readexactly(size), type=dict[str, Any])
