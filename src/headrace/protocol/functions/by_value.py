"""cloudpickle, with the functions inside a larger object pickled once per function object.

Fused graphs hold the same `__main__` function thousands of times; pickling its code each time would cost more than
running it.
"""

from __future__ import annotations

import functools
import io
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any

import cloudpickle

from headrace.common.importing import import_from_outside
from headrace.protocol.frames import BufferCallback
from headrace.protocol.libraries.arrow import reduce_file_info

from .by_reference import has_lost_its_name, is_by_reference, replaced_modules
from .classes import note_pickled, set_changed_class_state, set_class_state
from .code import scan
from .shareable import dumps_function, loads_function
from .snapshots import CACHED_FUNCTION, SLOT_NAMES, attributes_of

#: The code of all functions that `functools.singledispatch` makes.
_DISPATCHER: types.CodeType = getattr(functools.singledispatch(len), "__code__")  # noqa: B009 - mypy does not know it

#: Set once a class may have functions of its own (`registered`): by class, what reduces its instances, or None.
registered: Mapping[type, Callable[[Any], Any] | None] | None = None


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    """Cloudpickle with the functions of registered classes, and of what pyarrow forgot."""

    #: whether a function that was pickled so far sets attributes of others than `self`
    _changes = False

    def reducer_override(self, value: Any) -> Any:
        if registered is not None:
            special = registered[type(value)]
            if special is not None:
                return special(value)
        if type(value) is CACHED_FUNCTION:
            return NotImplemented if is_by_reference(value) else self._reduce_cached(value)
        if type(value) is types.FunctionType and value.__code__ is _DISPATCHER and not is_by_reference(value):
            return _reduce_dispatcher(value)
        reduce = _REDUCERS.get(type(value))
        if reduce is not None and not is_by_reference(value):
            return reduce(value)
        if replaced_modules and isinstance(value, (types.FunctionType, type)) and has_lost_its_name(value):
            return find_named, (value.__module__, value.__qualname__)
        reduced = super().reducer_override(value)
        if reduced is NotImplemented:
            return reduce_file_info(value)
        if type(value) is types.FunctionType:
            self._changes = self._changes or scan(value.__code__).stores_elsewhere
            _complete(value, reduced[2][1]["__globals__"])
        elif len(reduced) == 6 and issubclass(type(value), type):
            reduced[2][0].pop(SLOT_NAMES, None)
            note_pickled(value)
            self._changes = self._changes or any(
                type(item) is types.FunctionType and scan(item.__code__).stores_elsewhere
                for item in vars(value).values()
            )
            return (*reduced[:5], set_changed_class_state if self._changes else set_class_state)
        return reduced

    def _reduce_cached(self, value: Any) -> Any:
        """Reduce a function in a `functools.lru_cache`, which pickle knows by name only, without what is cached.

        The function may name the cached one, so that it has to exist before what it holds is loaded.
        """
        function, parameters = value.__wrapped__, value.cache_parameters()
        reduced = super().reducer_override(function)
        if reduced is NotImplemented:
            return rebuild_cached, (parameters, function), _attributes_of(value)
        make, arguments, state, _, _, set_state = reduced
        return (
            rebuild_cached,
            (parameters, make, arguments),
            (_attributes_of(value), set_state, state),
            None,
            None,
            _fill,
        )


class _ValuePickler(_Pickler):
    """Replaces each function that would go by value with the bytes kept for it.

    Raises:
        _ChangesError: a function may change what others name, too: a global, or an attribute of another function.
    """

    def reducer_override(self, value: Any) -> Any:
        if type(value) is types.FunctionType and not is_by_reference(value):
            pickled = dumps_function.shareable(value)
            if pickled is not None:
                return loads_function, (pickled, True)
            found = scan(value.__code__)
            if found.rebinds or found.stores_elsewhere:
                raise _ChangesError
        return super().reducer_override(value)


class _ChangesError(Exception):
    """The functions of a value have to be pickled along with it."""


def _complete(function: types.FunctionType, found: dict[str, Any]) -> None:
    """Add the globals that cloudpickle does not see: those that the bodies of classes in the function refer to."""
    scope = function.__globals__
    for name in scan(function.__code__).globals:
        if name not in found and name in scope:
            found[name] = scope[name]


