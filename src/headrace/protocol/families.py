"""Families of serializers, by name: `serialize` tries them in turn, and `deserialize` finds the one that was taken.

What one of them made travels as a pickle that names nothing but this module, so that a receiver that admits only
certain families can load it without admitting pickles.
"""

from __future__ import annotations

import io
import pickle
import traceback
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from dask.utils import has_keyword

from headrace.containment import contained
from headrace.exceptions import SerializationError

from . import pickling as plain
from .codec import decode, encode
from .frames import Frame, Frames
from .registered import (
    call_dumps,
    cuda_deserialize,
    cuda_serialize,
    dask_deserialize,
    dask_serialize,
    dump_registered,
    frame_to_pickle,
    load_registered,
)
from .serialization_context import want_context
from .unpickling import Unpickler, raise_contained, unpickle

Header = dict[str, Any]
#: What is tried, in this order, if nobody says otherwise.
DEFAULT = ("dask", "pickle")
#: What can be serialized element by element.
_ITERATED = (list, dict, tuple, set, frozenset)
_SEQUENCES: dict[str, Callable[[Any], Any]] = {"list": list, "tuple": tuple, "set": set, "frozenset": frozenset}
#: What msgpack holds, beside collections; the last two arrive as bytes.
_PLAIN = frozenset({type(None), bool, int, float, str, bytes, bytearray, memoryview})
#: Families that leave no element to others, or look for it themselves.
_OURS = frozenset({"dask", "pickle", "msgpack", "cuda", "error"})


class Family(NamedTuple):
    """Two functions.

    Attributes:
        dumps: from a value to header and frames; NotImplementedError if it is none for this family.
        loads: back.
        takes_context: whether `dumps` has a parameter `context`.
    """

    dumps: Callable[..., tuple[Header, list[Any]]] | None
    loads: Callable[[Header, list[Any]], Any]
    takes_context: bool | None


families: dict[str, Family] = {}


def register_serialization_family(
    name: str, dumps: Callable[..., tuple[Header, list[Any]]] | None, loads: Callable[[Header, list[Any]], Any]
) -> None:
    """Make a family of serializers known in this process, for `Client(serializers=[name, …])` and `serialize`.

    Args:
        name: of the family.
        dumps: called with a value (and `context`, if it has such a parameter: a dictionary of who asks); returns a
            header, a dictionary of plain values, and a list of bytes-like objects. Raises NotImplementedError for what
            is to be left to the next family.
        loads: called with these two; returns the value.
    """
    takes_context = has_keyword(dumps, "context") if dumps is not None else None
    families[name] = Family(dumps, loads, takes_context)
    if takes_context and name not in _OURS:
        want_context()


def known_families(names: Iterable[str]) -> list[str]:
    """A list of these names of families.

    Raises:
        ValueError: one is not registered in this process.
    """
    names = [names] if isinstance(names, str) else list(names)
    for name in names:
        if name not in families:
            raise ValueError(
                f"no family of serializers is called {name!r} in this process; known are {sorted(families)}. "
                "Register it with distributed.protocol.register_serialization_family, here and on the workers"
            )
    return names


