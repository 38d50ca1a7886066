"""For whom something is being serialized: what functions with a parameter `context` are told."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

_context: ContextVar[dict[str, Any] | None] = ContextVar("serialization_context", default=None)
_default: dict[str, Any] = {"compression": None, "pickle-protocol": 5, "python": tuple(sys.version_info[:3])}


#: Whether a function was registered that has a parameter `context`: until then, nobody finds out for whom.
_wanted = False


def want_context() -> None:
    """A function of the user's has a parameter `context`."""
    global _wanted
    _wanted = True


def is_wanted() -> bool:
    """Whether whoever sends is to say between whom: a function may ask."""
    return _wanted


def current_context() -> dict[str, Any]:
    """Properties of the transfer, as far as they are known."""
    return _context.get() or dict(_default)


def transfer_context(sender: str | None, recipient: str | None) -> dict[str, Any]:
    """Properties of a transfer between two addresses."""
    ends = {"sender": {**_default, "address": sender}, "recipient": {**_default, "address": recipient}}
    return {**_default, **ends}


@contextmanager
def serialization_context(sender: str | None, recipient: str | None) -> Iterator[dict[str, Any]]:
    """While this lasts, functions learn the addresses of both ends."""
    context = transfer_context(sender, recipient)
    token = _context.set(context)
    try:
        yield context
    finally:
        _context.reset(token)
