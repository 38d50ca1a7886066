"""Classes that users serialize with functions of their own, wherever pickling meets an instance.

`dask_serialize` and `dask_deserialize` take them. Those for well-known packages are there from the start (`libraries`),
and cost nothing until such an object turns up. Until the first class is registered, or numpy is imported, this module
is not in the way of anything: it is then that the picklers of `pickle` and `by_value` are told of it. No sockets, no
families here.
"""

from __future__ import annotations

import copyreg
import importlib
import pickle
import sys
import threading
from collections.abc import Callable
from functools import partial
from operator import methodcaller
from typing import Any

from dask.utils import Dispatch, has_keyword

from . import pickling as plain
from .frames import Frame
from .functions import by_value
from .libraries import BY_FUNCTIONS, LIBRARIES, ON_DEVICES, LibraryClass
from .pickling import type_name
from .serialization_context import current_context, want_context

#: What is pickled otherwise even if someone registers a base of it, since pickles are made of these.
_NEVER = (type, type(len), type(lambda: None), BaseException)

#: Classes whose reducers are remembered, at most.
_REMEMBERED = 10_000

_reduce_ex: Callable[[Any], Any] = methodcaller("__reduce_ex__", 5)
_state = threading.local()


class Registry(Dispatch):  # type: ignore[misc]
    """Functions by class, for its subclasses too; `register_lazy` takes one that registers once a package is used."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        for toplevel in LIBRARIES:
            if name.startswith("dask") or toplevel in ON_DEVICES:
                self._lazy[toplevel] = partial(self._meet, toplevel)
        #: packages of which something has turned up, but not yet the part whose classes are known here
        self._again: dict[str, Callable[[], None]] = {}

    def dispatch(self, cls: type) -> Any:
        """The function for a class.

        Raises:
            TypeError: there is none.
        """
        try:
            return super().dispatch(cls)
        finally:
            if self._again:
                self._lazy.update(self._again)
                self._again.clear()

    def register_if_absent(self, cls: type, function: Callable[..., Any]) -> None:
        """Use a function for a class for which the user has not registered another."""
        if cls not in self._lookup:
            super().register(cls, function)

    def _meet(self, toplevel: str) -> None:
        _register_library(toplevel)

    def ask_again(self, toplevel: str, register: Callable[[], None]) -> None:
        """Call a function at the next object of a package, too."""
        self._again[toplevel] = register

    def register(self, type: type | tuple[type, ...], func: Callable[..., Any] | None = None) -> Any:
        """Use a function for instances of a class (or of each of a tuple of classes); also as a decorator."""
        if func is None:
            return partial(self.register, type)
        if has_keyword(func, "context"):
            want_context()
        done = super().register(type, func)
        self._changed()
        return done

    def register_lazy(self, toplevel: str, func: Callable[[], Any] | None = None) -> Any:
        """Call a function, which registers classes, when an instance of a class of that package is met."""
        done = super().register_lazy(toplevel, func)
        self._changed()
        return done

    def find(self, kind: type) -> Callable[..., Any] | None:
        """The function for a class, or None."""
        try:
            found: Callable[..., Any] = self.dispatch(kind)
        except TypeError:
            return None
        return found

    def _changed(self) -> None:
        if self is dask_serialize:
            _reducers.clear()
            plain.use_pickler(RegisteredPickler, RegisteredPickler.look_around)
            by_value.registered = _special


#: Functions that turn an instance into a header (a dictionary of plain values) and frames (bytes-like objects).
dask_serialize = Registry("dask_serialize")
#: Functions that turn header and frames into an instance.
dask_deserialize = Registry("dask_deserialize")
#: The same for objects in the memory of GPUs; used by the family "cuda" only.
cuda_serialize = Registry("cuda_serialize")
cuda_deserialize = Registry("cuda_deserialize")

#: Packages with classes that pickle well enough, but in another way than here.
_PICKLED_ANEW = ("numpy", "pyarrow")
#: The classes of well-known packages that have turned up.
_known: dict[type, LibraryClass] = {}


def take_part() -> None:
    """Have everything pickled with our functions for classes of well-known packages from now on."""
    plain.use_pickler(LibraryPickler, LibraryPickler.look_around)
    by_value.registered = _special


def _register_library(toplevel: str) -> None:
    """Register what is known of a package, unless the user has registered something for the same classes."""
    ours, theirs = LIBRARIES[toplevel]
    if theirs not in sys.modules:
        for registry in (dask_serialize, dask_deserialize, cuda_serialize, cuda_deserialize):
            if toplevel in registry._lazy:
                registry.ask_again(toplevel, partial(_register_library, toplevel))
        return
    for known in importlib.import_module(f".libraries.{ours}", __package__).classes(toplevel):
        _known[known.cls] = known
        dask_serialize.register_if_absent(known.cls, known.dumps)
        dask_deserialize.register_if_absent(known.cls, known.loads)
        if known.cuda is not None:
            cuda_serialize.register_if_absent(known.cls, known.cuda[0])
            cuda_deserialize.register_if_absent(known.cls, known.cuda[1])


def register_serialization(
    cls: type | str, serialize: Callable[..., tuple[dict[str, Any], list[Any]]], deserialize: Callable[..., Any]
) -> None:
    """Serialize instances of a class, and of its subclasses, by functions, wherever they occur.

    It must be registered where it is serialized and where it is deserialized, on clients and on workers.

    Args:
        cls: the class. (The name of one, `"package.module.Class"`, is not taken any more, as by the peer.)
        serialize: called with an instance; returns a dictionary of plain values, and a list of bytes-like objects.
            One that has a parameter `context` is given a dictionary of who asks.
            It may raise NotImplementedError for an instance that is to be pickled.
        deserialize: called with these two; returns the instance.

    Raises:
        TypeError: not a class.
    """
    if isinstance(cls, str):
        raise TypeError(
            "Strings are no longer accepted for type registration. "
            "Use distributed.protocol.register_serialization_lazy instead"
        )
    dask_serialize.register(cls, serialize)
    dask_deserialize.register(cls, deserialize)


def register_serialization_lazy(toplevel: str, func: Callable[[], Any]) -> None:
    """Refused, as by the peer.

    Raises:
        TypeError: always; `dask_serialize.register_lazy` and `dask_deserialize.register_lazy` do this.
    """
    raise TypeError(
        "Serialization registration has changed. Use dask_serialize.register_lazy and dask_deserialize.register_lazy"
    )


def dump_registered(value: object, context: dict[str, Any] | None) -> tuple[dict[str, Any], list[Any]]:
    """Header and frames of an instance by the function of its class.

    Raises:
        NotImplementedError: there is none, or it does not want this instance.
        TypeError: it returned something else.
    """
    function = dask_serialize.find(type(value))
    if function is None:
        raise NotImplementedError(f"no function is registered for {type_name(value)}")
    return call_dumps(function, value, context)


def call_dumps(
    function: Callable[..., Any], value: object, context: dict[str, Any] | None
) -> tuple[dict[str, Any], list[Any]]:
    """Call a user's function that serializes a value, and check the result."""
    made = function(value, context=context) if has_keyword(function, "context") else function(value)
    try:
        header, frames = made
        return dict(header), list(frames)
    except (TypeError, ValueError):
        raise TypeError(
            f"the function that serializes a {type_name(value)} must return a header and a list of frames, "
            f"not {made!r:.200}"
        ) from None


