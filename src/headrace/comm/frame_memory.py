"""Memory for frames: writable, not touched before bytes arrive, and used again while its pages are warm.

Memory is not cleared: a peer that announces a frame and sends none of it must not cost anything, and bytes that arrive
overwrite the memory anyway.

The first use of a page can cost more than receiving its bytes (measured: 200 MB took 60 ms into warm pages, 600 ms into
fresh ones of a virtual machine). So mappings are kept for some seconds after their frames are gone, for the next frame.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import mmap
import sys
import threading

#: From this size on a frame gets pages of its own from the system, which are not cleared or touched in advance.
MAPPED_BYTES = 8 * 1024 * 1024
#: From this size on memory is not cleared. If numpy is loaded, its memory is preferred, since it comes in huge pages.
_UNCLEARED_BYTES = 64 * 1024
#: Bytes of unused mappings kept, at most, in a thread.
KEPT_BYTES = 512 * 1024 * 1024
#: Seconds between two looks for unused mappings.
LOOK_EVERY = 0.5
#: Looks that find a mapping unused before it is given back: to fetch, use and release a result takes seconds.
IDLE_LOOKS = 10
#: Looks after which a mapping in use is no longer followed.
_FOLLOWED_LOOKS = 20
#: References to a mapping that is not in use: by its record, by the caller's local variable, and by `getrefcount`.
_UNUSED_REFERENCES = 3


# Python itself has no way to make writable memory that it does not clear.
_uncleared = ctypes.pythonapi.PyByteArray_FromStringAndSize
_uncleared.argtypes = (ctypes.c_char_p, ctypes.c_ssize_t)
_uncleared.restype = ctypes.py_object


def allocate(nbytes: int) -> memoryview:
    """Writable memory for a frame.

    Raises:
        MemoryError: the system does not have so much memory.
    """
    if nbytes >= MAPPED_BYTES:
        return _kept.take(nbytes)
    empty = getattr(sys.modules.get("numpy"), "empty", None)
    if empty is not None and nbytes >= _UNCLEARED_BYTES:
        memory: memoryview = empty(nbytes, "u1").data
        return memory
    return memoryview(bytearray(nbytes) if nbytes < _UNCLEARED_BYTES else _uncleared(None, nbytes))


def discard(frame: memoryview) -> None:
    """Do not keep the mapping of a frame that was allocated in this thread beyond the frame: no other will follow."""
    mapping = frame.obj
    _kept.records = [record for record in _kept.records if record.mapping is not mapping]


class _Record:
    """A mapping that this thread has handed out.

    Attributes:
        looks: how often `look` has seen it since.
        idle_looks: how often in a row `look` found it unused.
    """

    __slots__ = ("idle_looks", "looks", "mapping")

    def __init__(self, mapping: mmap.mmap) -> None:
        self.mapping = mapping
        self.looks = 0
        self.idle_looks = 0


class _Kept(threading.local):
    """The mappings that this thread has handed out, in use or not.

    Each buffer that a mapping exports refers to the mapping; so its reference count tells whether it is in use.
    """

    def __init__(self) -> None:
        self.records: list[_Record] = []
        self.bound = float("inf")
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def take(self, nbytes: int) -> memoryview:
        """An unused mapping that fits, or a new one."""
        for record in self.records:
            mapping = record.mapping
            if nbytes <= len(mapping) <= nbytes + nbytes // 4 and sys.getrefcount(mapping) == _UNUSED_REFERENCES:
                record.looks = record.idle_looks = 0
                return memoryview(mapping)[:nbytes]
        mapping = _map(nbytes)
        loop = asyncio._get_running_loop()
        if loop is not None and nbytes <= min(self.bound, KEPT_BYTES):
            self.records.append(_Record(mapping))
            if self._timer is None or self._loop is not loop:
                self._loop = loop
                self._timer = loop.call_later(LOOK_EVERY, self.look)
        return memoryview(mapping)

    def look(self) -> None:
        """Give back mappings that have been unused for `IDLE_LOOKS` looks, and the oldest beyond the bound."""
        still: list[_Record] = []
        unused = 0
        for record in reversed(self.records):
            mapping = record.mapping
            record.looks += 1
            if sys.getrefcount(mapping) > _UNUSED_REFERENCES:
                record.idle_looks = 0
                if record.looks < _FOLLOWED_LOOKS:
                    still.append(record)
                continue
            record.idle_looks += 1
            unused += len(mapping)
            if record.idle_looks < IDLE_LOOKS and unused <= min(self.bound, KEPT_BYTES):
                still.append(record)
        self.records = still[::-1]
        self._timer = self._loop.call_later(LOOK_EVERY, self.look) if self._loop is not None and still else None

    def drop(self) -> None:
        """Give back all mappings that are unused now."""
        still = []
        while self.records:
            record = self.records.pop()
            mapping = record.mapping
            if sys.getrefcount(mapping) > _UNUSED_REFERENCES:
                still.append(record)
        self.records = still[::-1]


_kept = _Kept()


def bound_kept(nbytes: int) -> None:
    """Keep at most so many bytes of unused mappings in the calling thread (`KEPT_BYTES` if that is less)."""
    _kept.bound = nbytes


def drop_kept() -> None:
    """Give back the mappings that the calling thread keeps and nobody uses."""
    if _kept.records:
        _kept.drop()


def _map(nbytes: int) -> mmap.mmap:
    try:
        if not hasattr(mmap, "MAP_PRIVATE"):
            return mmap.mmap(-1, nbytes)
        mapping = mmap.mmap(-1, nbytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except (OSError, OverflowError, ValueError) as error:
        raise MemoryError(f"no memory for a frame of {nbytes} bytes: {error}") from error
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):  # a kernel without them
            mapping.madvise(mmap.MADV_HUGEPAGE)
    return mapping
