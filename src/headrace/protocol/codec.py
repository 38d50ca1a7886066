"""Messages to frames and back: frame 0 is msgpack, the others are the large buffers that it points to.

Streams carry lists of typed messages and are decoded with their types checked. RPC messages are open dictionaries whose
tuples, sets and key types survive. Nothing is pickled here but what a caller marked with `Serialize`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from itertools import accumulate
from typing import Any

import msgspec
from msgspec.msgpack import Ext

from headrace.containment import contained, let_pass
from headrace.exceptions import DeserializationError

from .frames import Frame, Frames
from .marks import Pickled, Serialize, Serialized, ToPickle
from .pickling import OUT_OF_BAND_BYTES, loads, type_name

_FRAMES = 1
_TUPLE = 2
_SET = 3
_FROZENSET = 4
_PAIRS = 5
_LARGE_INTEGER = 6
_LARGE_BYTES = 7
_SERIALIZED = 8
_SERIALIZED_FRAMES = 9
_LONE_SURROGATES = 10
_PICKLED = 11
_PICKLED_FRAMES = 12

_range = struct.Struct("<II")
#: More frames of one payload than this, each shorter than `SHORT_BYTES` on average, travel as one: a frame costs its
#: receiver some hundred bytes of memory, so that packets of very many are refused.
MANY_FRAMES = 1000
SHORT_BYTES = 4096
_NO_FRAMES: list[Frame] = []


class StreamCodec:
    """Encodes lists of messages, and decodes them as `list[incoming]`. One per comm: not for several threads.

    Args:
        incoming: the type, usually a union of `Message`s, of what arrives; `None` for an end that only encodes.
    """

    def __init__(self, incoming: Any = None) -> None:
        self._outgoing: list[Frame] = []
        self._incoming: list[Frame] = []
        self._encode = msgspec.msgpack.Encoder(enc_hook=self._on_unknown).encode
        self._decode: Callable[[Any], list[Any]] | None = None
        if incoming is not None:
            self._decode = msgspec.msgpack.Decoder(list[incoming], ext_hook=self._on_extension).decode

    def encode(self, messages: list[Any]) -> list[Frame]:
        """Frames of a packet.

        Raises:
            TypeError: a message holds something that messages cannot carry; names its type.
        """
        frames = self._outgoing = []
        head: Frame = self._encode(messages)
        if not frames:
            return [head]
        self._outgoing = []  # not kept alive until the next message
        frames.insert(0, head)
        return frames

    def decode(self, frames: list[Frame]) -> list[Any]:
        """Messages of a packet. `frames[0]` is not referred to afterwards.

        Raises:
            msgspec.DecodeError, msgspec.ValidationError: the packet is not what the types say.
        """
        assert self._decode is not None, "this end only encodes"
        self._incoming = frames
        try:
            return self._decode(frames[0])
        except UnicodeDecodeError as error:  # of a tag or a name, which msgspec does not look at
            raise msgspec.DecodeError(f"malformed message: {error}") from error
        finally:
            self._incoming = _NO_FRAMES  # not kept alive until the next message

    def _on_unknown(self, value: object) -> object:
        if isinstance(value, Frames):
            frames, reference = _refer(value.frames, len(self._outgoing) + 1)
            self._outgoing += frames
            return Ext(_FRAMES, reference)
        if isinstance(value, memoryview):
            return bytes(value)
        raise TypeError(
            f"a message cannot carry a {type_name(value)}: {_short(value)}; pickle it with headrace.protocol.dumps"
        )

    def _on_extension(self, code: int, data: memoryview) -> Frames:
        if code != _FRAMES:
            raise msgspec.ValidationError(f"unknown extension {code} in a stream message")
        return Frames(_frame_range(self._incoming, data))


def encode(message: object) -> list[Frame]:
    """Frames of an RPC message.

    Raises:
        TypeError: it holds something other than None, booleans, numbers, text, bytes, `Frames`, `Serialize`,
            `Serialized` and lists, tuples, sets, dictionaries of these; names the type.
        SerializationError: a `Serialize` in it cannot be pickled.
        ValueError: it is nested too deep.
    """
    frames: list[Frame] = [b""]
    try:
        frames[0] = msgspec.msgpack.encode(_prepare(message, frames))
    except RecursionError:
        raise ValueError("a message is nested too deep to be sent") from None
    return frames


def decode(frames: list[Frame], deserialize: bool | None = True) -> Any:
    """The RPC message in frames; `frames[0]` is not referred to afterwards.

    Args:
        deserialize: whether pickles in it are loaded, or come as `Serialized`. With None not even those are loaded that
            every receiver opens: they come as `Pickled`.

    Raises:
        DeserializationError: a pickle in it cannot be loaded; the packet itself was whole.
        msgspec.DecodeError: the packet is malformed.
    """
    failures: list[BaseException] = []

    def on_extension(code: int, data: memoryview) -> Any:
        if code == _TUPLE:
            return tuple(inner(data))
        if code in (_SERIALIZED, _SERIALIZED_FRAMES, _PICKLED, _PICKLED_FRAMES):
            payload: bytes | Frames
            payload = bytes(data) if code in (_SERIALIZED, _PICKLED) else Frames(_frame_range(frames, data))
            if not deserialize:
                if code in (_SERIALIZED, _SERIALIZED_FRAMES):
                    return Serialized.of(payload)
                if deserialize is None:
                    return Pickled.of(payload)
            try:
                return loads(payload)
            except BaseException as raised:  # also of `dask_deserialize` functions, which are not unpickled
                failures.append(contained(raised))
                return None
        if code == _FRAMES:
            return Frames(_frame_range(frames, data))
        if code == _SET:
            return set(inner(data))
        if code == _FROZENSET:
            return frozenset(inner(data))
        if code == _PAIRS:
            return dict(inner(data))
        if code == _LARGE_INTEGER:
            return int.from_bytes(data, "little", signed=True)
        if code == _LARGE_BYTES:
            (frame,) = _frame_range(frames, data)
            return bytes(frame)
        if code == _LONE_SURROGATES:
            return bytes(data).decode("utf-8", "surrogatepass")
        raise msgspec.ValidationError(f"unknown extension {code} in a message")

    inner: Any = msgspec.msgpack.Decoder(ext_hook=on_extension).decode
    try:
        message = inner(frames[0])
    except (TypeError, ValueError, RecursionError) as error:
        if isinstance(error, msgspec.MsgspecError):
            raise
        raise msgspec.DecodeError(f"malformed message: {error}") from error
    finally:
        inner = None  # or the frames would live in a circle until the garbage collector comes
    if failures:
        cause = failures[0]
        failures.clear()  # the errors have this frame, and must not be in it: nobody but the collector would free them
        try:
            text = f"Could not load a value from a message: {type(cause).__name__}: {cause}"
            raise DeserializationError(text) from cause
        finally:
            del cause
    try:
        return message
    finally:
        del message  # which may be an error whose traceback has this frame


def _frame_range(frames: list[Frame], data: memoryview) -> list[Frame]:
    if len(data) < _range.size or len(data) % 8:
        raise msgspec.ValidationError("malformed reference to frames")
    start, count = _range.unpack_from(data)
    if not 1 <= start <= start + count <= len(frames):
        raise msgspec.ValidationError(f"frames {start}..{start + count} of a packet of {len(frames)}")
    if len(data) == _range.size:
        return frames[start : start + count]
    lengths = struct.unpack_from(f"<{len(data) // 8 - 1}Q", data, _range.size)
    joined = frames[start]
    if count != 1 or sum(lengths) != len(joined):
        raise msgspec.ValidationError(f"{len(lengths)} frames of {sum(lengths)} bytes in one of {len(joined)}")
    ends = list(accumulate(lengths))
    return [joined[end - length : end] for length, end in zip(lengths, ends, strict=True)]


def _prepare(value: Any, frames: list[Frame]) -> Any:
    """Return what msgpack can carry in place of `value`; its large buffers are appended to `frames`."""
    kind = type(value)
    if kind is str:
        return value if value.isascii() else _prepare_text(value)
    if kind is float or value is None or kind is bool:
        return value
    if kind is int:
        if -(2**63) <= value < 2**64:
            return value
        return Ext(_LARGE_INTEGER, value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True))
    if kind is dict:
        return _prepare_dict(value, frames)
    if kind is list:
        return [_prepare(part, frames) for part in value]
    if kind is tuple:
        return _sequence(_TUPLE, value, frames)
    return _prepare_other(value, frames)


def _prepare_other(value: Any, frames: list[Frame]) -> Any:
    """Marks, buffers and subclasses, which are rarer."""
    if isinstance(value, (Serialize, Serialized)):
        return _prepare_marked(value, frames)
    if isinstance(value, Frames):
        return Ext(_FRAMES, _add_frames(value.frames, frames))
    if isinstance(value, (bytes, bytearray, memoryview)):
        if isinstance(value, memoryview):
            value = value.cast("B") if value.contiguous and value.nbytes else bytes(value)
        if len(value) < OUT_OF_BAND_BYTES:
            return bytes(value)
        return Ext(_LARGE_BYTES, _add_frames([value], frames))
    if isinstance(value, set):
        return _sequence(_SET, value, frames)
    if isinstance(value, frozenset):
        return _sequence(_FROZENSET, value, frames)
    for base in (str, int, float):
        if isinstance(value, base):
            if hasattr(value, "_member_map_"):  # an Enum: it would silently arrive as something else
                break
            return _prepare(base(value), frames)
    if isinstance(value, dict):
        return _prepare_dict(value, frames)
    if isinstance(value, (list, tuple)):
        return _prepare((list if isinstance(value, list) else tuple)(value), frames)
    raise TypeError(
        f"a message cannot carry a {type_name(value)}: {_short(value)}; wrap it in headrace.protocol.Serialize"
    )


def _prepare_text(value: str) -> Any:
    try:
        value.encode()
    except UnicodeEncodeError:
        return Ext(_LONE_SURROGATES, value.encode("utf-8", "surrogatepass"))
    return value


def _prepare_dict(value: dict[Any, Any], frames: list[Frame]) -> Any:
    if all(map(_plain_key, value)):
        return {key: _prepare(part, frames) for key, part in value.items()}
    return _sequence(_PAIRS, value.items(), frames)


def _plain_key(key: Any) -> bool:
    """Whether msgpack gives a dictionary's key back as it was (arrays in keys come back as tuples)."""
    kind = type(key)
    if kind is str:
        return key.isascii() or type(_prepare_text(key)) is str
    if kind is int:
        return bool(-(2**63) <= key < 2**64)
    if kind is tuple:
        return all(map(_plain_key, key))
    return kind is float or kind is bytes or kind is bool or key is None


