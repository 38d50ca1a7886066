"""`distributed.protocol.pickle`: pickles in one piece, with buffers out of band where one wants them."""

from __future__ import annotations

import pickle
from collections.abc import Iterable
from typing import Any

from headrace.protocol.frames import BufferCallback, Frame
from headrace.protocol.pickling import dumps_buffers


def dumps(x: object, *, buffer_callback: BufferCallback | None = None, protocol: int = 5) -> bytes:
    """The pickle of a value, by cloudpickle where plain pickle cannot or would name what others do not have.

    Args:
        buffer_callback: called with each buffer; those for which it returns something false are left out.
        protocol: accepted for compatibility; it is always 5.

    Raises:
        SerializationError: it cannot be pickled; a TypeError.
    """
    return dumps_buffers(x, buffer_callback)


def loads(x: Frame, *, buffers: Iterable[Any] = ()) -> Any:
    """The value of a pickle.

    Args:
        buffers: those that were left out of it, in order.
    """
    return pickle.loads(x, buffers=buffers)


__all__ = ["dumps", "loads"]
