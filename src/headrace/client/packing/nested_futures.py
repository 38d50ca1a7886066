"""Futures inside nested containers: found, and replaced by their results. Pure functions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from queue import Queue
from typing import Any

from headrace.client.future import Future

#: Stands for the result of a future that erred, where errors are skipped.
SKIPPED: Any = object()

_CONTAINERS = (list, tuple, set, frozenset)


def collect_futures(value: object) -> list[Future[Any]]:
    """The futures in a nested container, in order; each as often as it is there."""
    if type(value) is list and all(type(item) is Future for item in value):
        return value
    found: list[Future[Any]] = []
    _collect(value, found)
    return found


def _collect(value: Any, found: list[Future[Any]]) -> None:
    if isinstance(value, Future):
        found.append(value)
    elif type(value) in _CONTAINERS:
        for item in value:
            _collect(item, found)
    elif type(value) is dict:
        for item in value.values():
            _collect(item, found)


def replace_futures(value: Any, result_of: Callable[[Future[Any]], Any]) -> Any:
    """The same container with results in place of futures; what is `SKIPPED` is left out of it (`None` in tuples)."""
    if isinstance(value, Future):
        return result_of(value)
    kind = type(value)
    if kind is tuple:
        items = [replace_futures(item, result_of) for item in value]
        return tuple([None if item is SKIPPED else item for item in items])
    if kind in _CONTAINERS:
        return kind([new for item in value if (new := replace_futures(item, result_of)) is not SKIPPED])
    if kind is dict:
        return {key: new for key, item in value.items() if (new := replace_futures(item, result_of)) is not SKIPPED}
    return value


def refuse_iterators(values: Iterable[Any]) -> None:
    """Raise the documented error when there is nothing but iterators or queues."""
    values = list(values)
    if values and (
        all(isinstance(value, Queue) for value in values) or all(isinstance(value, Iterator) for value in values)
    ):
        raise TypeError(
            "Dask no longer supports mapping over Iterators or Queues. "
            "Consider using a normal for loop and Client.submit"
        )
