"""A cluster on this machine: the scheduler in the user's process, workers in processes of their own or in this one.

The scheduler lives on the cluster's event loop. Beside its address for workers it listens in memory (`client_address`),
which is where clients of this process connect.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from dask.system import CPU_COUNT

from headrace.comm.lent_memory.yama import READER, allow_reading, restricts_siblings
from headrace.common.sizing import split_cpus, workers_and_threads
from headrace.config import CommOptions
from headrace.machine import share_of_memory
from headrace.nanny import Nanny
from headrace.security import Security

from .cluster import log_level
from .spec import SpecCluster, default_scheduler

__all__ = ["LocalCluster", "nprocesses_nthreads"]


class LocalCluster(SpecCluster):
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
        worker_kwargs: more keywords for each Worker, such as `resources`, or `memory_limit`: by default the machine's
            memory is split evenly between `n_workers`.
        blocked_handlers: operations that the scheduler refuses, such as "run_function".
        scheduler_sync_interval: see `Cluster`.
        start, ip, dashboard_address, worker_dashboard_address, services, worker_services, service_kwargs: accepted for
            compatibility.

    Attributes:
        workers: Nannies or, without processes of their own, Workers by name.
        worker_spec: how each is made, by name.
        client_address: where clients of this process connect.

    Raises:
        TypeError: `n_workers` or `threads_per_worker` is no integer.
        RuntimeError: a worker did not start; says which and why. Nothing is left behind.
        OSError: the scheduler's address cannot be had.

    >>> cluster = LocalCluster(n_workers=2)  # doctest: +SKIP
    >>> client = Client(cluster)  # doctest: +SKIP
    """

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
        silence_logs: int | str | None = 30,
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
        if diagnostics := worker_kwargs.pop("diagnostics_port", None):
            raise TypeError(f"diagnostics_port is gone: use dashboard_address=':{diagnostics}'")
        processes = _in_processes(worker_class) if processes is None else processes
        count, threads = workers_and_threads(n_workers, threads_per_worker, processes, CPU_COUNT)
        self.processes = processes
        security = _security(security)
        protocol = _protocol(protocol, processes, security)
        host = host or ip or (None if interface or protocol == "inproc" else "127.0.0.1")
        where = {"host": host, "interface": interface, "protocol": protocol, "security": security}
        worker_kwargs = {
            "nthreads": threads,
            "silence_logs": log_level(silence_logs),
            **where,
            **worker_kwargs,
            "memory_limit": share_of_memory(worker_kwargs.get("memory_limit", "auto"), count, threads),
        }
        cls = worker_class or _default_worker_class(processes)
        if protocol == "tcp" and isinstance(cls, type) and issubclass(cls, Nanny) and _must_allow_reading():
            allow_reading(os.getpid())
            worker_kwargs["env"] = {**(worker_kwargs.get("env") or {}), READER: str(os.getpid())}
        worker = {"cls": cls, "options": worker_kwargs}
        scheduler = {**where, "port": scheduler_port, "blocked_handlers": blocked_handlers, **(scheduler_kwargs or {})}
        super().__init__(
            workers=dict.fromkeys(range(count), worker),
            scheduler=default_scheduler(scheduler),
            worker=worker,
            name=name,
            loop=loop,
            asynchronous=asynchronous,
            silence_logs=silence_logs,
            security=security,
            scheduler_sync_interval=scheduler_sync_interval,
        )

    def start_worker(self, *args: Any, **kwargs: Any) -> Any:
        """Raise; kept for the message.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError("start_worker is gone: use cluster.scale(n)")


def nprocesses_nthreads(n: int = CPU_COUNT) -> tuple[int, int]:
    """Workers and threads each for `n` CPUs."""
    return split_cpus(n)


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
        return Nanny
    from headrace.worker import Worker

    return Worker


def _protocol(protocol: str | None, processes: bool, security: Security) -> str:
    if protocol:
        return protocol.removesuffix("://")
    if security.require_encryption:
        return "tls"
    return "tcp" if processes else "inproc"


def _must_allow_reading() -> bool:
    """Whether workers and clients can read each other's large results only if they are allowed to."""
    return restricts_siblings() and CommOptions.from_config().share_memory
