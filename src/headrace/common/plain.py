"""Values as plain data that any file format can hold, for dumps of a cluster's state."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Set
from typing import Any

#: The integers that msgpack can carry.
_SMALLEST, _LARGEST = -(2**63), 2**64 - 1
#: Containers nested deeper are shown as text.
MAX_DEPTH = 50


def plain(value: Any, depth: int = MAX_DEPTH) -> Any:
    """A value as text, number, None, or lists and dictionaries of these; anything else becomes its `repr`.

    >>> plain({("x", 0): {1}, "y": range(2)})
    {"('x', 0)": [1], 'y': [0, 1]}
    """
    kind = type(value)
    if value is None or kind is str or kind is float or kind is bool:
        return value
    if kind is int:
        return value if _SMALLEST <= value <= _LARGEST else str(value)
    if depth and isinstance(value, Mapping):
        return {key if type(key) is str else str(key): plain(item, depth - 1) for key, item in value.items()}
    if depth and isinstance(value, (list, tuple, Set, deque, range)):
        return [plain(item, depth - 1) for item in value]
    return repr(value)


def attributes(record: object, names: Iterable[str], exclude: Iterable[str] = ()) -> dict[str, Any]:
    """Some attributes of a record as plain data."""
    left_out = frozenset(exclude)
    return {name: plain(getattr(record, name)) for name in names if name not in left_out}
