"""Values of a chosen size."""

from __future__ import annotations

import sys


class _Plain:
    """An object like those of `SizeOf`, to learn what Python adds to what an object says of its size."""


_ADDED = sys.getsizeof(_Plain()) - object.__sizeof__(_Plain())


class SizeOf:
    """An object that weighs so many bytes, as `dask.sizeof.sizeof` sees it, and takes next to none.

    Raises:
        TypeError, ValueError: `nbytes` is no integer, or too small for an object.
    """

    def __init__(self, nbytes: int) -> None:
        if not isinstance(nbytes, int):
            raise TypeError(f"the size must be an integer, not {type(nbytes).__name__}")
        if nbytes < _ADDED:
            raise ValueError(f"an object weighs {_ADDED} bytes at least: {nbytes} is too small")
        self._nbytes = nbytes

    def __sizeof__(self) -> int:
        return self._nbytes - _ADDED


def gen_nbytes(nbytes: int) -> SizeOf:
    """A value, such as the result of a task, that weighs exactly so many bytes to a worker."""
    return SizeOf(nbytes)
