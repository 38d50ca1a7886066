"""Unpickling in several threads at once, of large values too.

What a pickle names is imported from the outside (see `headrace.common.importing`): tasks and data that arrive together
at a fresh worker name the same packages, and are unpickled by several threads.
"""

from __future__ import annotations

import contextlib
import io
import pickle
from collections.abc import Iterable
from typing import Any

from headrace.common.importing import import_from_outside, imported
from headrace.containment import contained

from .frames import Frame

#: Pickles up to this many bytes are loaded at once; it takes a few milliseconds.
AT_ONCE_BYTES = 256 * 1024

#: the opcode by which pickles of protocols from 4 on name what is imported
_STACK_GLOBAL = b"\x93"


def unpickle(data: Frame, buffers: Iterable[Any] = ()) -> Any:
    """As `pickle.loads`, but imports what the pickle names from the outside.

    A large pickle is read in pieces, which lets other threads in at every piece. `pickle.loads` keeps the interpreter
    from one end to the other: a list of ten million numbers would stop an event loop for half a second.

    Raises:
        Exception: whatever unpickling raises; a `UserCodeError` in place of what is none.
    """
    try:
        if len(data) > AT_ONCE_BYTES:
            return Unpickler(_Reader(memoryview(data)), buffers=buffers).load()
        if type(data) is bytes and data.find(_STACK_GLOBAL) < 0:
            return pickle.loads(data, buffers=buffers)
        return Unpickler(io.BytesIO(data), buffers=buffers).load()
    except BaseException as raised:
        error = contained(raised)
        if error is raised:
            raise
    raise error  # not in the clause above: it would have what it stands for as its context


class Unpickler(pickle.Unpickler):
    """Imports what a pickle names from the outside."""

    def find_class(self, module: str, name: str) -> Any:
        """What has that name in a module, which is imported if need be."""
        if module not in imported:
            with contextlib.suppress(ImportError):  # it may have another name by now, which the next line knows
                import_from_outside(module)
        if name == "subimport" and module == "cloudpickle.cloudpickle":
            return import_from_outside
        return super().find_class(module, name)


class _Reader:
    """What an unpickler reads a large pickle from."""

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self._position = 0

    def read(self, size: int) -> bytes:
        start = self._position
        self._position = min(start + size, len(self._data))
        return bytes(self._data[start : self._position])

    def readinto(self, target: Any) -> int:
        start = self._position
        self._position = min(start + len(target), len(self._data))
        count = self._position - start
        target[:count] = self._data[start : self._position]
        return count

    def readline(self) -> bytes:
        rest = bytes(self._data[self._position :])
        line = rest[: rest.find(b"\n") + 1] or rest
        self._position += len(line)
        return line