def load_registered(kind: type, header: dict[str, Any], *frames: Frame) -> Any:
    """The instance in header and frames.

    Raises:
        TypeError: no function is registered here for the class.
    """
    function = dask_deserialize.find(kind)
    if function is None:
        raise TypeError(
            f"an instance of {kind.__module__}.{kind.__qualname__} has come, but no function is registered here to "
            "deserialize it: register it with distributed.protocol.dask_deserialize in this process too"
        )
    return function(header, list(frames))


def frame_to_pickle(frame: Frame) -> bytes | pickle.PickleBuffer:
    """A frame such that a large one stays out of band."""
    return frame if type(frame) is bytes and len(frame) < plain.OUT_OF_BAND_BYTES else pickle.PickleBuffer(frame)


def _reduce(value: object) -> Any:
    if getattr(_state, "passed", None) is value:  # its function has pickled it: by itself, it is as any other
        return _otherwise(value)
    before, _state.passed = getattr(_state, "passed", None), value
    try:
        header, frames = dump_registered(value, current_context())
    except NotImplementedError:
        return _otherwise(value)
    finally:
        _state.passed = before
    return load_registered, (type(value), header, *map(frame_to_pickle, frames))


def _otherwise(value: object) -> Any:
    reducer: Callable[[Any], Any] = copyreg.dispatch_table.get(type(value), _reduce_ex)
    return reducer(value)


