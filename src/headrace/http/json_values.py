"""Values as JSON: whatever users named their workers, resources and metrics, the answer is valid JSON."""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import Mapping, Set
from typing import Any

from headrace.containment import class_name_of, let_pass

#: Containers nested deeper are shown as text.
MAX_DEPTH = 50


def json_value(value: object, depth: int = MAX_DEPTH) -> Any:
    """A value made of what JSON has: numbers that JSON lacks become null, keys become text, other things their `repr`.

    >>> json_value({("x", 0): {1}, 2: float("nan")})
    {"('x', 0)": [1], '2': None}
    """
    if value is None or isinstance(value, bool):
        return value
    try:
        return _converted(value, depth)
    except Exception as raised:  # users' classes may fail in anything
        let_pass(raised)
        return f"<{class_name_of(value)}>"


def _converted(value: object, depth: int) -> Any:
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if depth and isinstance(value, Mapping):
        return {_key(key): json_value(item, depth - 1) for key, item in value.items()}
    if depth and isinstance(value, list | tuple | Set | deque | range):
        return [json_value(item, depth - 1) for item in value]
    if hasattr(value, "__index__"):  # numbers of numpy
        return int(value)
    if hasattr(value, "__float__"):
        number = float(value)
        return number if math.isfinite(number) else None
    return repr(value)


def _key(key: object) -> str:
    return str.__str__(key) if isinstance(key, str) else str(key)


def json_bytes(value: object) -> bytes:
    """A value as a JSON text of ASCII characters."""
    return json.dumps(json_value(value), allow_nan=False).encode()
