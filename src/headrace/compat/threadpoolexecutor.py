"""`distributed.threadpoolexecutor`: threads that a function may leave while it runs, by `secede` and `rejoin`."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Executor, Future
from functools import partial
from typing import Any, ParamSpec, TypeVar

from headrace.worker import rejoin, secede
from headrace.worker.execution.threads import LeavablePool

P = ParamSpec("P")
T = TypeVar("T")


class ThreadPoolExecutor(Executor):
    """Runs functions in threads; one that calls `secede` makes room for another, and `rejoin` brings it back.

    Args:
        max_workers: threads; as many as CPUs and 4, at most 32, by default.
        thread_name_prefix: of the threads.
        initializer, initargs: called in each new thread.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._options(*args, **kwargs)

    def _options(
        self,
        max_workers: int | None = None,
        thread_name_prefix: str = "ThreadPoolExecutor",
        initializer: Callable[..., Any] | None = None,
        initargs: tuple[Any, ...] = (),
    ) -> None:
        count = min(32, (os.cpu_count() or 1) + 4) if max_workers is None else max_workers
        if count <= 0:
            raise ValueError(f"max_workers must be greater than 0, not {count}")

        begin = None if initializer is None else partial(initializer, *initargs)
        self._tasks = LeavablePool(count, _nothing, thread_name_prefix, begin)
        self._max_workers = count

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Call a function in a free thread.

        Raises:
            RuntimeError: the executor is shut down.
        """
        return self._tasks.submit(fn, *args, **kwargs)

    def shutdown(self, wait: bool = True, timeout: float | None = None, *, cancel_futures: bool = False) -> None:
        """End the threads after what is queued.

        Args:
            wait: for their end, `timeout` seconds each at most.
            cancel_futures: cancel what has not begun.
        """
        self._tasks.shutdown(wait, cancel_futures=cancel_futures, timeout=timeout)


def _nothing(item: object) -> None:
    """Only functions are submitted."""


__all__ = ["ThreadPoolExecutor", "rejoin", "secede"]
