"""A cluster on this machine: the scheduler in the user's process, workers in processes of their own or in this one.

The scheduler lives on the cluster's event loop. Beside its address for workers it listens in memory (`client_address`),
which is where clients of this process connect.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

from dask.system import CPU_COUNT

from headrace.common.sizing import workers_and_threads, workers_for
from headrace.common.status import Status
from headrace.config import parse_bytes
from headrace.nanny.process import FIRST_PAUSE, LIVED, LONGEST_PAUSE, WorkerProcess, described
from headrace.security import Security

from .cluster import Cluster, gather_or_cancel, logger, silence


class LocalCluster(Cluster):
    """Create a scheduler and workers on this machine.

    Args:
        name: of the cluster; random by default.
        n_workers: number of workers; by default such that all CPUs are used.
        threads_per_worker: threads that run tasks, per worker.
        processes: each worker in a process of its own (default), or all as threads of this one.
        loop: see `Cluster`.
        host: address that scheduler and workers listen on; this machine alone by default.
        scheduler_port: 0 takes any free port.
        silence_logs: level below which the loggers are silent while the cluster lives; `None` leaves them alone.
        asynchronous: for use with `async with` and `await`.
        security: a `Security`, or True for temporary certificates of its own.
        protocol: "tcp", "tls" or "inproc"; by default as `processes` and `security` suggest.
        interface: network interface to listen on, instead of `host`.
        worker_class: class of the workers.
        scheduler_kwargs: more keywords for the Scheduler.
        worker_kwargs: more keywords for each Worker, such as `memory_limit` or `resources`.
        start, ip, dashboard_address, worker_dashboard_address, services, worker_services, service_kwargs,
        blocked_handlers, scheduler_sync_interval: accepted for compatibility.

    Attributes:
        workers: the workers by name.
        worker_spec: how each is made, by name.
        client_address: where clients of this process connect.

    Raises:
        RuntimeError: a worker did not start; says which and why. Nothing is left behind.
        OSError: the scheduler's address cannot be had.

    >>> cluster = LocalCluster(n_workers=2)  # doctest: +SKIP
    >>> client = Client(cluster)  # doctest: +SKIP
    """

    _supports_scaling = True

    def __init__(
        self,
        name: str | None = None,
        n_workers: int | None = None,
        threads_per_worker: int | None = None,
        processes: bool | None = None,
        loop: Any = None,
        start: bool | None = None,
        host: str | None = None,
        ip: str | None = None,
        scheduler_port: int = 0,
        silence_logs: int | None = 30,
        dashboard_address: str | None = ":8787",
        worker_dashboard_address: str | None = None,
        services: dict[str, Any] | None = None,
        worker_services: dict[str, Any] | None = None,
        service_kwargs: dict[str, Any] | None = None,
        asynchronous: bool = False,
        security: Security | dict[str, Any] | bool | None = None,
        protocol: str | None = None,
        blocked_handlers: list[str] | None = None,
        interface: str | None = None,
        worker_class: Callable[..., Any] | None = None,
        scheduler_kwargs: dict[str, Any] | None = None,
        scheduler_sync_interval: Any = 1,
        **worker_kwargs: Any,
    ) -> None:
        super().__init__(asynchronous=asynchronous, loop=loop, name=name)
        self.processes = _in_processes(worker_class) if processes is None else processes
        count, threads = workers_and_threads(n_workers, threads_per_worker, self.processes, CPU_COUNT)
        self.silence_logs = silence_logs
        self.security = _security(security)
        self.workers: dict[Any, Any] = {}
        self.client_address = ""
        self._threads = threads
        self._worker_class = worker_class
        self._protocol = self._choose_protocol(protocol)
        self._host = host or ip or (None if interface or self._protocol == "inproc" else "127.0.0.1")
        self._interface = interface
        self._worker_kwargs = worker_kwargs
        self._scheduler_kwargs = {
            "host": self._host,
            "port": scheduler_port,
            "interface": interface,
            "protocol": self._protocol,
            "security": self.security,
            **(scheduler_kwargs or {}),
        }
        self._next_name = 0
        self.worker_spec: dict[Any, dict[str, Any]] = {}
        self._want(count)
        self._correcting = asyncio.Lock()
        #: when each worker was started, and how long to wait before its next start should it die again
        self._born: dict[Any, float] = {}
        self._pauses: dict[Any, float] = {}
        self._restarts: set[asyncio.Task[None]] = set()
        self._restore_logging: Callable[[], None] | None = None
        if not asynchronous:
            self._start_sync()

    def _choose_protocol(self, protocol: str | None) -> str:
        if protocol:
            return protocol.removesuffix("://")
        if self.security.require_encryption:
            return "tls"
        return "tcp" if self.processes else "inproc"

    # Life

    async def _start(self) -> None:
        from headrace.scheduler import Scheduler

        self._restore_logging = silence(self.silence_logs)
        self.scheduler = await Scheduler(**self._scheduler_kwargs)
        self.client_address = self.scheduler.address
        if self._protocol != "inproc":
            self.client_address = await self.scheduler.listen("inproc://")
        await self._correct_state()

    async def _close(self) -> None:
        self.worker_spec = {}
        for task in self._restarts:
            task.cancel()
        if self._restarts:
            await asyncio.wait(self._restarts)
        try:
            await self._stop_workers(list(self.workers))
            if self.scheduler is not None:
                await self.scheduler.close(reason="the cluster closes")
        finally:
            if self._restore_logging is not None:
                self._restore_logging()

    # Workers

    def new_worker_spec(self) -> dict[Any, dict[str, Any]]:
        """Name and making of one more worker."""
        while self._next_name in self.worker_spec:
            self._next_name += 1
        name, self._next_name = self._next_name, self._next_name + 1
        options = {
            "name": name,
            "nthreads": self._threads,
            "host": self._host,
            "interface": self._interface,
            "protocol": self._protocol,
            "security": self.security,
            "silence_logs": self.silence_logs,
            **self._worker_kwargs,
        }
        return {name: {"cls": self._worker_class or _default_worker_class(self.processes), "options": options}}

    def _want(self, count: int) -> None:
        while len(self.worker_spec) > count:
            self.worker_spec.popitem()
        while len(self.worker_spec) < count:
            self.worker_spec.update(self.new_worker_spec())

    async def _correct_state(self) -> None:
        """Start and stop workers until those that run are those of `worker_spec`."""
        async with self._correcting:
            missing = [name for name in self.worker_spec if name not in self.workers]
            surplus = [name for name in self.workers if name not in self.worker_spec]
            await self._stop_workers(surplus)
            if missing:
                await gather_or_cancel(self._start_worker(name) for name in missing)

    async def _start_worker(self, name: Any) -> None:
        spec = self.worker_spec[name]
        options = spec["options"]
        if spec["cls"] is WorkerProcess:
            options = {"on_exit": partial(self._on_worker_exit, name), **options}
        worker = spec["cls"](self.scheduler.address, **options)
        self._born[name] = asyncio.get_running_loop().time()
        self.workers[name] = worker  # from now on it is closed with the cluster, however far it gets
        try:
            await worker
        except Exception as error:
            self.workers.pop(name, None)
            await _close_quietly(worker)
            raise RuntimeError(f"worker {name} of {type(self).__name__} did not start: {error}") from error

    def _on_worker_exit(self, name: Any, code: int) -> None:
        """A worker's process has ended. If nobody wanted that, another takes its place."""
        worker = self.workers.get(name)
        if self.status is not Status.running or not isinstance(worker, WorkerProcess):
            return
        if worker.is_alive() or worker.status is Status.closing or worker.closed_itself is not None:
            return
        logger.warning("Worker %s (%s) ended with %s; starting another", name, worker.address, described(code))
        del self.workers[name]
        if asyncio.get_running_loop().time() - self._born[name] > LIVED:
            self._pauses.pop(name, None)
        task = asyncio.ensure_future(self._start_again(name))
        self._restarts.add(task)
        task.add_done_callback(self._restarts.discard)

    async def _start_again(self, name: Any) -> None:
        pause = self._pauses.get(name, FIRST_PAUSE)
        while self.status is Status.running and name in self.worker_spec and name not in self.workers:
            await asyncio.sleep(pause)
            self._pauses[name] = pause = min(2 * pause, LONGEST_PAUSE)
            await self._correct_and_log()

    async def _stop_workers(self, names: list[Any]) -> None:
        workers = [self.workers.pop(name) for name in names]
        await asyncio.gather(*[_close_quietly(worker) for worker in workers])

    @property
    def requested(self) -> set[Any]:
        return set(self.workers)

    @property
    def plan(self) -> set[Any]:
        return set(self.worker_spec)

    def scale(self, n: int = 0, memory: Any = None, cores: int | None = None) -> Any:
        """Have that many workers, or as many as have that memory or those cores together. Does not wait for them.

        Args:
            n: number of workers.
            memory: bytes in total, or text such as "16 GB".
            cores: threads in total.

        Raises:
            RuntimeError: the cluster does not run.
        """
        if self.status not in (Status.running, Status.starting):
            raise RuntimeError(f"cannot scale: the cluster is {self.status.name}")
        limit = max((worker["memory_limit"] or 0 for worker in self.scheduler_info["workers"].values()), default=0)
        self._want(workers_for(n, None if memory is None else parse_bytes(memory), cores, limit, self._threads))
        if self.asynchronous:
            return asyncio.ensure_future(self._correct_state())
        self.loop.add_callback(self._correct_and_log)
        return None

    scale_up = scale

    async def scale_down(self, workers: Any) -> None:
        """Stop the workers of these names or addresses."""
        addresses = {getattr(worker, "address", None): name for name, worker in self.workers.items()}
        for worker in workers:
            self.worker_spec.pop(addresses.get(worker, worker), None)
        await self._correct_state()

    async def _correct_and_log(self) -> None:
        try:
            await self._correct_state()
        except Exception as error:
            logger.error("%s", error)

    def start_worker(self, *args: Any, **kwargs: Any) -> Any:
        """Raise; kept for the message.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError("start_worker is gone: use cluster.scale(n)")


def _security(given: Security | dict[str, Any] | bool | None) -> Security:
    if given is True:
        return Security.temporary()
    return Security(**given) if isinstance(given, dict) else given or Security()


def _in_processes(worker_class: Callable[..., Any] | None) -> bool:
    """Workers of class Worker run in this process, unless the user says otherwise."""
    from headrace.worker import Worker

    return not (isinstance(worker_class, type) and issubclass(worker_class, Worker))


def _default_worker_class(processes: bool) -> Callable[..., Any]:
    if processes:
        return WorkerProcess
    from headrace.worker import Worker

    return Worker


async def _close_quietly(worker: Any) -> None:
    try:
        await worker.close()
    except Exception:
        logger.warning("Could not close %r", worker, exc_info=True)
