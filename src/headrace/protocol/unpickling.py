"""Unpickling in several threads at once, of large values too.

What a pickle names is imported from the outside (see `headrace.common.importing`): tasks and data that arrive together
at a fresh worker name the same packages, and are unpickled by several threads.
"""

from __future__ import annotations

import contextlib
import io
import pickle
from collections.abc import Iterable
from typing import Any, NoReturn

from headrace.common.importing import import_from_outside, imported
from headrace.containment import contained

from .frames import Frame

#: Pickles up to this many bytes are loaded at once; it takes a few milliseconds.
AT_ONCE_BYTES = 256 * 1024

#: the opcode by which pickles of protocols from 4 on name what is imported
_STACK_GLOBAL = b"\x93"


def unpickle(data: Frame, buffers: Iterable[Any] = ()) -> Any:
    """Load a pickle as `pickle.loads` does, but import what it names from the outside.

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
        raise_contained(raised)


def raise_contained(raised: BaseException) -> NoReturn:
    """Raise what users' code raised, or what stands in its place; to be called in the `except` clause.

    See `headrace.containment.contained`. What stands in its place does not have it as its context.
    """
    stand_in = contained(raised)
    try:
        raise stand_in
    finally:
        if stand_in is not raised:
            stand_in.__context__ = None  # set by the line above; it may fail whoever looks at it
        del raised, stand_in  # the traceback leads to this frame


class Unpickler(pickle.Unpickler):
    """Imports what a pickle names from the outside."""

    def find_class(self, module: str, name: str) -> Any:
        """Find what has that name in a module, which is imported if need be."""
        if module not in imported:
            with contextlib.suppress(ImportError):  # it may have another name by now, which the next line knows
                import_from_outside(module)
        if name == "subimport" and module == "cloudpickle.cloudpickle":
            return import_from_outside
        return super().find_class(module, name)


def unpickle_pieces(pieces: Iterable[Frame], buffers: Iterable[Any] = ()) -> Any:
    """Load a large pickle that comes piece by piece, so that it is never whole in memory beside the value."""
    return Unpickler(_PieceReader(pieces), buffers=buffers).load()


class _PieceReader:
    """A file of pieces for an unpickler; each piece is let go of as soon as it is read."""

    def __init__(self, pieces: Iterable[Frame]) -> None:
        self._pieces = iter(pieces)
        self._rest = memoryview(b"")

    def _next(self) -> bool:
        """Have something to read; False at the end."""
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return False
            self._rest = memoryview(piece)
        return True

    def read(self, size: int) -> bytes:
        parts = []
        while size and self._next():
            part = self._rest[:size]
            self._rest = self._rest[len(part) :]
            size -= len(part)
            whole = part.obj
            parts.append(whole if type(whole) is bytes and len(whole) == len(part) else bytes(part))
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def readinto(self, target: memoryview) -> int:
        done = 0
        while done < len(target) and self._next():
            part = self._rest[: len(target) - done]
            target[done : done + len(part)] = part
            self._rest = self._rest[len(part) :]
            done += len(part)
        return done

    def readline(self) -> bytes:
        parts = []
        while self._next():
            parts.append(self.read(1))
            if parts[-1] == b"\n":
                break
        return b"".join(parts)


class _Reader:
    """A file over a large pickle, which other threads need not wait for."""

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self._position = 0

    def read(self, size: int) -> bytes:
        start = self._position
        self._position = min(start + size, len(self._data))
        return bytes(self._data[start : self._position])

    def readinto(self, target: memoryview) -> int:
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
