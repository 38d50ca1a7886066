"""Reading the memory of other processes of this machine, and places in this one's where they find a proof (Linux only).

Knows no connections. Whoever reads has to have asked first whether the other process is the one it takes it for: see
`memory_link`, which loads this module when it is needed first.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
from collections.abc import Callable, Sequence
from functools import lru_cache

#: Bytes of a proof.
PROOF_BYTES = 16
#: Given to `madvise`: a forked child finds the memory empty. Not among the names of `mmap`.
_MADV_WIPEONFORK = 18
#: Highest number of a process.
_MAX_PID = (1 << 31) - 1
#: Ranges that one call takes (`IOV_MAX`).
_MAX_RANGES = 1024


class _Range(ctypes.Structure):
    """`struct iovec`."""

    _fields_ = (("start", ctypes.c_void_p), ("nbytes", ctypes.c_size_t))


class _Buffer(ctypes.Structure):
    """`Py_buffer`, part of the stable interface of Python."""

    _fields_ = (
        ("start", ctypes.c_void_p),
        ("owner", ctypes.c_void_p),
        ("nbytes", ctypes.c_ssize_t),
        ("itemsize", ctypes.c_ssize_t),
        ("readonly", ctypes.c_int),
        ("ndim", ctypes.c_int),
        ("format", ctypes.c_char_p),
        ("shape", ctypes.c_void_p),
        ("strides", ctypes.c_void_p),
        ("suboffsets", ctypes.c_void_p),
        ("internal", ctypes.c_void_p),
    )


@lru_cache
def _process_vm_readv() -> Callable[..., int]:
    try:
        function = ctypes.CDLL(None, use_errno=True).process_vm_readv
    except AttributeError as error:
        raise OSError(errno.ENOSYS, "this system has no process_vm_readv") from error
    ranges = ctypes.POINTER(_Range)
    function.argtypes = (ctypes.c_int, ranges, ctypes.c_ulong, ranges, ctypes.c_ulong, ctypes.c_ulong)
    function.restype = ctypes.c_ssize_t
    return function


def address_of(buffer: object) -> int:
    """Where the bytes of a buffer lie. Holds nothing: whoever uses it keeps a `memoryview`.

    Raises:
        BufferError, TypeError: it is not one run of bytes.
    """
    found = _Buffer()
    ctypes.pythonapi.PyObject_GetBuffer(ctypes.py_object(buffer), ctypes.byref(found), 0)
    address = found.start or 0
    ctypes.pythonapi.PyBuffer_Release(ctypes.byref(found))
    return address


def read_memory(pid: int, parts: Sequence[tuple[int, bytearray | memoryview]]) -> None:
    """Fill memory here from the memory of a process. Other threads run meanwhile.

    Args:
        parts: addresses there, and what to fill from each.

    Raises:
        OSError: it cannot be read, or not all of it: no such process, no permission, no such memory.
    """
    read = _process_vm_readv()
    left = [(address_of(target), address, len(target)) for address, target in parts if len(target)]
    if not 0 < pid <= _MAX_PID or any(address + nbytes > 1 << 64 for _, address, nbytes in left):
        raise OSError(errno.EFAULT, f"no process {pid}, or no such addresses")
    while left:
        some = left[:_MAX_RANGES]
        kind = _Range * len(some)
        here = kind(*[_Range(to, nbytes) for to, _, nbytes in some])
        there = kind(*[_Range(address, nbytes) for _, address, nbytes in some])
        count = read(pid, here, len(some), there, len(some), 0)
        if count <= 0:
            number = ctypes.get_errno() if count else errno.EFAULT
            raise OSError(number, f"{some[0][2]} bytes at {some[0][1]:#x} of process {pid}: {os.strerror(number)}")
        while left and count >= left[0][2]:
            count -= left.pop(0)[2]
        if count:
            to, address, nbytes = left[0]
            left[0] = to + count, address + count, nbytes - count


def is_readable(address: int, nbytes: int) -> bool:
    """Whether both ends of a range of this process's memory can be read by others: device memory, for one, cannot."""
    first, last = bytearray(1), bytearray(1)
    try:
        read_memory(os.getpid(), [(address, first), (address + nbytes - 1, last)])
    except OSError:
        return False
    return True


class Slot:
    """A place where one proof stands for others to read. Memory of slots is never given back, only used again."""

    __slots__ = ("_mapping", "_place", "address")

    def __init__(self, mapping: mmap.mmap, start: int, address: int) -> None:
        self._mapping = mapping
        self._place = slice(start, start + PROOF_BYTES)
        self.address = address

    def put(self, proof: bytes) -> None:
        """Show a proof."""
        self._mapping[self._place] = proof

    def clear(self, nothing: bytes = bytes(PROOF_BYTES)) -> None:
        """Show none. Also while the interpreter ends, and globals are gone."""
        self._mapping[self._place] = nothing


_free_slots: list[Slot] = []


def take_slot() -> Slot:
    """An unused slot. Any thread.

    Raises:
        OSError: no memory.
    """
    while True:
        try:
            return _free_slots.pop()
        except IndexError:
            _free_slots.extend(_more_slots())


def give_back(slot: Slot) -> None:
    """Empty a slot, and let others have it. Any thread."""
    slot.clear()
    _free_slots.append(slot)


def _more_slots() -> list[Slot]:
    mapping = mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    # So that a child that gets its dead parent's number is not taken for it.
    mapping.madvise(_MADV_WIPEONFORK)
    first = address_of(mapping)
    return [Slot(mapping, start, first + start) for start in range(0, mmap.PAGESIZE, PROOF_BYTES)]