def serialize(
    x: object,
    serializers: Iterable[str] | None = None,
    on_error: str = "message",
    context: dict[str, Any] | None = None,
    iterate_collection: bool | None = None,
) -> tuple[Header, list[Any]]:
    """Header and frames of a value, by the first family that can.

    Args:
        x: any value.
        serializers: names of families, in order of preference; ("dask", "pickle") by default.
        on_error: what to do if none can: "message" returns the text of the error for the receiver, "raise" raises.
        context: told to functions that have such a parameter.
        iterate_collection: whether collections are serialized element by element; by default if an element is of a
            registered class.

    Returns:
        A dictionary that `deserialize` needs, and a list of bytes-like objects.

    Raises:
        KeyError: an unknown family.
        ValueError: an unknown `on_error`.
        TypeError: no family can, and `on_error` is "raise".
    """
    if on_error not in ("message", "raise"):
        raise ValueError(f"on_error must be 'message' or 'raise', not {on_error!r}")
    names = list(DEFAULT if serializers is None else serializers)
    chosen = [(name, families[name]) for name in names]
    from .marks import Serialized  # late: it needs this module

    if isinstance(x, Serialized):
        return x.header, x.frames
    if type(x) in _ITERATED and (iterate_collection or (iterate_collection is None and _by_element(x, names))):
        return _serialize_collection(x, names, on_error, context)
    text = ""
    for name, family in chosen:
        if family.dumps is None:
            continue
        try:
            header, frames = family.dumps(x, context=context) if family.takes_context else family.dumps(x)
        except NotImplementedError:
            continue
        except BaseException as raised:
            text = "".join(traceback.format_exception(contained(raised)))
            break
        header["serializer"] = name
        return header, frames
    message = f"Could not serialize object of type {type(x).__name__}"
    if on_error == "raise":
        raise TypeError(message, f"{text or x!s:.10000}")
    return {"serializer": "error"}, [message.encode(), *([text[:10000].encode()] if text else [])]


def deserialize(header: Header, frames: Iterable[Any], deserializers: Iterable[str] | None = None) -> Any:
    """The value in what `serialize` returned.

    Args:
        deserializers: names of the families that are admitted; all by default.

    Raises:
        TypeError: it was made by a family that is not admitted, or is unknown here; or it is an error's text.
    """
    frames = list(frames)
    if header.get("is-collection"):
        return _deserialize_collection(header, frames, deserializers)
    name = header.get("serializer") or "pickle"
    if deserializers is not None and name not in deserializers:
        raise TypeError(
            f"Data serialized with {name} but only able to deserialize data with {[str(one) for one in deserializers]}"
        )
    family = families.get(name)
    if family is None:
        raise TypeError(
            f"Data serialized with {name}, a family that is not known in this process: "
            "register it here too with distributed.protocol.register_serialization_family"
        )
    try:
        return family.loads(header, frames)
    except BaseException as raised:
        raise_contained(raised)


def dumps_by_family(value: object, serializers: Iterable[str], context: dict[str, Any] | None = None) -> bytes | Frames:
    """Serialize a value to a payload, by the first of these families that can.

    Raises:
        SerializationError: none can.
        KeyError: an unknown family.
    """
    try:
        header, frames = serialize(value, serializers, on_error="raise", context=context)
    except TypeError as error:
        raise SerializationError(f"{error.args[0]} with the serializers {list(serializers)}") from error
    return to_payload(header, frames)


def loads_by_family(payload: bytes | Frames, deserializers: Iterable[str]) -> Any:
    """Load a payload if these families made it. Plain values, as of msgpack, are always admitted.

    Raises:
        TypeError: another family did, pickle included.
    """
    admitted = list(deserializers)
    frames: list[Frame] = payload.frames if isinstance(payload, Frames) else [payload]
    return AdmittingUnpickler(frames[0], frames[1:], admitted).load()


def to_payload(header: Header, frames: list[Any]) -> bytes | Frames:
    """The payload by which header and frames travel."""
    if header.get("serializer") == "pickle":  # as it would travel without families
        return frames[0] if len(frames) == 1 and type(frames[0]) is bytes else Frames(frames)
    return plain.dumps(HeaderAndFrames(header, frames))


def of_payload(payload: bytes | Frames) -> tuple[Header, list[Frame]]:
    """Header and frames of a payload, whichever family made it."""
    frames: list[Frame] = payload.frames if isinstance(payload, Frames) else [payload]
    try:
        parts = _UnopenedUnpickler(io.BytesIO(frames[0]), buffers=frames[1:]).load()
    except _OrdinaryPickle:
        parts = None
    if type(parts) is HeaderAndFrames:
        return parts.header, parts.frames
    return {"serializer": "pickle", "writeable": ()}, frames


