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
        stand_in = contained(raised)
        if stand_in is raised:
            del stand_in  # which would lead back here
            raise
    try:
        raise stand_in  # not in the clause above: it would have what it stands for as its context
    finally:
        del stand_in


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


def unpickle_pieces(pieces: Iterable[Frame], buffers: Iterable[Any] = ()) -> Any:
    """As `unpickle`, of a large pickle that comes piece by piece and is never whole in memory, beside the value."""
    return Unpickler(_PieceReader(pieces), buffers=buffers).load()


class _PieceReader:
    """What an unpickler reads pieces from, which are let go of as soon as they are read."""

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

    def readinto(self, target: Any) -> int:
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
