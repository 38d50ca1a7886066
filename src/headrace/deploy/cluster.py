"""The base of all clusters: their loop, synchronous and asynchronous use, waiting for workers, and closing.

Knows nothing of how a scheduler or a worker is started.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import logging
import os
import time
import uuid
import weakref
from collections.abc import Callable, Coroutine, Generator, Iterable
from inspect import isawaitable
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Self

from dask.utils import format_bytes

from headrace.common.display.notebook import is_kernel, widgets_module
from headrace.common.status import Status
from headrace.config import parse_seconds
from headrace.exceptions import WorkerStartTimeoutError
from headrace.rpc import IOLoop, LoopRunner, PeriodicCallback, rpc, sync
from headrace.rpc.dashboard_links import link_of
from headrace.rpc.loops.sync_methods import SyncMethodMixin
from headrace.security import Security

from .cluster_card import cluster_html
from .foldable_logs import Logs, as_log
from .link import LocalLink
from .worker_news import LocalNews, RemoteNews

if TYPE_CHECKING:
    from headrace.client import Client

    from .adaptive import Adaptive
    from .widget import ClusterWidget

logger = logging.getLogger("distributed.deploy.cluster")

#: Seconds between two looks at the number of workers, while a caller waits for them.
_LOOK_INTERVAL = 0.005
#: Seconds between two looks where each is a request to another process.
_REMOTE_LOOK_INTERVAL = 0.05
#: Seconds that each cluster left open at the end of the process gets to close.
_EXIT_TIMEOUT = 10
#: Lines about its own actions that a cluster keeps for `get_logs`.
_LOG_LINES = 1000

_open: weakref.WeakSet[Cluster] = weakref.WeakSet()


class Cluster(SyncMethodMixin):
    """Base of all clusters; subclasses start things in `_start` and stop them in `_close`.

    Args:
        asynchronous: whether the user is on the event loop and awaits.
        loop: an asyncio loop, or an object with an attribute `asyncio_loop`; by default the background loop of this
            process.
        quiet: whether to log nothing of its own actions.
        name: the cluster's; random by default.
        scheduler_sync_interval: seconds, or text such as "500ms", between two looks at the scheduler's workers.

    Attributes:
        status: state of its life, as a `Status`.
        scheduler: the Scheduler, or the object that started one elsewhere and knows its address.
        scheduler_comm: the scheduler's operations, as asynchronous methods.
        security: the certificates for connections to the scheduler.
        client_address: the scheduler's address for clients of this process, if it is another than for workers.
    """

    _supports_scaling = False
    #: clusters that were started and not closed; those of other packages add theirs
    _instances: ClassVar[weakref.WeakSet[Cluster]] = _open

    def __init__(
        self,
        asynchronous: bool = False,
        loop: object = None,
        quiet: bool = False,
        name: str | None = None,
        scheduler_sync_interval: float | str = 1,
    ) -> None:
        self._name = str(name) if name else uuid.uuid4().hex[:8]
        self.quiet = quiet
        self.status = Status.created
        self.scheduler: Any = None
        self.scheduler_comm: Any = None
        self.security: Any = None
        self.client_address = ""
        self.periodic_callbacks: dict[str, PeriodicCallback] = {}
        self._sync_interval = parse_seconds(scheduler_sync_interval)
        #: the latest `identity` of a scheduler elsewhere
        self._last_info: dict[str, Any] = {"workers": {}}
        self._news: LocalNews | RemoteNews | None = None
        self._adaptive: Adaptive | None = None
        self._adaptive_options: dict[str, Any] = {}
        self._cluster_manager_logs: list[tuple[float, str]] = []
        self._shown: ClusterWidget | None = None
        self._asynchronous = asynchronous
        self._runner: LoopRunner | None = None
        if not asynchronous or loop is not None or asyncio._get_running_loop() is not None:
            self._runner = LoopRunner(loop=loop, asynchronous=asynchronous)
        self._client: Client | None = None
        #: whether this process was forked from the one whose cluster this is
        self._inherited = False
        self._starting: asyncio.Future[None] | None = None
        self._closing: asyncio.Future[None] | None = None

    @property
    def name(self) -> str:
        """The cluster's name."""
        return self._name

    @name.setter
    def name(self, name: str) -> None:
        self._name = name

    @classmethod
    def from_name(cls, name: str) -> Self:
        """The running cluster with a name.

        Raises:
            NotImplementedError: this kind of cluster cannot be found by its name.
        """
        raise NotImplementedError(f"{cls.__name__} cannot be found by name; connect with Client(address)")

    # Loops

    @property
    def loop(self) -> IOLoop:
        """The loop on which the cluster lives."""
        return self._loop_runner.loop

    @property
    def asynchronous(self) -> bool:
        """Whether methods return awaitables: the user chose that, or calls from the cluster's own loop."""
        return self._asynchronous or self.called_from_running_loop

    @property
    def called_from_running_loop(self) -> bool:
        """Whether the caller is on this cluster's loop."""
        return self._runner is not None and super().called_from_running_loop

    # Life

    async def _start(self) -> None:
        """Connect to the scheduler. Subclasses extend this: they first start a scheduler, or set `scheduler_comm`.

        The status is "created" when it is first called: those of other packages wait while it is "starting".
        """
        if self.scheduler_comm is None and self.scheduler is not None:
            self.scheduler_comm = LocalLink(self.scheduler) if self._is_local else self._connected()
        if self._is_local:
            self._news = LocalNews(self.scheduler, self._worker_came, self._worker_left)
        elif self.scheduler_comm is not None:
            await self._read_info()
            if isinstance(self.scheduler_comm, rpc):
                self._news = RemoteNews(self.scheduler_comm, self._worker_came, self._worker_left)
        if self._news is not None:
            self._news.begin()
        if self.scheduler_comm is not None and self._sync_interval > 0:
            callback = PeriodicCallback(self._look, self._sync_interval * 1000)
            self.periodic_callbacks["scheduler-info"] = callback
            callback.start()
        self.status = Status.running

    def _connected(self) -> Any:
        security = self.security if isinstance(self.security, Security) else Security(**(self.security or {}))
        return rpc(self.scheduler_address, connection_args=security.get_connection_args("client"))

    async def _close(self) -> None:
        """Disconnect from the scheduler. Subclasses extend this; it is also called when `_start` has failed halfway."""
        if self._adaptive is not None:
            self._adaptive.stop("the cluster closes")
        for callback in self.periodic_callbacks.values():
            callback.stop()
        if self._news is not None:
            self._news.stop()
        if self.scheduler_comm is not None:
            await self.scheduler_comm.close_rpc()
        self.status = Status.closed

    async def _look(self) -> None:
        """Ask a scheduler elsewhere for its workers; called every `scheduler_sync_interval`."""
        if not self._is_local:
            try:
                await self._read_info()
            except OSError as error:
                logger.debug("Cluster %s could not ask its scheduler: %s", self.name, error)
            else:
                if self._news is not None:
                    self._news.begin()

    async def _read_info(self) -> None:
        self._last_info = dict(await self.scheduler_comm.identity())

    def _worker_came(self, address: str, identity: dict[str, Any]) -> None:
        """The scheduler has one worker more."""
        if not self._is_local:
            self._last_info["workers"][address] = identity

    def _worker_left(self, address: str, name: Any) -> None:
        """The scheduler has one worker less."""
        if not self._is_local:
            self._last_info["workers"].pop(address, None)

    @property
    def _is_local(self) -> bool:
        """Whether the scheduler lives in this process, on this cluster's loop."""
        return hasattr(self.scheduler, "identity") and hasattr(self.scheduler, "server")

    @property
    def _loop_runner(self) -> LoopRunner:
        """The runner of the cluster's loop; clusters of other packages start it themselves."""
        if self._runner is None:
            self._runner = LoopRunner(asynchronous=True)
        return self._runner

    async def _started(self) -> Self:
        """Start the cluster at the first call; all callers wait. A failure closes it again, and is raised to all."""
        if self._starting is None:
            self._starting = asyncio.ensure_future(self._start_or_close())
        await asyncio.shield(self._starting)
        if self.status is not Status.running:
            raise RuntimeError(f"{type(self).__name__} is {self.status.name}; make a new one")
        return self

    async def _start_or_close(self) -> None:
        _open.add(self)
        try:
            await self._start()
        except BaseException:
            with contextlib.suppress(Exception):
                await self._closed()
            self.status = Status.failed
            raise
        if self.status in (Status.created, Status.starting):
            self.status = Status.running

    async def _closed(self) -> None:
        """Close the cluster at the first call; all callers wait."""
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
            if self._shown is not None:
                self._shown.update()

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

    # Scheduler and workers

    @property
    def scheduler_address(self) -> str:
        """The scheduler's address; "<Not Connected>" before it runs."""
        for source in (self.scheduler, self.scheduler_comm):
            for name in ("external_address", "address"):
                address = getattr(source, name, None)  # an `rpc` has a method of any name
                if address and isinstance(address, str):
                    return address
        return "<Not Connected>"

    @property
    def scheduler_info(self) -> dict[str, Any]:
        """The scheduler's `identity`, workers included; of a scheduler elsewhere, the latest that was asked for."""
        return dict(self.scheduler.identity()) if self._is_local else self._last_info

    @property
    def observed(self) -> set[Any]:
        """Names of the workers that the scheduler has now."""
        if self._is_local:
            return {worker.name for worker in self.scheduler.workers.values()}
        return {worker["name"] for worker in self.scheduler_info["workers"].values()}

    @property
    def requested(self) -> set[Any]:
        """Names of the workers that were started."""
        return self.observed

    @property
    def plan(self) -> set[Any]:
        """Names of the workers that are to be there."""
        return self.requested

    @property
    def dashboard_link(self) -> str:
        """The dashboard's address by `distributed.dashboard.link`; empty while there is no dashboard."""
        if self._is_local:
            if not self.scheduler.is_running:
                return ""
            info = self.scheduler.identity(n_workers=0)
        else:
            info = self._last_info
        return link_of(info) or ""

    def get_client(self) -> Any:
        """The default client if it is of this cluster, or else a new one, which is the default from then on.

        A new one is returned at each call while it is open, and is closed with the cluster.
        """
        from headrace.client import Client
        from headrace.client.current import context_client, global_client

        present = context_client() or global_client()
        if present is not None and present.cluster is self and present.asynchronous == self.asynchronous:
            return present
        if self._client is None or self._client.status == "closed":
            self._client = Client(self, asynchronous=self.asynchronous)
        return self._client

    def wait_for_workers(self, n_workers: int, timeout: float | str | None = None) -> Any:
        """Wait until the scheduler has `n_workers` running workers.

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
            await asyncio.sleep(_LOOK_INTERVAL if self._is_local else _REMOTE_LOOK_INTERVAL)
            await self._look()

    def _count_running(self) -> int:
        if self._is_local:
            return sum(worker.status is Status.running for worker in self.scheduler.workers.values())
        workers = self.scheduler_info["workers"].values()
        return sum(worker.get("status", "running") == "running" for worker in workers)

    def scale(self, n: int) -> Any:
        """Start or close workers until there are `n`.

        Raises:
            NotImplementedError: this kind of cluster has a fixed size.
        """
        raise NotImplementedError(f"{type(self).__name__} cannot be scaled")

    def adapt(self, Adaptive: type[Adaptive] | None = None, **kwargs: Any) -> Adaptive:
        """Have as many workers as the work needs, from now on.

        Args:
            Adaptive: class that decides, `headrace.deploy.adaptive.Adaptive` by default.
            kwargs: keywords of the class, such as `minimum`; those of an earlier call stand unless given again.

        Raises:
            ValueError: the bounds contradict each other.
            RuntimeError: the cluster is closed.
        """
        if self.status in (Status.closing, Status.closed):
            raise RuntimeError(f"cannot adapt: the cluster is {self.status.name}")
        from .adaptive import Adaptive as Default

        options = {**self._adaptive_options, **kwargs}
        made = (Adaptive or Default)(self, **options)
        if self._adaptive is not None:
            self._adaptive.stop("another takes its place")
        self._adaptive, self._adaptive_options = made, options
        return made

    def _note_scaling(self) -> None:
        """Warn a user who scales by hand while the cluster adapts: the new size will not last."""
        adaptive = self._adaptive
        if (
            adaptive is not None
            and adaptive.state in ("starting", "running")
            and not getattr(adaptive, "is_scaling", True)
        ):
            logger.warning(
                "Cluster %s was scaled by hand while it adapts, which goes on and may undo that: to keep a size, call "
                "stop() on what adapt() returned first, or give adapt() other bounds",
                self.name,
            )

    # Logs

    def _log(self, text: str) -> None:
        """Keep a line about an action of the cluster, for `get_logs`."""
        self._cluster_manager_logs.append((time.time(), text))
        del self._cluster_manager_logs[:-_LOG_LINES]
        if not self.quiet:
            logger.debug("Cluster %s: %s", self.name, text)

    def get_logs(self, cluster: bool = True, scheduler: bool = True, workers: bool | Iterable[str] = True) -> Any:
        """The latest log lines.

        Args:
            cluster: whether to return the lines of this object.
            scheduler: whether to return those of the scheduler.
            workers: whether to return those of all workers, or the addresses of some.

        Returns:
            `Logs`: {"Cluster": text, "Scheduler": text, worker's address: text}.
        """
        return self.sync(self._get_logs, cluster, scheduler, workers)

    async def _get_logs(self, cluster: bool, scheduler: bool, workers: bool | Iterable[str]) -> Logs:
        logs = Logs()
        if cluster:
            logs["Cluster"] = as_log(self._cluster_manager_logs)
        if scheduler and self.scheduler_comm is not None:
            logs["Scheduler"] = as_log(await self.scheduler_comm.get_logs())
        if workers and self.scheduler_comm is not None:
            chosen = None if workers is True else list(workers)
            for address, lines in (await self.scheduler_comm.worker_logs(workers=chosen)).items():
                logs[address] = as_log(lines)
        return logs

    def _repr_html_(self) -> str:
        return cluster_html(self)

    def _widget(self) -> Any:
        """The cluster's widget for notebooks, with controls if the cluster can be scaled; None without `ipywidgets`."""
        if self._shown is None and widgets_module() is not None:
            from .widget import ClusterWidget

            self._shown = ClusterWidget(self)
        return None if self._shown is None else self._shown.box

    def _repr_mimebundle_(self, include: object = None, exclude: object = None, **kwargs: object) -> dict[str, Any]:
        bundle = {"text/plain": repr(self), "text/html": self._repr_html_()}
        if is_kernel() and self._is_up() and (box := self._widget()) is not None:
            bundle.update(box._repr_mimebundle_())
            bundle["text/plain"] = repr(self)
        return bundle

    def __getstate__(self) -> Any:
        raise TypeError("a cluster cannot be pickled: tasks reach their scheduler by get_client()")

    def __repr__(self) -> str:
        workers: Iterable[dict[str, Any]] = self.scheduler_info["workers"].values() if self._is_up() else ()
        workers = list(workers)
        threads = sum(worker["nthreads"] for worker in workers)
        limits = [worker["memory_limit"] for worker in workers]
        text = f"{type(self).__name__}({self.name}, {self.scheduler_address!r}, workers={len(workers)}"
        text += f", threads={threads}"
        return f"{text}, memory={format_bytes(sum(limits))})" if all(limits) else f"{text})"

    def _is_up(self) -> bool:
        return self.scheduler_comm is not None and self.status in (Status.starting, Status.running)


def close_clusters() -> None:
    """Close the clusters that a script left open, so that no worker outlives the script."""
    for cluster in list(_open):
        if cluster._asynchronous or cluster._runner is None or not cluster._runner.is_started():
            continue
        if not getattr(cluster, "shutdown_on_close", True):
            continue
        try:
            cluster.close(timeout=_EXIT_TIMEOUT)
        except Exception:
            logger.warning("Could not close %r at exit", cluster.name, exc_info=True)


atexit.register(close_clusters)


def _after_fork() -> None:
    """Forget the parent's clusters in a forked child, which must leave them alone."""
    for cluster in list(_open):
        cluster._inherited = True
    _open.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


async def gather_or_cancel(work: Iterable[Coroutine[Any, Any, Any]]) -> list[Any]:
    """The results of all coroutines, or the first error once the others are cancelled and have ended."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        return await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise


def log_level(level: int | str | bool | None) -> int | None:
    """A level of logging by number or name; None for none.

    >>> log_level("error"), log_level(False)
    (40, None)

    Raises:
        ValueError: there is no such level.
    """
    if isinstance(level, str):
        found = logging.getLevelNamesMapping().get(level.upper())
        if found is None:
            raise ValueError(f"{level!r} is no level of logging: use a number, or a name such as 'error'")
        return found
    return int(level) if level else None


def silence(given: int | str | bool | None) -> Callable[[], None]:
    """Raise the levels of the loggers `distributed` and `headrace`; returns a function that restores the old levels."""
    level = log_level(given)
    if level is None:
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
