"""Serialized values as one piece of bytes, or as frames of a bounded size, compressed where that is worth it."""

from __future__ import annotations

import pickle
import struct
from collections.abc import Iterable
from typing import Any

from headrace.protocol.families import Header, deserialize, serialize
from headrace.protocol.frames import Frame

from .compression import decompress, maybe_compress

#: Longer frames are split, so that compression works in pieces and no transport sees one that is too long.
LONGEST_FRAME = 64 * 1024 * 1024
_count = struct.Struct("<Q")


def serialize_and_split(
    x: object,
    serializers: Iterable[str] | None = None,
    on_error: str = "message",
    context: dict[str, Any] | None = None,
    size: int | None = None,
) -> tuple[Header, list[Frame]]:
    """Serialize to frames of at most `size` bytes (64 MiB by default) that may be compressed; see `serialize`."""
    header, frames = serialize(x, serializers, on_error, context)
    size = size or LONGEST_FRAME
    compressions = header.get("compression") or (None,) * len(frames)
    pieces: list[Frame] = []
    counts: list[int] = []
    marks: list[str | bool | None] = []
    for frame, mark in zip(frames, compressions, strict=True):
        view = memoryview(frame).cast("B") if memoryview(frame).nbytes else memoryview(b"")
        parts: list[Frame] = [view[start : start + size] for start in range(0, view.nbytes, size)] or [view]
        counts.append(len(parts))
        pieces += parts
        # a family may say itself how its frames are to be compressed: False is never, None leaves it to us
        marks += [mark] * len(parts)
    header = {
        **header,
        "split-num-sub-frames": tuple(counts),
        "split-offsets": tuple(sum(counts[:position]) for position in range(len(counts))),
        "compression": tuple(marks),
    }
    return header, pieces


def merge_and_deserialize(header: Header, frames: Iterable[Frame], deserializers: Iterable[str] | None = None) -> Any:
    """The value in what `serialize_and_split` returned, whose frames are no longer compressed."""
    frames = list(frames)
    if "split-num-sub-frames" not in header:
        return deserialize(header, frames, deserializers)
    whole: list[Frame] = []
    for count, start in zip(header["split-num-sub-frames"], header["split-offsets"], strict=True):
        parts = frames[start : start + count]
        whole.append(parts[0] if count == 1 else memoryview(bytearray().join(parts)))
    return deserialize(header, whole, deserializers)


def serialize_bytelist(x: object, compression: str | bool | None = "auto", **kwargs: Any) -> list[Frame]:
    """A value as a list of frames that `deserialize_bytes` reads once they are joined.

    Args:
        compression: a name, "auto" for the best one that is installed, or None.
        kwargs: see `serialize_and_split`.
    """
    header, frames = serialize_and_split(x, **kwargs)
    packed = [maybe_compress(frame, compression=compression) for frame in frames]
    header["compression"] = tuple(name for name, _ in packed)
    head = pickle.dumps(header, 5)
    bodies: list[Frame] = [head, *[body for _, body in packed]]
    lengths = [memoryview(body).nbytes for body in bodies]
    return [_count.pack(len(bodies)) + b"".join(map(_count.pack, lengths)), *bodies]


def serialize_bytes(x: object, **kwargs: Any) -> bytes:
    """A value as bytes; see `serialize_bytelist`."""
    return b"".join(serialize_bytelist(x, **kwargs))


def deserialize_bytes(b: bytes | bytearray | memoryview) -> Any:
    """The value in what `serialize_bytes` returned.

    Raises:
        ValueError: it is cut short.
    """
    view = memoryview(b).cast("B")
    try:
        (count,) = _count.unpack_from(view)
        lengths = [_count.unpack_from(view, _count.size * (1 + position))[0] for position in range(count)]
    except struct.error:
        raise ValueError("serialized bytes are cut short") from None
    start = _count.size * (1 + count)
    if not count or view.nbytes != start + sum(lengths):
        raise ValueError(f"serialized bytes are cut short: {view.nbytes} of {start + sum(lengths)}")
    frames: list[Frame] = []
    for length in lengths:
        frames.append(view[start : start + length])
        start += length
    header = pickle.loads(frames[0])
    return merge_and_deserialize(header, decompress(header, frames[1:]))
