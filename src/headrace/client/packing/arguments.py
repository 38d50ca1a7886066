"""Arguments of calls to payloads: futures become references, and what identifies a pure call is hashed.

Arguments that are numbers and short texts, alone or in small tuples, lists and dictionaries ("simple" ones) are pickled
without pickle's memo: equal arguments then give equal bytes, so that the payload itself can be hashed, at a tenth of
the cost of `dask.tokenize`. No client, no sockets here.
"""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

from dask._task_spec import TaskRef, parse_input
from dask.base import tokenize
from dask.utils import is_namedtuple_instance

from headrace.common.keys import Key, to_wire
from headrace.exceptions import SerializationError
from headrace.messages.base import Payload
from headrace.protocol import OUT_OF_BAND_BYTES, Frames, dumps, hand_over

#: Types whose values neither hold anything nor are large.
SMALL = frozenset({int, float, complex, bool, type(None)})
#: Texts and bytes of this length and more are not simple.
LONG_TEXT = 10_000
#: More elements than this in nested containers are not simple.
MANY_ELEMENTS = 1000

NO_KWARGS: dict[str, Any] = {}
_local = threading.local()
_HEAD = b"\x80\x05"
_TAIL = b"\x86."


class PackedCall(NamedTuple):
    """A call's arguments, ready to send.

    Attributes:
        payload: pickled `(args, kwargs)`.
        dependencies: per key that the arguments refer to, the object that did.
        token: bytes or text that identify the arguments; empty if nobody asked for it.
    """

    payload: Payload
    dependencies: dict[Key, Any]
    token: bytes | str


class MemolessPickler:
    """Pickles simple values to bytes that depend on nothing but the values."""

    __slots__ = ("_dump", "_parts")

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        pickler = pickle.Pickler(_Sink(self._parts.append), 5)
        pickler.fast = True
        self._dump = pickler.dump

    def __call__(self, value: object) -> bytes:
        parts = self._parts
        try:
            self._dump(value)
        except BaseException:
            parts.clear()
            raise
        if len(parts) == 1:
            return parts.pop()
        whole = b"".join(parts)
        parts.clear()
        return whole


class _Sink:
    """A file to pickle: what is written is appended to a list."""

    __slots__ = ("write",)

    def __init__(self, write: Callable[[bytes], Any]) -> None:
        self.write = write


class Walker:
    """Replaces futures by references, anywhere in lists, tuples, sets and dictionaries.

    Attributes:
        dependencies: per key that was referred to, the future.
        simple: whether all that was seen is simple.
    """

    __slots__ = ("dependencies", "references", "seen", "simple")

    def __init__(self) -> None:
        self.dependencies: dict[Key, Any] = {}
        self.references = 0
        self.seen = 0
        self.simple = True

    def walk(self, value: Any) -> Any:
        """The value itself, or a copy in which futures are references."""
        kind = type(value)
        if kind in SMALL:
            return value
        if kind is str or kind is bytes:
            if len(value) >= LONG_TEXT:
                self.simple = False
            return value
        if kind is list or kind is tuple:
            return self._walk_sequence(kind, value)
        if kind is dict:
            return self._walk_dictionary(value)
        if isinstance(value, TaskRef) or (kind is not type and getattr(value, "__dask_future__", False) is True):
            return self._refer(value)
        self.simple = False
        if kind is set or kind is frozenset:
            before = self.references
            items = [self.walk(item) for item in value]
            return value if before == self.references else kind(items)
        if isinstance(value, tuple) and is_namedtuple_instance(value):
            return self._walk_named_tuple(value)
        return value

    def walk_safely(self, value: Any) -> Any:
        """`walk` the value; one that holds itself, or is nested too deep to look through, comes back as it is."""
        try:
            return self.walk(value)
        except RecursionError:
            self.simple = False
            return value

    def _walk_sequence(self, kind: type, value: Any) -> Any:
        self.seen += len(value)
        if self.seen > MANY_ELEMENTS:
            self.simple = False
        before = self.references
        items = [self.walk(item) for item in value]
        return value if before == self.references else kind(items)

    def _walk_dictionary(self, value: dict[Any, Any]) -> Any:
        self.seen += len(value)
        if self.seen > MANY_ELEMENTS or len(value) > 1 or not all(type(key) is str for key in value):
            self.simple = False  # equal dictionaries may differ in order
        before = self.references
        items = {key: self.walk(item) for key, item in value.items()}
        return value if before == self.references else items

    def _walk_named_tuple(self, value: Any) -> Any:
        before = self.references
        for item in value:
            self.walk(item)
        return value if before == self.references else parse_input(value)

    def _refer(self, value: Any) -> TaskRef:
        self.references += 1
        self.dependencies[to_wire(value.key)] = value
        return TaskRef(value.key)


