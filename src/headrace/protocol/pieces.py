"""Pickling of large values in background threads without holding up the others.

`pickle` keeps the interpreter from one end of a value to the other: a list of ten million numbers would stop an event
loop for half a second. Writing through a Python function lets other threads in at every piece; see `unpickling` for
the way back.
"""

from __future__ import annotations

from functools import partial
from pickle import PickleBuffer
from typing import Any

from headrace.containment import let_pass

from .frames import Frame
from .pickling import (
    _BYTES,
    OUT_OF_BAND_BYTES,
    _LargeBytes,
    cloudpickle_or_explain,
    current_pickler,
    in_band,
    names_module_by_value,
)


class _Pieces:
    """The target of a pickler: keeps the pieces that it writes."""

    def __init__(self) -> None:
        self.pieces: list[Frame] = []
        self.buffers: list[Frame] = []

    def write(self, data: Frame | PickleBuffer) -> int:
        self.pieces.append(data if isinstance(data, bytes) else bytes(data))
        return len(self.pieces[-1])


def dumps_in_pieces(value: Any) -> tuple[list[Frame], list[Frame]]:
    """Pickle a value: the pickle in pieces, and the buffers beside it, which are the value's own memory.

    Raises:
        SerializationError: it cannot be pickled; names its type and the cause.
    """
    if type(value) in _BYTES and len(value) >= OUT_OF_BAND_BYTES:
        value = _LargeBytes(value)
    target = _Pieces()
    try:
        current_pickler()(target, 5, buffer_callback=partial(in_band, target.buffers, OUT_OF_BAND_BYTES)).dump(value)
        by_value = any(b"__main__" in piece or names_module_by_value(piece) for piece in target.pieces)  # type: ignore[arg-type]
    except BaseException as raised:
        let_pass(raised)
        by_value = True
    if by_value:
        target = _Pieces()
        target.pieces.append(cloudpickle_or_explain(value, partial(in_band, target.buffers, OUT_OF_BAND_BYTES)))
    return target.pieces, target.buffers
