"""Finds what inside a value cannot be pickled, so that an error can name it. Only used once pickling has failed."""

from __future__ import annotations

import contextlib
import threading
import types
from collections.abc import Iterator
from typing import Any

from headrace.containment import let_pass

#: How deep it looks.
_MAX_DEPTH = 10
#: How many parts of one container or object it tries.
_MAX_PARTS = 1000

_describing = threading.local()


def describe_culprit(value: object) -> str:
    """Tell which part of a value cannot be pickled, and its type, to be put after the value's type; may be empty.

    >>> import threading
    >>> describe_culprit({"x": [1, threading.Lock()]})
    " (['x'] is a list, ['x'][1] is a _thread.lock)"
    """
    if getattr(_describing, "now", False):  # a part that describes its own parts when it is pickled: no end of it
        return ""
    _describing.now = True
    try:
        return _describe(value)
    except BaseException as raised:  # the value's parts, or their names, fail
        let_pass(raised)
        return ""
    finally:
        _describing.now = False


def _describe(value: object) -> str:
    path = ""
    steps: list[str] = []
    part = value
    for _ in range(_MAX_DEPTH):
        found = next((found for found in _parts(part) if not _can_be_pickled(found[1])), None)
        if found is None:
            break
        path += found[0]
        part = found[1]
        steps.append(f"{path.lstrip('.')} is {_name(part)}")
    own = f"{value.__module__}.{value.__qualname__}" if isinstance(value, (types.FunctionType, type)) else ""
    text = ", ".join(steps[-2:])  # a container or an object says more with what is in it that fails
    return f" ({own}{': ' if own and text else ''}{text})" if own or text else ""


def _name(value: object) -> str:
    from .pickling import type_name

    if isinstance(value, (types.FunctionType, type)):
        return f"the {type(value).__name__} {value.__module__}.{value.__qualname__}"
    return f"a {type_name(value)}"


def _parts(value: Any) -> Iterator[tuple[str, object]]:
    """The parts of a value, each with how to get there from it."""
    parts: Iterator[tuple[str, object]]
    kind = type(value)
    if kind in (list, tuple):
        parts = ((f"[{index}]", item) for index, item in enumerate(value))
    elif kind in (set, frozenset):
        parts = ((f"{{{_name(item)}}}", item) for item in value)
    elif kind is dict:
        parts = ((f"[{key!r}]", item) for key, item in value.items())
    elif isinstance(value, types.FunctionType):
        parts = ((f"variable {name!r}", item) for name, item in _variables(value))
    elif isinstance(value, type):
        return
    else:
        parts = ((f".{name}", item) for name, item in _state(value).items())
    for _, part in zip(range(_MAX_PARTS), parts, strict=False):
        yield part


def _state(value: object) -> dict[str, object]:
    """The attributes that an object is pickled by; none if it says itself how it is pickled, or refuses."""
    kind = type(value)
    if any("__reduce__" in vars(base) or "__reduce_ex__" in vars(base) for base in kind.__mro__[:-1]):
        return {}
    get_state = getattr(kind, "__getstate__", None)
    try:
        if get_state is None or get_state is getattr(object, "__getstate__", None):
            state = getattr(value, "__dict__", None)
        else:
            state = get_state(value)
    except BaseException as raised:
        let_pass(raised)
        return {}
    return state if isinstance(state, dict) else {}


def _variables(function: types.FunctionType) -> Iterator[tuple[str, object]]:
    """The variables that a function pickled by value takes along: those it closes over, and the globals it names."""
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=False):
        with contextlib.suppress(ValueError):  # not assigned yet
            yield name, cell.cell_contents
    for name in function.__code__.co_names:
        if name in function.__globals__:
            yield name, function.__globals__[name]


def _can_be_pickled(value: object) -> bool:
    from .functions.by_value import cloudpickle_dumps

    try:
        cloudpickle_dumps(value, lambda _: False)
    except BaseException as raised:
        let_pass(raised)
        return False
    return True
