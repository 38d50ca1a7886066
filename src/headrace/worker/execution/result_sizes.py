"""The size and the type's name of a result, in the thread that computed it.

The common cases are answered without importing dask, which takes a tenth of a second; all others by `dask.sizeof`.
"""

from __future__ import annotations

import sys
from typing import Any

from headrace.containment import class_name_of, let_pass

_getsizeof = sys.getsizeof
#: Types that refer to nothing else.
_PLAIN = frozenset({int, float, bool, complex, str, type(None)})
_SEQUENCES = frozenset({list, tuple, set, frozenset})
#: Containers up to this length are looked through completely, as `dask.sizeof` does; longer ones it samples.
_SMALL = 10
#: Size that stands for that of an object whose own size cannot be found.
UNKNOWN = 1_000_000

_type_names: dict[type, str] = {}


def nbytes_of(value: object) -> int:
    """Bytes that a value takes in memory, as `dask.sizeof` sees it; never raises."""
    try:
        if type(value) in _PLAIN:
            return _getsizeof(value)
        return _nbytes_of(value)
    except BaseException as raised:  # lists in lists in lists …; or the value's class fails
        let_pass(raised)
        return UNKNOWN


def _nbytes_of(value: Any) -> int:
    kind = type(value)
    if kind in _PLAIN:
        return _getsizeof(value)
    if kind is bytes or kind is bytearray:
        return len(value)
    if kind in _SEQUENCES and len(value) <= _SMALL:
        total = _getsizeof(value)
        for item in value:
            total += _nbytes_of(item)
        return total
    if kind.__module__ == "numpy" and kind.__name__ == "ndarray" and value.dtype.kind != "O" and 0 not in value.strides:
        return int(value.nbytes)
    return _sizeof(value)


def _sizeof(value: object) -> int:
    try:
        from dask.sizeof import sizeof

        return max(0, int(sizeof(value)))
    except BaseException as raised:  # a class of the user's with a faulty __sizeof__ does not fail its task
        let_pass(raised)
        return UNKNOWN


def type_name_of(value: object) -> str:
    """The name of a value's type, with its module unless that is `builtins`."""
    kind = type(value)
    try:
        name = _type_names.get(kind)
    except BaseException as raised:  # its metaclass fails
        let_pass(raised)
        return class_name_of(value)
    if name is None:
        name = class_name_of(value)
        if len(_type_names) > 10_000:
            _type_names.clear()
        _type_names[kind] = name
    return name
