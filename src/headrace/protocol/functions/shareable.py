"""Functions to bytes and back, so that thousands of calls of one function pickle it once and unpickle it once.

Neither is done where it could be noticed: a pickle is kept only while nothing that it froze has changed, and an
unpickled function serves several tasks only if their calls cannot change it.
"""

from __future__ import annotations

import threading
import types
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from headrace.containment import let_pass
from headrace.protocol import pickling
from headrace.protocol.frames import Frames
from headrace.protocol.pickling import (
    Held,
    cloudpickle_or_explain,
    loads,
    names_module_by_value,
)
from headrace.protocol.unpickling import unpickle

from .by_reference import replaced_modules
from .frozen import Frozen, freeze
from .snapshots import CACHED_FUNCTION

D = TypeVar("D", bytes, Frames)

#: Entries kept by `loads_function`, and how many bytes their pickles have together, at most.
LOADED_FUNCTIONS = 1000
LOADED_BYTES = 64_000_000
#: A function whose pickle is longer (it holds data) is pickled anew each time instead of being kept twice.
CACHED_FUNCTION_BYTES = 1_000_000

#: What is worth keeping pickles of; others are mutable (instances) or die at once (bound methods, partials).
_KEPT_KINDS = (types.FunctionType, types.BuiltinFunctionType, type, CACHED_FUNCTION)


class KeptPickle:
    """A kept pickle, a weak reference to what it was made of, and what it froze.

    Attributes:
        note: whatever else is to be known for as long as the pickle is kept; must not refer to the function.
    """

    __slots__ = ("frozen", "note", "payload", "reference")

    def __init__(self, reference: weakref.ref[Callable[..., Any]], payload: bytes | Frames, frozen: Frozen) -> None:
        self.reference = reference
        self.payload = payload
        self.frozen = frozen
        self.note: object = None


class PickledFunctions:
    """Pickles functions; the pickle of one is kept for as long as it lives, and nothing that the pickle froze changes.

    Args:
        dump: makes the payload of a callable: `bytes`, or `Frames` that belong to nobody else.
    """

    def __init__(self, dump: Callable[[Callable[..., Any]], bytes | Frames]) -> None:
        self._dump = dump
        self._kept: dict[int, KeptPickle] = {}
        #: looked through once and found wanting; taking one for what it was is never wrong, and saves looking again
        self._not_shareable: weakref.WeakSet[Callable[..., Any]] = weakref.WeakSet()

    def __call__(self, function: Callable[..., Any]) -> Any:
        """The payload of a callable as it is now; the same object as before if nothing of it has changed.

        Raises:
            SerializationError: it cannot be pickled.
        """
        kept = self._kept.get(id(function))
        if kept is not None and kept.reference() is function and kept.frozen.unchanged():
            return kept.payload
        # looked through first: what another thread changes in between is noticed at the next use
        return self._pickle(function, freeze(function) if isinstance(function, _KEPT_KINDS) else None)

    def shareable(self, function: Callable[..., Any]) -> Any:
        """The payload of a function that no call can change; `None` of any other, and of one that was another."""
        if function in self._not_shareable:
            return None
        kept = self._kept.get(id(function))
        if kept is not None and kept.reference() is function and kept.frozen.unchanged():
            return kept.payload if kept.frozen.shareable else None
        frozen = freeze(function)
        if frozen is not None and frozen.shareable:
            return self._pickle(function, frozen)
        self._not_shareable.add(function)
        return None

    def kept(self, function: Callable[..., Any], payload: bytes | Frames) -> KeptPickle | None:
        """The record of this payload of a callable, if that is kept."""
        kept = self._kept.get(id(function))
        return kept if kept is not None and kept.payload is payload else None

    def _pickle(self, function: Callable[..., Any], frozen: Frozen | None) -> Any:
        payload = self._dump(function)
        if frozen is not None and type(payload) is not Held:  # which would keep the function alive
            size = payload.nbytes if isinstance(payload, Frames) else len(payload)
            if size <= CACHED_FUNCTION_BYTES:
                number, kept = id(function), self._kept

                def forget(reference: weakref.ref[Callable[..., Any]]) -> None:
                    if number in kept and kept[number].reference is reference:
                        del kept[number]

                kept[number] = KeptPickle(weakref.ref(function, forget), payload, frozen)
        return payload


def _dump_function(function: Callable[..., Any]) -> bytes:
    try:
        data = pickling._pickle_dumps(function, 5)
        by_value = data.find(b"__main__") >= 0 or names_module_by_value(data)
    except BaseException as raised:
        let_pass(raised)
        by_value = True
    return cloudpickle_or_explain(function, None) if by_value else data


#: Pickle a callable to one piece of bytes, as it is now.
dumps_function = PickledFunctions(_dump_function)

#: Stands for a function of which each task gets a copy of its own.
_COPIED = object()
_loaded: OrderedDict[bytes, Any] = OrderedDict()
_loaded_bytes = 0
_generation = 0
#: Held to change `_loaded`, but not to look into it.
_loading = threading.Lock()


#: `function` in it says whether this thread is unpickling a function for a task.
loading = threading.local()


def loads_function(data: bytes | memoryview | Frames, inside: bool = False) -> Any:
    """Unpickle a callable: a new one, or an earlier one from the same bytes if no call can have changed that.

    Classes that it reaches are one in all of the process. What a new one reaches is set back to what was sent.

    Args:
        inside: whether it is part of a value, which sets back no classes.
    """
    if type(data) is not bytes:
        if isinstance(data, Frames):
            return _call(loads, data if data.shared else _with_own_buffers(data), inside)
        data = bytes(data)
    try:
        function = _loaded[data]
        _loaded.move_to_end(data)
    except KeyError:
        return _load(data, inside)
    return _call(unpickle, data, inside) if function is _COPIED else function


def _call(load: Callable[[D], Any], data: D, inside: bool) -> Any:
    if inside:
        return load(data)
    loading.function = True
    try:
        return load(data)
    finally:
        loading.function = False


def _load(data: bytes, inside: bool) -> Any:
    global _loaded_bytes
    generation = _generation
    function = _call(unpickle, data, inside)
    frozen = freeze(function)
    with _loading:
        if generation == _generation and data not in _loaded:  # no module was replaced meanwhile
            _loaded[data] = function if frozen is not None and frozen.shareable else _COPIED
            _loaded_bytes += len(data)
            while len(_loaded) > LOADED_FUNCTIONS or _loaded_bytes > LOADED_BYTES:
                _loaded_bytes -= len(_loaded.popitem(last=False)[0])
    return function


def _with_own_buffers(data: Frames) -> Frames:
    """A function's frames for one task, which may change the arrays in there."""
    return Frames([data.frames[0], *map(bytearray, data.frames[1:])])


def forget_loaded_functions(modules: Iterable[str] = ()) -> None:
    """Unpickle every function anew from now on.

    Args:
        modules: names of modules that have been replaced by others.
    """
    global _generation, _loaded_bytes
    replaced_modules.update(modules)
    with _loading:
        _generation += 1
        _loaded.clear()
        _loaded_bytes = 0
