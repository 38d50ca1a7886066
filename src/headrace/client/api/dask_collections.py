"""Dask collections on the cluster: `compute`, `persist`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import dask
from dask.base import is_dask_collection

from ..dask_settings import in_force
from ..packing.dask_expressions import Persisting, computing, materialize
from ..packing.retry_options import Retry
from ..packing.task_options import Workers
from .work import WorkMethods, actor_annotations, common_options


class CollectionMethods(WorkMethods):
    """Running collections."""

    def compute(
        self,
        collections: Any,
        sync: bool = False,
        optimize_graph: bool = True,
        workers: Workers = None,
        allow_other_workers: bool = False,
        resources: Mapping[str, float] | None = None,
        retries: int | Retry | Mapping[str, Any] = 0,
        priority: float = 0,
        fifo_timeout: float | str = "60s",
        actors: object = None,
        traverse: bool = True,
        **kwargs: object,
    ) -> Any:
        """Compute collections to one concrete result each.

        Args:
            collections: one, or a list, tuple or set; what is no collection comes back as it is.
            sync: return results instead of futures.
            optimize_graph: simplify the graphs first.
            traverse: look for collections inside lists, sets, tuples, dictionaries and iterators.
            workers, allow_other_workers, resources, retries, priority, fifo_timeout: see `submit`; for all tasks.
            actors: which results live on their workers as actors: True for all, or keys or collections.

        Returns:
            A future for one collection, a list of them for several.

        Raises:
            TypeError: a keyword that there is not; unlike those of `persist` and `get`, to which dask passes what is
                meant for other schedulers.
        """
        if kwargs:
            raise TypeError(f"Client.compute() got an unexpected keyword argument {next(iter(kwargs))!r}")
        several = isinstance(collections, (list, tuple, set, frozenset))
        given = list(collections) if several else [collections]
        if traverse:
            given = [
                dask.delayed(item) if isinstance(item, (list, tuple, set, dict, Iterator)) else item for item in given
            ]
        variables = [item for item in given if is_dask_collection(item)]
        computed: list[Any] = []
        if variables:
            with in_force():
                expression, keys = computing(variables, optimize_graph)
                graph, annotations = materialize(expression)
            common = common_options(workers, allow_other_workers, resources, retries, priority, fifo_timeout)
            futures = self._submit_graph(graph, keys, common, {**annotations, **actor_annotations(actors, keys)})
            computed = [futures[key] for key in keys]
        ordered = iter(computed)
        result: Any = [next(ordered) if is_dask_collection(item) else item for item in given]
        if not several:
            result = result[0]
        return self._whole_client.gather(result) if sync else result

    def persist(
        self,
        collections: Any,
        optimize_graph: bool = True,
        workers: Workers = None,
        allow_other_workers: bool | None = None,
        resources: Mapping[str, float] | None = None,
        retries: int | Retry | Mapping[str, Any] | None = None,
        priority: float = 0,
        fifo_timeout: float | str = "60s",
        actors: object = None,
        **kwargs: object,
    ) -> Any:
        """Compute collections and keep their parts on the cluster.

        Args:
            collections: one, or a list, tuple or set.
            optimize_graph: simplify the graphs first.
            workers, allow_other_workers, resources, retries, priority, fifo_timeout: see `submit`; for all tasks.
            actors: which results live on their workers as actors: True for all, or keys or collections.

        Returns:
            Collections (one, or a list) of the same kind, whose graphs are futures.

        Raises:
            TypeError: something in it is no dask collection.
        """
        several = isinstance(collections, (list, tuple, set, frozenset))
        given = list(collections) if several else [collections]
        strange = [item for item in given if not is_dask_collection(item)]
        if strange:
            raise TypeError(f"persist needs dask collections, not {type(strange[0]).__qualname__}")
        if not given:
            return []
        with in_force():
            persisting = Persisting(given, optimize_graph)
            graph, annotations = materialize(persisting.expression)
        common = common_options(workers, allow_other_workers, resources, retries, priority, fifo_timeout)
        annotations = {**annotations, **actor_annotations(actors, persisting.keys)}
        futures = self._submit_graph(graph, persisting.keys, common, annotations)
        result = persisting.rebuild(futures)
        return result if several else result[0]

    def normalize_collection(self, collection: Any) -> Any:
        """The collection with those of its tasks replaced by futures that this client has futures for."""
        from headrace.common.keys import to_wire

        from ..future import Future

        known = self.held.core.futures
        graph, _ = materialize(collection.__dask_graph__())
        changed: dict[Any, Any] = {
            key: Future(key, self)  # type: ignore[arg-type]
            for key in graph
            if not isinstance(graph[key], Future) and to_wire(key) in known
        }
        if not changed:
            return collection
        rebuild, state = collection.__dask_postpersist__()
        return rebuild({**graph, **changed}, *state)