def _reduce_cached_property(value: functools.cached_property[Any]) -> Any:
    """Reduce a `functools.cached_property`, which has a lock in some Pythons."""
    return functools.cached_property, (value.func,), {"attrname": value.attrname, "__doc__": value.__doc__}


def _reduce_new_type(value: Any) -> Any:
    """Reduce a `typing.NewType`, which pickle knows by name only."""
    state = {"__module__": value.__module__, "__qualname__": value.__qualname__}
    return typing.NewType, (value.__name__, value.__supertype__), state


def _reduce_type_alias(value: Any) -> Any:
    """Reduce the alias of a `type` statement, which pickle knows by name only."""
    return rebuild_type_alias, (value.__name__, value.__value__, value.__type_params__)


def rebuild_type_alias(name: str, value: object, parameters: tuple[Any, ...]) -> object:
    """A `typing.TypeAliasType`."""
    return getattr(typing, "TypeAliasType")(name, value, type_params=parameters)  # noqa: B009 - not in older Pythons


_REDUCERS: dict[type, Callable[[Any], Any]] = {
    functools.cached_property: _reduce_cached_property,
    typing.NewType: _reduce_new_type,
}
if hasattr(typing, "TypeAliasType"):
    _REDUCERS[typing.TypeAliasType] = _reduce_type_alias


def _reduce_dispatcher(value: Any) -> Any:
    """Reduce a `functools.singledispatch`, whose cache of weak references cannot be pickled.

    The functions that it chooses from may name it, so that it has to exist before they are loaded.
    """
    attributes = {name: item for name, item in value.__dict__.items() if name not in _MADE_BY_SINGLEDISPATCH}
    attributes |= {name: getattr(value, name) for name in functools.WRAPPER_ASSIGNMENTS}
    return rebuild_dispatcher, (), (dict(value.registry), attributes), None, None, _register


#: The attributes of such a function that belong to its closure.
_MADE_BY_SINGLEDISPATCH = frozenset(vars(functools.singledispatch(lambda value: value))) - {"__wrapped__"}


def rebuild_dispatcher() -> Any:
    """A `functools.singledispatch` that knows no functions yet."""
    return functools.singledispatch(lambda value: value)


def _register(dispatcher: Any, state: tuple[dict[type, Any], dict[str, Any]]) -> None:
    functions, attributes = state
    for kind, function in functions.items():
        dispatcher.register(kind, function)
    for name, item in attributes.items():
        setattr(dispatcher, name, item)


def find_named(module_name: str, qualified_name: str) -> Any:
    """Find a function or class by its module and qualified name; named in pickles."""
    return functools.reduce(getattr, qualified_name.split("."), import_from_outside(module_name))


def rebuild_cached(parameters: dict[str, Any], function: Any, arguments: tuple[Any, ...] | None = None) -> Any:
    """A function in a cache like that of `functools.lru_cache`.

    Args:
        parameters: the cache's `maxsize` and `typed`.
        function: the function; with `arguments`, what makes it of them.
    """
    return functools.lru_cache(**parameters)(function if arguments is None else function(*arguments))


def _fill(cached: Any, state: tuple[dict[str, Any], Any, Any]) -> None:
    attributes, set_state, function_state = state
    set_state(cached.__wrapped__, function_state)
    functools.update_wrapper(cached, cached.__wrapped__)
    cached.__dict__.update(attributes)


def _attributes_of(cached: Any) -> dict[str, Any]:
    return {name: value for name, value in attributes_of(cached).items() if name != "__wrapped__"}


def cloudpickle_dumps(
    value: object, buffer_callback: BufferCallback | None, forget_buffers: Callable[[], object] | None = None
) -> bytes:
    """Pickle by value. A function at the root is pickled whole: it and others may refer to each other.

    Args:
        forget_buffers: called when all is pickled once more from the start, if `buffer_callback` keeps anything.
    """
    if not isinstance(value, (types.FunctionType, type)) and (buffer_callback is None or forget_buffers is not None):
        try:
            return _dump(_ValuePickler, value, buffer_callback)
        except _ChangesError:
            if forget_buffers is not None:
                forget_buffers()
    return _dump(_Pickler, value, buffer_callback)


def _dump(kind: type[_Pickler], value: object, buffer_callback: BufferCallback | None) -> bytes:
    file = io.BytesIO()
    kind(file, protocol=5, buffer_callback=buffer_callback).dump(value)
    return file.getvalue()
