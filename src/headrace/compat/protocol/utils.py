"""`distributed.protocol.utils`: frames in one piece of memory, and back, for users' own transports."""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from .split import LONGEST_FRAME

_count = struct.Struct("<Q")

__all__ = [
    "frame_split_size",
    "host_array",
    "host_array_from_buffers",
    "merge_memoryviews",
    "pack_frames",
    "pack_frames_prelude",
    "unpack_frames",
]


def host_array(n: int) -> memoryview:
    """Fresh writable memory.

    Args:
        n: bytes.
    """
    return memoryview(bytearray(n))


def host_array_from_buffers(buffers: Iterable[bytes | bytearray | memoryview]) -> memoryview:
    """Fresh writable memory with the contents of buffers, one after another."""
    return memoryview(bytearray().join([memoryview(buffer).cast("B") for buffer in buffers]))


def frame_split_size(frame: bytes | memoryview, n: int = LONGEST_FRAME) -> list[memoryview]:
    """A frame as pieces of at most `n` bytes, which are views.

    Raises:
        ValueError: `n` is not positive.
    """
    if n <= 0:
        raise ValueError(f"a piece has at least one byte, not {n}")
    view = memoryview(frame)
    size = max(n // view.itemsize, 1)
    return [view[start : start + size] for start in range(0, len(view), size)] or [view]


def pack_frames_prelude(frames: Collection[bytes | bytearray | memoryview]) -> bytes:
    """The bytes by which `unpack_frames` tells frames apart: their number and their lengths."""
    return struct.pack(f"<{len(frames) + 1}Q", len(frames), *[memoryview(frame).nbytes for frame in frames])


def pack_frames(frames: Collection[bytes | bytearray | memoryview]) -> bytes:
    """Frames as one piece of bytes."""
    return b"".join([pack_frames_prelude(frames), *frames])


def unpack_frames(b: Any, *, remainder: bool = False, partial: bool = False) -> Any:
    """The frames in what `pack_frames` returned, as views.

    Args:
        b: the bytes.
        remainder: whether to return what comes after the frames, too.
        partial: whether frames may be missing at the end; those that are whole are returned.

    Returns:
        A list of views; with `remainder` that, and a view.

    Raises:
        ValueError: it is cut short.
    """
    view = memoryview(b).cast("B")
    lengths: tuple[int, ...] = ()
    start = _count.size
    if view.nbytes >= start:
        (number,) = _count.unpack_from(view)
        start += number * _count.size
        if view.nbytes >= start:
            lengths = struct.unpack_from(f"<{number}Q", view, _count.size)
    if (view.nbytes < start or view.nbytes < start + sum(lengths)) and not partial:
        raise ValueError(f"packed frames are cut short: {view.nbytes} bytes of {start + sum(lengths)}")
    frames: list[memoryview] = []
    for length in lengths:
        if start + length > view.nbytes:
            break
        frames.append(view[start : start + length])
        start += length
    if remainder:
        return frames, view[start:]
    return frames


def merge_memoryviews(mvs: Sequence[memoryview]) -> memoryview:
    """One view of what views show that lie side by side in the same memory; nothing is copied.

    Raises:
        TypeError: not all are views of bytes-like objects.
        ValueError: they are not neighbours, or differ in format.
    """
    import numpy

    if not mvs:
        return memoryview(b"")
    first = mvs[0]
    for view in mvs:
        if not isinstance(view, memoryview):
            raise TypeError(f"Expected memoryview; got {type(view).__name__}")
    if len(mvs) == 1:
        return first
    for view in mvs:
        if not view.contiguous:
            raise ValueError("All memoryviews must be contiguous")
        if view.obj is not first.obj or view.format != first.format:
            raise ValueError("All memoryviews must be of the same memory, with one format")
    filled = [view for view in mvs if view.nbytes]
    if not filled:
        return first
    whole = memoryview(first.obj).cast("B")
    origin, start, *_ = starts = [numpy.frombuffer(view.cast("B"), "u1").ctypes.data for view in (whole, *filled)]
    end = start
    for view, its_start in zip(filled, starts[1:], strict=True):
        if its_start != end:
            raise ValueError("Memoryviews must lie side by side")
        end += view.nbytes
    merged = whole[start - origin : end - origin]
    cast: Any = merged.cast  # to any format, which the types do not say
    return merged if first.format == "B" else cast(first.format)
