"""Collections and expressions to graphs, as `dask.compute` and `dask.persist` make them. No client here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dask._expr import Expr, FinalizeCompute
from dask.base import collections_to_expr
from dask.core import flatten
from dask.highlevelgraph import HighLevelGraph
from dask.utils import ensure_dict


def materialize(dsk: object) -> tuple[Mapping[Any, Any], dict[str, dict[Any, Any]]]:
    """The low-level graph, and its annotations as `{name: {key: value}}`.

    Args:
        dsk: an (optimized) expression, a high-level graph, or a mapping.

    Raises:
        TypeError: none of these.
    """
    if isinstance(dsk, Expr):
        # some optimizations of annotations happen while the graph is made
        graph = dsk.__dask_graph__()
        return ensure_dict(graph), dict(dsk.__dask_annotations__())
    if isinstance(dsk, HighLevelGraph):
        annotations: dict[str, dict[Any, Any]] = {}
        for layer in dsk.layers.values():
            for name, value in (layer.annotations or {}).items():
                values = annotations.setdefault(name, {})
                values.update({key: value(key) if callable(value) else value for key in layer})
        return ensure_dict(dsk), annotations
    if isinstance(dsk, Mapping):
        return dsk, {}
    raise TypeError(f"a dask graph is a mapping or an expression, not a {type(dsk).__qualname__}")


def computing(collections: Sequence[Any], optimize_graph: bool) -> tuple[Any, list[Any]]:
    """The expression that computes collections, and the key of each one's result."""
    expression = FinalizeCompute(collections_to_expr(collections, optimize_graph)).optimize()
    return expression, list(flatten(expression.__dask_keys__()))


class Persisting:
    """An expression whose results replace collections' graphs.

    Attributes:
        expression: what to compute.
        keys: all keys of the results.
    """

    def __init__(self, collections: Sequence[Any], optimize_graph: bool) -> None:
        from dask._expr import CompositeExpr, _ExprSequence

        expression = collections_to_expr(collections, optimize_graph)
        parts = list(expression.operands) if isinstance(expression, _ExprSequence) else [expression]
        composite = any(isinstance(part, CompositeExpr) for part in parts)
        self.expression = expression = expression.optimize()
        if composite and isinstance(expression, _ExprSequence):
            parts = list(expression.operands)
        elif not composite or len(parts) != len(collections):
            parts = [None] * len(collections)
        self.keys: list[Any] = []
        self._rebuilders: list[Any] = []
        for collection, part, nested in zip(collections, parts, expression.__dask_keys__(), strict=True):
            keys = list(flatten(nested))
            self.keys += keys
            if isinstance(part, CompositeExpr):
                self._rebuilders.append((collection, part, None))
            else:
                rebuild, state = collection.__dask_postpersist__()
                self._rebuilders.append((rebuild, keys, state))

    def rebuild(self, results: Mapping[Any, Any]) -> list[Any]:
        """The collections again, on top of the results (futures) by key."""
        from dask.base import _rebuild_composite_collection

        rebuilt = []
        for rebuild, keys, state in self._rebuilders:
            if state is None:
                rebuilt.append(_rebuild_composite_collection(rebuild, keys, results, cull_to_child_keys=True))
            else:
                rebuilt.append(rebuild({key: results[key] for key in keys}, *state))
        return rebuilt
