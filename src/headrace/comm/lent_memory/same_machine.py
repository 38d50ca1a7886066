"""Reads the memory of other processes of this machine, and has slots for proofs in this process's (Linux only).

Knows no connections. A reader must have made sure that the other process is the one that it believes it is: see
`memory_link`.
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
#: Advice for `madvise` that has a forked child find the memory empty; `mmap` has no name for it.
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
    """The address of a buffer's bytes. Does not hold the buffer: the caller keeps a `memoryview` while it uses this.

    Raises:
        BufferError, TypeError: the object is not one contiguous run of bytes.
    """
    found = _Buffer()
    ctypes.pythonapi.PyObject_GetBuffer(ctypes.py_object(buffer), ctypes.byref(found), 0)
    address = found.start or 0
    ctypes.pythonapi.PyBuffer_Release(ctypes.byref(found))
    return address


def read_memory(pid: int, parts: Sequence[tuple[int, bytearray | memoryview]]) -> None:
    """Fill memory of this process from that of another. Other threads run meanwhile.

    Args:
        pid: the other process.
        parts: addresses there, and the memory to fill from each.

    Raises:
        OSError: not all could be read: there is no such process, no permission, or no such memory.
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
    """Whether others can read both ends of a range of this process's memory; of device memory, for one, they cannot."""
    first, last = bytearray(1), bytearray(1)
    try:
        read_memory(os.getpid(), [(address, first), (address + nbytes - 1, last)])
    except OSError:
        return False
    return True


class Slot:
    """A place in memory where others read one proof. The memory of slots is never given back, only used again."""

    __slots__ = ("_mapping", "_place", "address")

    def __init__(self, mapping: mmap.mmap, start: int, address: int) -> None:
        self._mapping = mapping
        self._place = slice(start, start + PROOF_BYTES)
        self.address = address

    def put(self, proof: bytes) -> None:
        """Show a proof."""
        self._mapping[self._place] = proof

    def clear(self, nothing: bytes = bytes(PROOF_BYTES)) -> None:
        """Show none. Works while the interpreter ends, too, when globals are gone."""
        self._mapping[self._place] = nothing


_free_slots: list[Slot] = []


def take_slot() -> Slot:
    """An unused slot. Any thread.

    Raises:
        OSError: the system has no memory left.
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
    # A forked child that gets the process id of its dead parent must not be taken for the parent.
    mapping.madvise(_MADV_WIPEONFORK)
    first = address_of(mapping)
    return [Slot(mapping, start, first + start) for start in range(0, mmap.PAGESIZE, PROOF_BYTES)]
