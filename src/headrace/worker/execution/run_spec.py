"""Turns a task's arguments into what its function is called with: references become values.

Runs in the threads of a worker. Imports dask only if the arguments have brought it in.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from headrace.common.keys import from_wire


def run_node(node: Any) -> Any:
    """The function under which a graph node travels that is not a plain call.

    By the time it is called the worker has replaced the node by what it evaluates to, unless the task has no
    dependencies.
    """
    spec = sys.modules.get("dask._task_spec")
    if spec is not None and isinstance(node, spec.GraphNode):
        return node()
    return node


def by_user_key(data: Mapping[Any, Any]) -> dict[Any, Any]:
    """Values by the keys that the user knows."""
    return {from_wire(key): value for key, value in data.items()}


def resolve(argument: Any, values: Mapping[Any, Any]) -> Any:
    """An argument with every reference in it replaced by its value.

    Args:
        argument: looked through where it is a list, tuple, set, dictionary or graph node; containers without
            references come back as they are.
        values: by user's key.
    """
    spec = sys.modules.get("dask._task_spec")
    if spec is None:  # nothing can refer to anything
        return argument
    return _resolve(argument, values, spec.TaskRef, spec.GraphNode)


def _resolve(argument: Any, values: Mapping[Any, Any], reference: type, node: type) -> Any:
    kind = type(argument)
    if kind is list:
        return [_resolve(item, values, reference, node) for item in argument]
    if kind is tuple:
        return tuple([_resolve(item, values, reference, node) for item in argument])
    if kind is dict:
        return {key: _resolve(item, values, reference, node) for key, item in argument.items()}
    if kind is set or kind is frozenset:
        return kind([_resolve(item, values, reference, node) for item in argument])
    if isinstance(argument, reference):  # Futures are references too, and stay futures unless the task depends on them
        key = argument.key  # type: ignore[attr-defined]
        return values[key] if kind is reference or key in values else argument
    if isinstance(argument, node):
        return argument(values)  # type: ignore[operator]
    if isinstance(argument, tuple) and hasattr(argument, "_fields"):
        return kind(*[_resolve(item, values, reference, node) for item in argument])
    return argument