def _prepare_marked(value: Serialize | Serialized, frames: list[Frame]) -> Ext:
    payload = value.dump() if isinstance(value, Serialize) else value.payload
    always_loaded = isinstance(value, (ToPickle, Pickled))
    if isinstance(payload, Frames):
        return Ext(_PICKLED_FRAMES if always_loaded else _SERIALIZED_FRAMES, _add_frames(payload.frames, frames))
    return Ext(_PICKLED if always_loaded else _SERIALIZED, payload)


def _add_frames(new: list[Frame], frames: list[Frame]) -> bytes:
    new, reference = _refer(new, len(frames))
    frames += new
    return reference


def _refer(new: list[Frame], start: int) -> tuple[list[Frame], bytes]:
    """The frames of a payload as they should travel, the first of them as number `start`, and what points to them."""
    if len(new) > MANY_FRAMES and sum(map(len, new)) < SHORT_BYTES * len(new):
        return [b"".join(new)], _range.pack(start, 1) + struct.pack(f"<{len(new)}Q", *map(len, new))
    return new, _range.pack(start, len(new))


def _sequence(code: int, values: Iterable[object], frames: list[Frame]) -> Ext:
    return Ext(code, msgspec.msgpack.encode([_prepare(part, frames) for part in values]))


def _short(value: object, length: int = 80) -> str:
    try:
        text = repr(value)
    except BaseException as error:
        let_pass(error)
        return f"<no repr: {type(error).__name__}>"
    return text if len(text) <= length else text[:length] + "…"
