"""Values and functions to payloads and back.

Plain pickle first, because it is C and fast; cloudpickle for what plain pickle refuses or would pickle by a name that
another process does not have (`__main__`, modules registered by value). Large buffers stay out of band, uncopied.
"""

from __future__ import annotations

import copyreg
import io
import pickle
import sys
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

from headrace.containment import class_name_of, contained, described, let_pass
from headrace.exceptions import SerializationError

from .frames import BufferCallback, Frame, Frames
from .functions.by_reference import registered_by_value
from .unpickling import unpickle

#: Buffers and pickles of this many bytes and more travel as frames of their own.
OUT_OF_BAND_BYTES = 64 * 1024

_BYTES = (bytes, bytearray)
#: Of these no class can be registered, and no array is in them.
_ATOMS = frozenset({type(None), bool, int, float, complex, str, bytes})
#: A pickler that has written more is not kept: its memo has grown, and is cleared each time.
_KEPT_BYTES = 1000
_local = threading.local()


def _pickle_plainly(value: object, protocol: int, buffer_callback: BufferCallback | None = None) -> bytes:
    if _arrays_may_be_in_it():
        return _pickle_dumps(value, protocol, buffer_callback=buffer_callback)
    return pickle.dumps(value, protocol, buffer_callback=buffer_callback)


#: The plain pickler; another one once a class has functions of its own, or arrays may turn up (`registered`).
Pickler: type[pickle.Pickler] = pickle.Pickler
_pickle_dumps: Callable[..., bytes] = _pickle_plainly


def _arrays_may_be_in_it() -> bool:
    if Pickler is pickle.Pickler and "numpy" in sys.modules:
        from .registered import take_part

        take_part()
        return True
    return False


def current_pickler() -> type[pickle.Pickler]:
    """The plain pickler, with functions for all that has turned up so far."""
    _arrays_may_be_in_it()
    look_around: Callable[[], bool] | None = getattr(Pickler, "look_around", None)
    if look_around is not None:
        look_around()
    return Pickler


def use_pickler(kind: type[pickle.Pickler], look_around: Callable[[], bool]) -> None:
    """Pickle with this class from now on. The plain function, which is used until then, is a little faster.

    Args:
        look_around: called when modules were imported, or classes registered with `copyreg`; returns whether it has
            seen all there is to see, or is to be called again.
    """
    global Pickler, _pickle_dumps

    modules, reducers, seen = sys.modules, copyreg.dispatch_table, [0, 0]

    def dumps_with_pickler(value: object, protocol: int, buffer_callback: BufferCallback | None = None) -> bytes:
        if len(modules) != seen[0] or len(reducers) != seen[1]:
            seen[:] = len(modules), len(reducers)
            if not look_around():
                seen[0] = 0
        try:
            kept: KeptPickler = _local.kept
        except AttributeError:
            kept = KeptPickler(kind)
        if kept.in_use or kept.kind is not kind:  # pickling may come here again
            kept = KeptPickler(kind)
        kept.in_use = True
        callbacks = kept.callbacks
        callbacks.append(buffer_callback)
        try:
            kept.dump(value)
        except BaseException:  # it holds the part of the value that it has seen
            if getattr(_local, "kept", None) is kept:
                del _local.kept
            raise
        callbacks.clear()
        file = kept.file
        data = file.getvalue()
        if len(data) <= _KEPT_BYTES:
            kept.clear_memo()  # nothing of the value is kept
            file.seek(0)
            file.truncate()
            kept.in_use = False
            _local.kept = kept
        return data

    Pickler, _pickle_dumps = kind, dumps_with_pickler


class KeptPickler:
    """A pickler of one thread, with its target: making one costs more than using it."""

    __slots__ = ("callbacks", "clear_memo", "dump", "file", "in_use", "kind")

    def __init__(self, kind: type[pickle.Pickler]) -> None:
        self.kind = kind
        #: what is asked about buffers, if there is anything
        self.callbacks: list[BufferCallback | None] = []
        callbacks = self.callbacks  # not `self`: who is in a circle lives until the collector comes

        def keep(buffer: pickle.PickleBuffer) -> object:
            callback = callbacks[0]
            return callback is None or callback(buffer)

        self.file = io.BytesIO()
        pickler = kind(self.file, 5, buffer_callback=keep)
        self.dump = pickler.dump
        self.clear_memo = pickler.clear_memo
        self.in_use = False


def in_band(kept: list[Frame], smallest: int, buffer: pickle.PickleBuffer) -> bool:
    """Whether a buffer is to be pickled along; those of `smallest` bytes and more are not, and are added to `kept`."""
    try:
        raw = buffer.raw()
    except BufferError:  # not contiguous
        return True
    if raw.nbytes < smallest:
        return True
    kept.append(raw)
    return False


def dumps(value: Any, smallest: int = OUT_OF_BAND_BYTES, explain: bool = True) -> bytes | Frames:
    """Pickle a value: `bytes` when all of it is small, else `Frames`.

    Args:
        smallest: bytes from which on a buffer stays out of band.
        explain: whether an error looks for what inside the value is at fault, which takes a while.

    Raises:
        SerializationError: it cannot be pickled; names its type and the cause.
    """
    kind = type(value)
    if kind in _ATOMS:
        if kind is not bytes or len(value) < OUT_OF_BAND_BYTES:
            data = pickle.dumps(value, 5)
            return data if len(data) < OUT_OF_BAND_BYTES else Frames([data])
        value = _LargeBytes(value)
    elif kind is bytearray and len(value) >= OUT_OF_BAND_BYTES:
        value = _LargeBytes(value)
    buffers: list[Frame] = []
    keep_large = partial(in_band, buffers, smallest)
    try:
        data = _pickle_dumps(value, 5, buffer_callback=keep_large)
        # `find`, because `in` costs twice as much: it tries a bytes' index first
        by_value = data.find(b"__main__") >= 0 or names_module_by_value(data)
    except BaseException as raised:
        let_pass(raised)
        by_value = True
    if by_value:
        del buffers[:]
        data = cloudpickle_or_explain(value, keep_large, explain, buffers.clear)
    if buffers:
        return Frames([data, *buffers])
    return data if len(data) < OUT_OF_BAND_BYTES else Frames([data])


