"""`distributed.protocol.dumps` and `loads`: a message of plain values and marked ones as a list of frames, and back.

For users' own protocols. Nothing in headrace speaks so: its comms have the codec, its payloads `pickling`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from headrace.exceptions import DeserializationError
from headrace.protocol.codec import decode, encode
from headrace.protocol.families import serialize
from headrace.protocol.frames import Frame, Frames
from headrace.protocol.marks import (
    Serialize,
    Serialized,
    ToPickle,
    open_by_families,
)

#: What messages carry as it is. Subclasses of these would arrive as something else, so they are pickled.
_PLAIN = frozenset({type(None), bool, int, float, str, bytes, bytearray, memoryview, Frames})
_COLLECTIONS = (list, tuple, set, frozenset)


def dumps(
    msg: object,
    serializers: Iterable[str] | None = None,
    on_error: str = "message",
    context: dict[str, Any] | None = None,
    frame_split_size: int | None = None,
) -> list[Frame]:
    """Frames of a message, for `loads`.

    Args:
        msg: None, booleans, numbers, text, bytes, and lists, tuples, sets and dictionaries of these; what is marked
            with `to_serialize` is serialized on its own, and all else is pickled.
        serializers: names of the families by which marked values are serialized, in order of preference.
        on_error: what to do if none of these can: "message" has `loads` raise at the receiver, "raise" raises here.
        context: told to serializing functions that have such a parameter.
        frame_split_size: longest frame, in bytes; unlimited by default.

    Raises:
        SerializationError: (a TypeError) something else than plain and marked values cannot be pickled.
        TypeError: no family can serialize a marked value, and `on_error` is "raise".
        ValueError: an unknown `on_error`, a frame size that is not positive, or a message that is nested too deep.
    """
    if on_error not in ("message", "raise"):
        raise ValueError(f"on_error must be 'message' or 'raise', not {on_error!r}")
    if frame_split_size is not None and frame_split_size <= 0:
        raise ValueError(f"frame_split_size must be positive, not {frame_split_size!r}")
    names = None if serializers is None else list(serializers)

    def carried(value: Any) -> Any:
        kind = type(value)
        if kind in _PLAIN:
            return value
        if kind is dict:
            return {carried(key): carried(part) for key, part in value.items()}
        if kind in _COLLECTIONS:
            return kind([carried(part) for part in value])
        if isinstance(value, (Serialized, ToPickle)):
            return value
        if isinstance(value, Serialize):
            return Serialized(*serialize(value.data, names, on_error, context))
        return ToPickle(value)

    try:
        frames = encode(carried(msg))
    except RecursionError:
        raise ValueError("a message is nested too deep to be sent") from None
    counts: list[int] = []
    pieces: list[Frame] = []
    for frame in frames:
        parts = _split(frame, frame_split_size)
        counts.append(len(parts))
        pieces += parts
    return [msgspec.msgpack.encode(counts), *pieces]


def loads(frames: Sequence[Frame], deserialize: bool = True, deserializers: Iterable[str] | None = None) -> Any:
    """The message in what `dumps` returned.

    Args:
        frames: the same frames, in the same order, as any bytes-like objects.
        deserialize: whether marked values are loaded, or come as `Serialized`.
        deserializers: names of the families that are admitted for marked values; all by default.

    Raises:
        TypeError: `frames` is no list of bytes, or a marked value is of a family that is not admitted, or could not be
            serialized.
        DeserializationError: a value cannot be loaded.
        ValueError: frames are missing, or are not such a message.
    """
    if isinstance(frames, (bytes, bytearray, memoryview, str)):
        raise TypeError(f"loads takes the list of frames that dumps returned, not {type(frames).__name__}")
    frames = list(frames)
    try:
        counts = msgspec.msgpack.decode(frames[0], type=list[int]) if frames else []
    except msgspec.DecodeError as error:
        raise ValueError(f"these frames are no message of dumps: {error}") from None
    if not counts or min(counts) < 1 or sum(counts) != len(frames) - 1:
        raise ValueError(f"these frames are no whole message of dumps: {len(frames)} came")
    joined: list[Frame] = []
    start = 1
    for count in counts:
        parts = frames[start : start + count]
        joined.append(parts[0] if count == 1 else bytearray().join(parts))
        start += count
    if deserialize and deserializers is not None:
        return open_by_families(decode(joined, deserialize=False), deserializers)
    try:
        return decode(joined, deserialize)
    except DeserializationError as error:
        if type(error.__cause__) is TypeError:  # of a family, as above
            raise error.__cause__ from None
        raise


def _split(frame: Frame, size: int | None) -> list[Frame]:
    if size is None or len(frame) <= size:
        return [frame]
    view = memoryview(frame).cast("B")
    return [view[start : start + size] for start in range(0, view.nbytes, size)]