class HeaderAndFrames:
    """Pickles as the value in header and frames."""

    def __init__(self, header: Header, frames: list[Any]) -> None:
        self.header, self.frames = header, frames

    def __reduce__(self) -> tuple[Any, ...]:
        return load_parts, (self.header, *map(frame_to_pickle, self.frames))


def load_parts(header: Header, *frames: Frame) -> Any:
    """The value in header and frames; named in pickles."""
    return deserialize(header, frames)


class AdmittingUnpickler(Unpickler):
    """Loads what certain families made."""

    def __init__(self, data: Frame, buffers: list[Frame], admitted: list[str]) -> None:
        super().__init__(io.BytesIO(data), buffers=buffers)
        self._admitted = admitted

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == (load_parts.__module__, load_parts.__name__):
            return lambda header, *frames: deserialize(header, frames, self._admitted)
        if "pickle" in self._admitted or ("dask" in self._admitted and self._is_registered(module, name)):
            return super().find_class(module, name)
        raise TypeError(f"Data serialized with pickle but only able to deserialize data with {self._admitted}")

    def _is_registered(self, module: str, name: str) -> bool:
        """Whether this is the loader of registered classes, or one of these."""
        if (module, name) == (load_registered.__module__, load_registered.__name__):
            return True
        found = super().find_class(module, name)
        return isinstance(found, type) and dask_deserialize.find(found) is not None


class _OrdinaryPickle(Exception):
    """Not what a family made."""