def _pickler() -> MemolessPickler:
    """The pickler of this thread: making one costs more than using it."""
    try:
        return _local.pickler  # type: ignore[no-any-return]
    except AttributeError:
        pickler: MemolessPickler = MemolessPickler()
        _local.pickler = pickler
        return pickler


def is_simple(value: Any) -> bool:
    """Whether a value is a number or a short text."""
    kind = type(value)
    return kind in SMALL or ((kind is str or kind is bytes) and len(value) < LONG_TEXT)


def pack(
    function: object, args: tuple[Any, ...], kwargs: dict[str, Any], in_process: bool = False, hashed: bool = True
) -> PackedCall:
    """A call's arguments as a payload, with what they refer to.

    Args:
        in_process: whether the scheduler is in this process, see `headrace.protocol.handover`.
        hashed: whether the key is made of what identifies the arguments; for many kinds, dask finds that by pickling.

    Raises:
        SerializationError: an argument cannot be pickled; names the function, the argument and its type.
    """
    walker = Walker()
    new_args = walker.walk_safely(args)
    new_kwargs = {name: walker.walk_safely(value) for name, value in kwargs.items()} if kwargs else kwargs
    if walker.simple and len(kwargs) < 2:
        data = _pickler()((new_args, new_kwargs))
        return PackedCall(as_payload(data), walker.dependencies, data)
    payload = dump_arguments(function, new_args, new_kwargs, in_process)
    return PackedCall(payload, walker.dependencies, str(tokenize(new_args, new_kwargs)) if hashed else "")


def as_payload(data: bytes) -> Payload:
    """A pickle as it travels: large ones beside their message."""
    return data if len(data) < OUT_OF_BAND_BYTES else Frames([data])


def dump_arguments(
    function: object, args: tuple[object, ...], kwargs: dict[str, object], in_process: bool = False
) -> Payload:
    """Pickle `(args, kwargs)`; the error names the function and the argument that cannot be."""
    if in_process:
        return hand_over((args, kwargs))
    try:
        return dumps((args, kwargs))
    except SerializationError as error:
        raise _explain(function, args, kwargs, error) from error


def body_of(pickled: bytes) -> bytes:
    """A pickle (of one frame at most) without its head and its end, to be put inside another."""
    start = 11 if pickled[2:3] == b"\x95" else 2
    return pickled[start:-1]


def splice(args: bytes, kwargs_body: bytes) -> bytes:
    """The pickle of `(args, kwargs)` out of the memoless pickle of `args` and the body of that of `kwargs`."""
    return _HEAD + body_of(args) + kwargs_body + _TAIL


def _explain(
    function: object, args: tuple[object, ...], kwargs: dict[str, object], error: SerializationError
) -> SerializationError:
    named = [(f"argument {position}", value) for position, value in enumerate(args)]
    named += [(f"argument {name!r}", value) for name, value in kwargs.items()]
    for name, value in named:
        try:
            dumps(value)
        except SerializationError as cause:
            return SerializationError(f"{name} of the task {function_name(function)} cannot be sent. {cause}")
    return SerializationError(f"the arguments of the task {function_name(function)} cannot be sent. {error}")


def function_name(function: object) -> str:
    """A callable's name for messages, with its module where there is one."""
    module = getattr(function, "__module__", None)
    name = getattr(function, "__qualname__", None) or repr(function)
    return f"{module}.{name}" if module else str(name)
