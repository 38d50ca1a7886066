"""Dask's graph nodes to calls: which function, which arguments, what they refer to.

A plain call keeps its function apart from its arguments, so that thousands of tasks share one pickled function;
anything else travels whole, and `headrace.worker.execution.run_spec.run_node` runs it: named here, not imported.
"""

from __future__ import annotations

from typing import Any

from dask._task_spec import Alias, DataNode, Dict, GraphNode, List, Set, Task, TaskRef, Tuple, _identity_cast

from .arguments import SMALL

#: The pickle of `headrace.worker.execution.run_spec.run_node`, by name.
RUN_NODE = b"\x80\x05\x8c\x22headrace.worker.execution.run_spec\x8c\x08run_node\x93."

_CONTAINERS: dict[type, type] = {List: list, Tuple: tuple, Set: set}
_PLAIN_CONTAINERS = frozenset({list, tuple, set, frozenset, dict})
_SCALARS = SMALL | {str, bytes}


class NotPlainError(Exception):
    """This node must be evaluated as a node."""


def call_of(node: GraphNode) -> tuple[Any, tuple[Any, ...], dict[str, Any]] | None:
    """`(function, args, kwargs)` of a node that is a plain call; `None` when it must travel whole.

    Nested nodes stay in the arguments when they refer to something, since the worker then resolves them; without
    references nobody would, so such a node is not a plain call.
    """
    if type(node) is not Task or isinstance(node.func, GraphNode):
        return None
    resolved = bool(node.dependencies)
    args, kwargs = node.args, node.kwargs
    try:
        for value in args:
            if isinstance(value, (GraphNode, TaskRef)):
                args = tuple([argument(value, resolved) for value in args])
                break
        for value in kwargs.values():
            if isinstance(value, (GraphNode, TaskRef)):
                kwargs = {name: argument(value, resolved) for name, value in kwargs.items()}
                break
    except NotPlainError:
        return None
    return node.func, args, kwargs


def argument(value: Any, resolved: bool) -> Any:
    """An argument in its cheapest form: plain containers with references instead of nodes, where that is the same."""
    kind = type(value)
    if kind is Alias:
        return TaskRef(value.target)
    if isinstance(value, TaskRef):
        return value if kind is TaskRef else TaskRef(value.key)
    if not isinstance(value, GraphNode):
        if resolved and kind in _PLAIN_CONTAINERS and holds_nodes(value):
            # a graph as data (that of a fused task, say): the worker must not look for references in there
            raise NotPlainError
        return value
    if kind in _CONTAINERS:
        return _CONTAINERS[kind]([argument(item, resolved) for item in value.args])
    if kind is Task and value.func is _identity_cast and set(value.kwargs) == {"typ"}:
        container = value.kwargs["typ"]
        if container in (list, tuple, set, frozenset):
            return container([argument(item, resolved) for item in value.args])
    if kind is Dict:
        return _dictionary(value, resolved)
    if kind is DataNode and type(value.value) in _SCALARS:
        return value.value
    if not resolved:
        raise NotPlainError
    return value


def holds_nodes(value: Any) -> bool:
    """Whether there are graph nodes or references anywhere in a plain container."""
    kind = type(value)
    if kind is dict:
        return any(map(holds_nodes, value.values()))
    if kind in _PLAIN_CONTAINERS:
        return any(map(holds_nodes, value))
    return isinstance(value, (GraphNode, TaskRef))


def _dictionary(value: Dict, resolved: bool) -> Any:
    items = list(value.args)
    keys = items[::2]
    if any(isinstance(key, (GraphNode, TaskRef)) for key in keys):
        if not resolved:
            raise NotPlainError
        return value
    return dict(zip(keys, [argument(item, resolved) for item in items[1::2]], strict=True))