class _UnopenedUnpickler(pickle.Unpickler):
    """Takes header and frames apart without opening them."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == (load_parts.__module__, load_parts.__name__):
            return lambda header, *frames: HeaderAndFrames(header, list(frames))
        raise _OrdinaryPickle


def check_dask_serializable(x: Any) -> bool:
    """Whether an object, or an element of a collection, is of a class with functions of its own."""
    if type(x) in (list, set, tuple, frozenset):
        return any(map(check_dask_serializable, x))
    if type(x) is dict:
        return any(map(check_dask_serializable, x.values()))
    return dask_serialize.find(type(x)) is not None


def _by_element(x: object, names: list[str]) -> bool:
    if type(x) in (list, dict) and not _OURS.issuperset(names):
        return True  # whether a user's family wants an element, only trying tells
    return "dask" in names and check_dask_serializable(x)


def _serialize_collection(
    x: Any, names: list[str], on_error: str, context: dict[str, Any] | None
) -> tuple[Header, list[Any]]:
    keyed = type(x) is dict and not all(type(key) is str for key in x)
    items = [part for pair in x.items() for part in pair] if keyed else list(x.values() if type(x) is dict else x)
    parts = [serialize(item, names, on_error, context) for item in items]
    for header, frames in parts:
        if header.get("serializer") == "error":
            return header, frames
    whole: Header = {
        "sub-headers": [header for header, _ in parts],
        "is-collection": True,
        "frame-lengths": [len(frames) for _, frames in parts],
        "type-serialized": type(x).__name__,
    }
    if type(x) is dict:
        whole["keys"] = None if keyed else list(x)
    return whole, [frame for _, frames in parts for frame in frames]


def _deserialize_collection(header: Header, frames: list[Any], deserializers: Iterable[str] | None) -> Any:
    values, start = [], 0
    for sub_header, count in zip(header["sub-headers"], header["frame-lengths"], strict=True):
        values.append(deserialize(sub_header, frames[start : start + count], deserializers))
        start += count
    made = _SEQUENCES.get(header["type-serialized"])
    if made is not None:
        return made(values)
    if header["keys"] is None:
        return dict(zip(values[::2], values[1::2], strict=True))
    return dict(zip(header["keys"], values, strict=True))


def dask_dumps(x: object, context: dict[str, Any] | None = None) -> tuple[Header, list[Any]]:
    """The family "dask": classes with functions of their own.

    Raises:
        NotImplementedError: no function is registered for the class of `x`.
    """
    header, frames = dump_registered(x, context)
    return _of_class(x, header), frames


def dask_loads(header: Header, frames: list[Any]) -> Any:
    """Load what `dask_dumps` made."""
    return load_registered(unpickle(header["type-serialized"]), header["sub-header"], *frames)


def cuda_dumps(x: object, context: dict[str, Any] | None = None) -> tuple[Header, list[Any]]:
    """The family "cuda": what is registered with `cuda_serialize`."""
    try:
        function = cuda_serialize.dispatch(type(x))
    except TypeError:
        raise NotImplementedError(type(x).__name__) from None
    header, frames = call_dumps(function, x, context)
    return _of_class(x, header), frames


def cuda_loads(header: Header, frames: list[Any]) -> Any:
    """Load what `cuda_dumps` made."""
    return cuda_deserialize.dispatch(unpickle(header["type-serialized"]))(header["sub-header"], frames)


def _of_class(x: object, header: Header) -> Header:
    kind = plain.dumps(type(x))
    return {
        "sub-header": header,
        "type": plain.type_name(x),
        "type-serialized": kind if isinstance(kind, bytes) else b"".join(kind.frames),
    }


def pickle_dumps(x: object, context: dict[str, Any] | None = None) -> tuple[Header, list[Any]]:
    """The family "pickle"; large buffers are frames of their own."""
    payload = plain.dumps(x)
    frames: list[Frame] = payload.frames if isinstance(payload, Frames) else [payload]
    return {"serializer": "pickle", "writeable": tuple(not memoryview(frame).readonly for frame in frames[1:])}, frames


def pickle_loads(header: Header, frames: list[Any]) -> Any:
    """Load what `pickle_dumps` made; buffers that were writable are so again."""
    writable = header.get("writeable") or ()
    buffers = [
        bytearray(frame) if wanted and memoryview(frame).readonly else frame
        for frame, wanted in zip(frames[1:], (*writable, *[False] * len(frames)), strict=False)
    ]
    return plain.loads(Frames([frames[0], *buffers]))


def msgpack_dumps(x: object) -> tuple[Header, list[Any]]:
    """The family "msgpack": None, booleans, numbers, text, bytes and collections of these.

    Raises:
        NotImplementedError: `x` holds something else.
    """
    try:
        _check_plain(x)
        return {"serializer": "msgpack"}, encode(x)
    except (RecursionError, ValueError) as error:
        raise NotImplementedError(f"msgpack cannot hold this {type(x).__name__}: {error}") from None


def _check_plain(value: Any) -> None:
    """Refuse what would come back as something else."""
    kind = type(value)
    if kind in _SEQUENCES.values():
        for part in value:
            _check_plain(part)
    elif kind is dict:
        for key, part in value.items():
            _check_plain(key)
            _check_plain(part)
    elif kind is int:
        if not -(2**63) <= value < 2**64:
            raise NotImplementedError("msgpack cannot hold so large a number")
    elif kind not in _PLAIN and not issubclass(kind, float):  # a float64 of numpy arrives as Python's
        raise NotImplementedError(f"msgpack cannot hold a {kind.__name__}")


def msgpack_loads(header: Header, frames: list[Any]) -> Any:
    """Load what `msgpack_dumps` made."""
    return decode(frames)


def serialization_error_loads(header: Header, frames: list[Any]) -> Any:
    """Raises what went wrong where it was serialized.

    Raises:
        TypeError: always, with the text that came.
    """
    raise TypeError("\n".join(bytes(frame).decode(errors="replace") for frame in frames))


register_serialization_family("dask", dask_dumps, dask_loads)
register_serialization_family("pickle", pickle_dumps, pickle_loads)
register_serialization_family("msgpack", msgpack_dumps, msgpack_loads)
register_serialization_family("cuda", cuda_dumps, cuda_loads)
register_serialization_family("error", None, serialization_error_loads)
