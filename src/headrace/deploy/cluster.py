"""What all clusters share: their loop, synchronous and asynchronous use, waiting for workers, and the end.

Knows nothing of how a scheduler or a worker is started.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import logging
import os
import uuid
import weakref
from collections.abc import Callable, Coroutine, Generator, Iterable
from inspect import isawaitable
from types import TracebackType
from typing import Any, Self

from dask.utils import format_bytes

from headrace.common.status import Status
from headrace.config import parse_seconds
from headrace.exceptions import WorkerStartTimeoutError
from headrace.rpc import IOLoop, LoopRunner, sync

logger = logging.getLogger("distributed.deploy.cluster")

#: Seconds between two looks at the number of workers, while somebody waits for them.
_LOOK_INTERVAL = 0.005
#: Seconds that the clusters left open at the end of the process get to close.
_EXIT_TIMEOUT = 10

_open: weakref.WeakSet[Cluster] = weakref.WeakSet()


class Cluster:
    """Base of all clusters; subclasses start things in `_start` and stop them in `_close`.

    Args:
        asynchronous: whether the user is on the event loop and awaits.
        loop: an asyncio loop, or anything with `.asyncio_loop`; by default the background loop of this process.
        quiet, scheduler_sync_interval: accepted for compatibility.
        name: of the cluster; random by default.

    Attributes:
        status: its life, as a `Status`.
        scheduler: the Scheduler, when it is in this process.
        security: of connections to the scheduler.
    """

    _supports_scaling = False

    def __init__(
        self,
        asynchronous: bool = False,
        loop: Any = None,
        quiet: bool = False,
        name: str | None = None,
        scheduler_sync_interval: Any = 1,
    ) -> None:
        self.name = name or uuid.uuid4().hex[:8]
        self.quiet = quiet
        self.status = Status.created
        self.scheduler: Any = None
        self.security: Any = None
        self._asynchronous = asynchronous
        self._runner: LoopRunner | None = None
        if not asynchronous or loop is not None or _running_loop() is not None:
            self._runner = LoopRunner(loop=loop, asynchronous=asynchronous)
        self._client: Any = None
        #: whether this process was forked from the one whose cluster this is
        self._inherited = False
        self._starting: asyncio.Future[None] | None = None
        self._closing: asyncio.Future[None] | None = None

    # Loops

    @property
    def loop(self) -> IOLoop:
        """The loop on which the cluster lives."""
        if self._runner is None:
            self._runner = LoopRunner(asynchronous=True)
        return self._runner.loop

    @property
    def asynchronous(self) -> bool:
        """Whether methods return awaitables here: the user said so, or calls from the cluster's own loop."""
        return self._asynchronous or self.called_from_running_loop

    @property
    def called_from_running_loop(self) -> bool:
        running = _running_loop()
        if running is None or self._runner is None:
            return False
        try:
            return self._runner.loop.asyncio_loop is running
        except RuntimeError:  # there is no loop before the start
            return False

    def sync(
        self,
        func: Callable[..., Any],
        *args: Any,
        asynchronous: bool | None = None,
        callback_timeout: float | str | None = None,
        **kwargs: Any,
    ) -> Any:
        """Run a coroutine function on the cluster's loop and return its result; an awaitable when asynchronous."""
        if asynchronous or (asynchronous is None and self.asynchronous):
            work = func(*args, **kwargs)
            if callback_timeout is not None:
                return asyncio.wait_for(work, parse_seconds(callback_timeout))
            return work
        return sync(self.loop, func, *args, callback_timeout=callback_timeout, **kwargs)

    # Life

    async def _start(self) -> None:
        """Start scheduler and workers; a subclass extends it."""

    async def _close(self) -> None:
        """Stop them; a subclass extends it. Called once, also when `_start` failed in the middle."""

    async def _started(self) -> Self:
        """Start once, whoever asks; a failure closes what was started and is raised to all."""
        if self._starting is None:
            self._starting = asyncio.ensure_future(self._start_or_close())
        await asyncio.shield(self._starting)
        if self.status is not Status.running:
            raise RuntimeError(f"{type(self).__name__} is {self.status.name}; make a new one")
        return self

    async def _start_or_close(self) -> None:
        self.status = Status.starting
        _open.add(self)
        try:
            await self._start()
        except BaseException:
            with contextlib.suppress(Exception):
                await self._closed()
            self.status = Status.failed
            raise
        if self.status is Status.starting:
            self.status = Status.running

    async def _closed(self) -> None:
        """Stop once, whoever asks."""
        if self._closing is None:
            self._closing = asyncio.ensure_future(self._close_all())
        await asyncio.shield(self._closing)

    async def _close_all(self) -> None:
        self.status = Status.closing
        try:
            if self._client is not None:
                result = self._client.close()
                if isawaitable(result):
                    await result
            await self._close()
        finally:
            self.status = Status.closed
            _open.discard(self)

    def _start_sync(self) -> None:
        """Start from the user's thread; the loop is given back if that fails."""
        assert self._runner is not None
        self._runner.start()
        try:
            self.sync(self._started)
        except BaseException:
            self._stop_sync(None)
            raise

    def _stop_sync(self, timeout: float | str | None) -> None:
        assert self._runner is not None
        if not self._runner.is_started():
            return
        if self._client is not None:
            self._client.close()
            self._client = None
        try:
            sync(self.loop, self._closed, callback_timeout=timeout)
        finally:
            self._runner.stop()

    def close(self, timeout: float | str | None = None) -> Any:
        """Stop the workers and the scheduler. Safe to call again.

        Args:
            timeout: seconds, or text such as "5s", after which to give up.

        Raises:
            TimeoutError: the timeout is over.
        """
        if self._inherited:
            return None
        if self.asynchronous:
            closing = self._closed()
            return closing if timeout is None else asyncio.wait_for(closing, parse_seconds(timeout))
        return self._stop_sync(timeout)

    def __await__(self) -> Generator[Any, Any, Self]:
        return self._started().__await__()

    async def __aenter__(self) -> Self:
        return await self._started()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._closed()

    def __enter__(self) -> Self:
        if self._asynchronous:
            raise TypeError("this cluster is asynchronous: use 'async with' instead of 'with'")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # What there is

    @property
    def scheduler_address(self) -> str:
        """Where the scheduler is reached; "<Not Connected>" before it runs."""
        return "<Not Connected>" if self.scheduler is None else str(self.scheduler.address)

    @property
    def scheduler_info(self) -> dict[str, Any]:
        """What the scheduler says of itself and its workers."""
        return dict(self.scheduler.identity()) if self.scheduler is not None else {"workers": {}}

    @property
    def observed(self) -> set[Any]:
        """Names of the workers that the scheduler has now."""
        return {worker["name"] for worker in self.scheduler_info["workers"].values()}

    @property
    def requested(self) -> set[Any]:
        """Names of the workers that were started."""
        return self.observed

    @property
    def plan(self) -> set[Any]:
        """Names of the workers that there shall be."""
        return self.requested

    @property
    def dashboard_link(self) -> str:
        """Where the dashboard is; empty, as there is none."""
        return ""

    def get_client(self) -> Any:
        """A client of this cluster, the same at each call while it is open; it is closed with the cluster."""
        from headrace.client import Client

        if self._client is None or self._client.status == "closed":
            self._client = Client(self, asynchronous=self.asynchronous, set_as_default=False)
        return self._client

    def wait_for_workers(self, n_workers: int, timeout: float | str | None = None) -> Any:
        """Wait until the scheduler has that many running workers.

        Raises:
            TimeoutError: there are fewer after `timeout` (seconds, or text such as "10s").
            ValueError: `n_workers` is no positive number.
        """
        if not isinstance(n_workers, int) or n_workers < 1:
            raise ValueError(f"n_workers must be a positive integer, not {n_workers!r}")
        return self.sync(self._wait_for_workers, n_workers, None if timeout is None else parse_seconds(timeout))

    async def _wait_for_workers(self, n_workers: int, timeout: float | None) -> None:
        loop = asyncio.get_running_loop()
        deadline = None if timeout is None else loop.time() + timeout
        while (available := self._count_running()) < n_workers:
            if deadline is not None and loop.time() > deadline:
                assert timeout is not None
                raise WorkerStartTimeoutError(available, n_workers, timeout)
            await asyncio.sleep(_LOOK_INTERVAL)

    def _count_running(self) -> int:
        workers = self.scheduler_info["workers"].values()
        return sum(worker.get("status", "running") == "running" for worker in workers)

    def scale(self, n: int) -> Any:
        """Have that many workers.

        Raises:
            NotImplementedError: this kind of cluster has a fixed size.
        """
        raise NotImplementedError(f"{type(self).__name__} cannot be scaled")

    def __repr__(self) -> str:
        workers: Iterable[dict[str, Any]] = self.scheduler_info["workers"].values() if self._is_up() else ()
        workers = list(workers)
        threads = sum(worker["nthreads"] for worker in workers)
        memory = sum(worker["memory_limit"] or 0 for worker in workers)
        text = f"{type(self).__name__}({self.name}, {self.scheduler_address!r}, workers={len(workers)}"
        text += f", threads={threads}"
        return f"{text}, memory={format_bytes(memory)})" if memory else f"{text})"

    def _is_up(self) -> bool:
        return self.scheduler is not None and self.status in (Status.starting, Status.running)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def close_clusters() -> None:
    """Close what a script left open, so that no worker outlives it."""
    for cluster in list(_open):
        if cluster._asynchronous or cluster._runner is None or not cluster._runner.is_started():
            continue
        try:
            cluster.close(timeout=_EXIT_TIMEOUT)
        except Exception:
            logger.warning("Could not close %r at exit", cluster.name, exc_info=True)


atexit.register(close_clusters)


def _after_fork() -> None:
    """A forked child must leave its parent's clusters alone."""
    for cluster in list(_open):
        cluster._inherited = True
    _open.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


async def gather_or_cancel(work: Iterable[Coroutine[Any, Any, Any]]) -> list[Any]:
    """The results of all, or the first error once all others have ended: none is left running."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        return await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise


def silence(level: int | None) -> Callable[[], None]:
    """Raise the level of the loggers `distributed` and `headrace`; returns what puts the old ones back."""
    if not level:
        return lambda: None
    loggers = [logging.getLogger(name) for name in ("distributed", "headrace")]
    before = [one.level for one in loggers]
    for one in loggers:
        if one.level < level:
            one.setLevel(level)

    def restore() -> None:
        for one, old in zip(loggers, before, strict=True):
            one.setLevel(old)

    return restore