def loads(payload: bytes | Frames | memoryview | bytearray) -> Any:
    """Unpickle what `dumps` made; arrays share the memory of the payload's frames."""
    if type(payload) is Held:
        return payload.value
    if isinstance(payload, Frames):
        frames = payload.frames
        return unpickle(frames[0], frames[1:])
    return unpickle(payload)


_packing = threading.local()


class Held(Frames):
    """A payload that is the value itself, for receivers in this process.

    One that is encoded nevertheless is pickled then. What cannot be pickled becomes a payload that raises, when it is
    opened, what pickling raised: so the one task fails that it belongs to.

    Args:
        value: anything. It lives as long as this.
    """

    __slots__ = ("value",)

    shared = True

    def __init__(self, value: Any) -> None:
        self.value = value

    @property
    def frames(self) -> list[Frame]:  # type: ignore[override]
        """The value as it travels to another process."""
        if getattr(_packing, "now", False):  # a value that leads to the messages it is in: no end of it
            raise SerializationError("a value that is handed over within a process leads to another one")
        _packing.now = True
        try:
            payload = dumps(self.value)
        except SerializationError as error:
            payload = dumps(_Refusal(str(error)))
        finally:
            _packing.now = False
        return payload.frames if type(payload) is Frames else [payload]  # type: ignore[list-item]

    @property
    def nbytes(self) -> int:
        """None of its own."""
        return 0

    def __repr__(self) -> str:
        return f"<Held: a {type_name(self.value)}>"

    def __eq__(self, other: object) -> bool:
        return self is other

    __hash__ = object.__hash__  # type: ignore[assignment]

    def __reduce__(self) -> tuple[type[Frames], tuple[list[bytes]]]:
        return Frames, ([bytes(frame) for frame in self.frames],)


class _Refusal:
    """Pickles as an error that is raised by unpickling it."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __reduce__(self) -> tuple[Any, ...]:
        return refuse, (self.text,)


def refuse(text: str) -> Any:
    """Raise what kept a value from being sent; called when the payload in its place is loaded.

    Raises:
        SerializationError: always.
    """
    raise SerializationError(f"it was handed over within a process, and cannot be sent to another. {text}")


def dumps_buffers(value: object, buffer_callback: BufferCallback | None) -> bytes:
    """The pickle alone; what becomes of its buffers, `buffer_callback` decides, as of `pickle.dumps`.

    Raises:
        SerializationError: it cannot be pickled.
    """
    try:  # to see which pickler it takes; the callback must not be given anything twice
        data = _pickle_dumps(value, 5, buffer_callback=_leave_out)
        by_value = data.find(b"__main__") >= 0 or names_module_by_value(data)
    except BaseException as raised:
        let_pass(raised)
        by_value = True
    return (cloudpickle_or_explain if by_value else _plain)(value, buffer_callback)


def _leave_out(buffer: pickle.PickleBuffer) -> None:
    """A callback that keeps buffers out of a pickle."""


def _plain(value: object, buffer_callback: BufferCallback | None) -> bytes:
    return _pickle_dumps(value, 5, buffer_callback=buffer_callback)


def type_name(value: object) -> str:
    """The type of a value, with its module unless that is `builtins`."""
    return class_name_of(value)


class _LargeBytes:
    """Wraps large `bytes`, which pickle would copy into its output, to go out of band."""

    __slots__ = ("value",)

    def __init__(self, value: bytes | bytearray) -> None:
        self.value = value

    def __reduce_ex__(self, protocol: object) -> tuple[Any, ...]:
        return type(self.value), (pickle.PickleBuffer(self.value),)


def names_module_by_value(data: bytes) -> bool:
    """Whether a pickle names a module that the user registered with `cloudpickle.register_pickle_by_value`."""
    names = registered_by_value()
    return bool(names) and any(name.encode() in data for name in tuple(names))


def cloudpickle_or_explain(
    value: object,
    buffer_callback: BufferCallback | None,
    explain: bool = True,
    forget_buffers: Callable[[], object] | None = None,
) -> bytes:
    """Pickle what plain pickle cannot, or must not.

    Args:
        explain: whether an error looks for what inside the value is at fault.
        forget_buffers: called when the callback is going to be given all buffers once more.

    Raises:
        SerializationError: it cannot be pickled; names its type, and with `explain` what in it is at fault.
    """
    from .functions.by_value import (
        cloudpickle_dumps,
    )  # late: importing cloudpickle takes 30 ms, which not every process needs

    try:
        return cloudpickle_dumps(value, buffer_callback, forget_buffers)
    except BaseException as raised:
        raised = contained(raised)
        if type(value) is _LargeBytes:
            value = value.value
        from .culprit import describe_culprit

        raise SerializationError(
            f"Could not serialize object of type {type_name(value)}: {described(raised)}"
            f"{describe_culprit(value) if explain else ''}"
        ) from raised
