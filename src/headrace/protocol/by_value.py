"""cloudpickle, with the functions inside a larger object pickled once per function object.

Fused graphs hold the same `__main__` function thousands of times; pickling its code each time would cost more than
running it.
"""

from __future__ import annotations

import io
import types
from collections.abc import Callable
from typing import Any

import cloudpickle

from .arrow import reduce_file_info
from .pickling import dumps_function, loads_function

#: Set once a class has functions of its own (`registered`): the reduction by these, or `NotImplemented`.
reduce_registered: Callable[[Any], Any] | None = None


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    """Cloudpickle with the functions of registered classes, and of what pyarrow forgot."""

    def reducer_override(self, value: Any) -> Any:
        if reduce_registered is not None:
            reduced = reduce_registered(value)
            if reduced is not NotImplemented:
                return reduced
        reduced = super().reducer_override(value)
        return reduce_file_info(value) if reduced is NotImplemented else reduced


class _ValuePickler(_Pickler):
    """Replaces each function that would go by value with the bytes that `dumps_function` keeps for it."""

    def reducer_override(self, value: Any) -> Any:
        reduced = super().reducer_override(value)
        if reduced is not NotImplemented and type(value) is types.FunctionType:
            return loads_function, (dumps_function(value),)
        return reduced


def cloudpickle_dumps(value: Any, buffer_callback: Any) -> bytes:
    """Pickle by value. A function at the root is pickled whole: it and others may refer to each other."""
    file = io.BytesIO()
    whole = isinstance(value, (types.FunctionType, type))
    kind = _Pickler if whole else _ValuePickler
    kind(file, protocol=5, buffer_callback=buffer_callback).dump(value)
    return file.getvalue()