class _SpecialReducers(dict[type, Callable[[Any], Any] | None]):
    """The reducers of classes that are not to be pickled in the usual way; None of all others. Asked once a class."""

    def __missing__(self, kind: type) -> Callable[[Any], Any] | None:
        if len(self) > _REMEMBERED:  # classes may be made by the thousand and thrown away
            self.clear()
        found = self[kind] = self._find(kind)
        return found

    def _find(self, kind: type) -> Callable[[Any], Any] | None:
        function = None if issubclass(kind, (type, *_NEVER)) else dask_serialize.find(kind)
        if function is None:
            return None
        known = next((_known[base] for base in kind.__mro__ if base in _known), None)
        if known is None or known.dumps is not function:
            return _reduce
        if known.pickled is BY_FUNCTIONS:
            return _reduce
        return known.pickled if kind is known.cls and kind not in copyreg.dispatch_table else None


class _Reducers(dict[type, Callable[[Any], Any]]):
    """The reducers that the C pickler asks for, once a class: the special one if there is one, else the usual one."""

    def __missing__(self, kind: type) -> Callable[[Any], Any]:
        if issubclass(kind, type):
            raise KeyError(kind)  # which leaves it to the pickler
        if len(self) > _REMEMBERED:
            self.clear()
        found = self[kind] = _special[kind] or copyreg.dispatch_table.get(kind, _reduce_ex)
        return found

    def clear(self) -> None:
        """Ask for every class anew."""
        super().clear()
        _special.clear()


_special = _SpecialReducers()
_reducers = _Reducers()


class RegisteredPickler(pickle.Pickler):
    """The plain pickler with the functions of registered classes."""

    dispatch_table = _reducers

    @staticmethod
    def look_around() -> bool:
        """Ask for every class anew: somebody may have told `copyreg` how to reduce one."""
        _reducers.clear()
        return True


class LibraryPickler(pickle.Pickler):
    """The plain pickler with functions for a few classes of packages that have been imported.

    For as long as the user has registered nothing. It knows these few by a plain dictionary, which costs ordinary
    classes next to nothing. What cannot be pickled at all is met by cloudpickle's pickler (`by_value`).
    """

    dispatch_table: dict[type, Callable[[Any], Any]] = {}  # noqa: RUF012 - asked for by the C pickler

    @staticmethod
    def look_around() -> bool:
        """Take note of packages that have been imported meanwhile, and of what `copyreg` knows."""
        table: dict[type, Callable[[Any], Any]] = {}
        done = True
        for toplevel in _PICKLED_ANEW:
            module = sys.modules.get(toplevel)
            if module is None:
                continue
            if getattr(module.__spec__, "_initializing", False):  # its classes may not be there yet
                done = False
                continue
            _register_library(toplevel)
            for cls, known in _known.items():
                if known.pickled is not None and known.pickled is not BY_FUNCTIONS:
                    table[cls] = known.pickled
        table |= copyreg.dispatch_table
        current = LibraryPickler.dispatch_table  # stays the same object, which picklers have
        for cls in current.keys() - table.keys():
            current.pop(cls, None)
        current.update(table)
        _reducers.clear()
        return done
