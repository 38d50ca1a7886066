"""Classes that users serialize with functions of their own, wherever pickling meets an instance.

`dask_serialize` and `dask_deserialize` take them. Until the first class is registered this module is not in the way of
anything: it is then that the picklers of `pickle` and `by_value` are told of it. No sockets, no families here.
"""

from __future__ import annotations

import copyreg
import pickle
import threading
from collections.abc import Callable
from operator import methodcaller
from typing import Any

from dask.utils import Dispatch, has_keyword

from . import pickling as plain
from .frames import Frame
from .functions import by_value
from .pickling import type_name
from .serialization_context import current_context

#: What is pickled otherwise even if someone registers a base of it, since pickles are made of these.
_NEVER = (type, type(len), type(lambda: None), BaseException)

#: Classes whose reducers are remembered, at most.
_REMEMBERED = 10_000

_reduce_ex: Callable[[Any], Any] = methodcaller("__reduce_ex__", 5)
_state = threading.local()


class Registry(Dispatch):  # type: ignore[misc]
    """Functions by class, for its subclasses too; `register_lazy` takes one that registers once a package is used."""

    def register(self, type: type | tuple[type, ...], func: Callable[..., Any] | None = None) -> Any:
        """Use a function for instances of a class (or of each of a tuple of classes); also as a decorator."""
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
            plain.use_pickler(RegisteredPickler)
            by_value.reduce_registered = reduce_registered


#: Functions that turn an instance into a header (a dictionary of plain values) and frames (bytes-like objects).
dask_serialize = Registry("dask_serialize")
#: Functions that turn header and frames into an instance.
dask_deserialize = Registry("dask_deserialize")
#: The same for objects in the memory of GPUs; used by the family "cuda" only.
cuda_serialize = Dispatch("cuda_serialize")
cuda_deserialize = Dispatch("cuda_deserialize")


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


def reduce_registered(value: object) -> Any:
    """The reduction (as of `__reduce_ex__`) by functions of the class, or `NotImplemented`."""
    return _reduce(value) if _reducers.find(type(value)) is _reduce else NotImplemented


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


class _Reducers(dict[type, Callable[[Any], Any]]):
    """The reducers that the C pickler asks for, once a class: `_reduce` if it has functions, else the usual one."""

    def find(self, kind: type) -> Callable[[Any], Any] | None:
        """The reducer of a class; None leaves it to the pickler."""
        found = self.get(kind)
        if found is None and not issubclass(kind, type):
            has_functions = not issubclass(kind, _NEVER) and dask_serialize.find(kind) is not None
            found = _reduce if has_functions else copyreg.dispatch_table.get(kind, _reduce_ex)
            if len(self) > _REMEMBERED:  # classes may be made by the thousand and thrown away
                self.clear()
            self[kind] = found
        return found

    def __missing__(self, kind: type) -> Callable[[Any], Any]:
        found = self.find(kind)
        if found is None:
            raise KeyError(kind)
        return found


_reducers = _Reducers()


class RegisteredPickler(pickle.Pickler):
    """The plain pickler with the functions of registered classes."""

    dispatch_table = _reducers
