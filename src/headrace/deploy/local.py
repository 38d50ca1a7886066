"""A cluster on this machine: the scheduler in the user's process, workers in processes of their own or in this one.

The scheduler lives on the cluster's event loop. Beside its address for workers it listens in memory, at
`client_address`, where clients of this process connect.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from dask.system import CPU_COUNT

from headrace.auth.token_places import tokens_for_cluster
from headrace.comm.lent_memory.yama import READER, allow_reading, restricts_siblings
from headrace.common.sizing import workers_and_threads
from headrace.config import CommOptions
from headrace.machine import share_of_memory
from headrace.security import Security

from .cluster import log_level
from .spec import SpecCluster, default_scheduler

__all__ = ["LocalCluster"]


class LocalCluster(SpecCluster):
    """Create a scheduler and workers on this machine.

    Args:
        name: the cluster's; random by default.
        n_workers: number of workers; by default such that all CPUs are used.
        threads_per_worker: threads that run tasks, per worker.
        processes: whether each worker has a process of its own (default), or all are threads of this one.
        loop: see `Cluster`.
        host: address that scheduler and workers listen on, perhaps with a protocol, as in "tls://127.0.0.1"; all
            interfaces if it is empty text; this machine alone by default.
        scheduler_port: port that the scheduler listens on; 0 for any free one.
        silence_logs: level below which the loggers are silent while the cluster lives; `None` leaves them alone.
        asynchronous: for use with `async with` and `await`.
        security: a `Security`, or True for new temporary certificates.
        protocol: "tcp", "tls", "ws", "wss" or "inproc"; by default as `host`, `security` and `processes` suggest.
            Threads of this process are reached in memory alone unless an address is asked for, by a host, an interface
            or a port.
        interface: network interface to listen on, instead of `host`.
        worker_class: class of the workers.
        scheduler_kwargs: more keywords for the Scheduler.
        worker_kwargs: more keywords for each Worker, such as `resources`, or `memory_limit`: by default the machine's
            memory is split evenly between `n_workers`.
        blocked_handlers: operations that the scheduler refuses, such as "run_function".
        scheduler_sync_interval: see `Cluster`.
        dashboard_address: where the scheduler serves HTTP: a port, ":8787", "host:8787", several with commas; None for
            not at all. A port alone means this machine only, unless `host` says otherwise.
        worker_dashboard_address: the same of each worker, such as ":0".
        services, worker_services, service_kwargs: see `Scheduler` and `Worker`.
        start, ip: accepted for compatibility.

    Attributes:
        workers: Nannies, or, with `processes=False`, Workers, by name.
        worker_spec: the specification of each worker, by name.
        client_address: the scheduler's address for clients of this process.

    Raises:
        TypeError: `n_workers` or `threads_per_worker` is no integer.
        RuntimeError: the scheduler did not start, or a worker's process; the message says why.
        Exception: a worker did not start: what its class raised, with a note that says which. All that was started is
            closed again.

    >>> cluster = LocalCluster(n_workers=2)  # doctest: +SKIP
    >>> client = Client(cluster)  # doctest: +SKIP
    """

    def __init__(
        self,
        name: str | None = None,
        n_workers: int | None = None,
        threads_per_worker: int | None = None,
        processes: bool | None = None,
        loop: object = None,
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
        scheduler_sync_interval: float | str = 1,
        **worker_kwargs: Any,
    ) -> None:
        if diagnostics := worker_kwargs.pop("diagnostics_port", None):
            raise TypeError(f"diagnostics_port is gone: use dashboard_address=':{diagnostics}'")
        processes = _in_processes(worker_class) if processes is None else processes
        count, threads = workers_and_threads(n_workers, threads_per_worker, processes, CPU_COUNT)
        self.processes = processes
        security = _security(security)
        if security.token is None and security.token_file is None:
            security.token = tokens_for_cluster()  # goes to workers by the pipe that starts them
        host = ip if host is None else host
        protocol = _protocol(protocol, host, security, processes or bool(host or interface or scheduler_port))
        if protocol == "inproc":
            host = None if host in ("", "inproc://") else host
        elif host is None and not interface:
            host = "127.0.0.1"
        where = {"host": host, "interface": interface, "protocol": protocol, "security": security}
        worker_kwargs = {
            "nthreads": threads,
            "silence_logs": log_level(silence_logs),
            **where,
            **_given(dashboard_address=worker_dashboard_address, services=worker_services),
            **worker_kwargs,
            "memory_limit": share_of_memory(worker_kwargs.get("memory_limit", "auto"), count, threads),
        }
        cls = worker_class or _default_worker_class(processes)
        if protocol in ("tcp", "ws") and _is_nanny(cls) and _must_allow_reading():
            allow_reading(os.getpid())
            worker_kwargs["env"] = {**(worker_kwargs.get("env") or {}), READER: str(os.getpid())}
        worker = {"cls": cls, "options": worker_kwargs}
        scheduler = {
            **where,
            "port": scheduler_port,
            "blocked_handlers": blocked_handlers,
            "dashboard_address": dashboard_address,
            **_given(services=services, service_kwargs=service_kwargs),
            **(scheduler_kwargs or {}),
        }
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

    def start_worker(self, *args: object, **kwargs: object) -> Any:
        """Raise; kept for the message.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError("start_worker is gone: use cluster.scale(n)")


def _given(**keywords: object) -> dict[str, Any]:
    """Those of the keywords that have a value."""
    return {name: value for name, value in keywords.items() if value is not None}


def _security(given: Security | dict[str, Any] | bool | None) -> Security:
    if given is True:
        return Security.temporary()
    return Security(**given) if isinstance(given, dict) else given or Security()


def _in_processes(worker_class: Callable[..., Any] | None) -> bool:
    """Whether workers get processes of their own by default: all but subclasses of Worker, which run in this one."""
    from headrace import Worker

    return not (isinstance(worker_class, type) and issubclass(worker_class, Worker))


def _default_worker_class(processes: bool) -> Callable[..., Any]:
    from headrace import Nanny, Worker

    return Nanny if processes else Worker


def _is_nanny(worker_class: Callable[..., Any]) -> bool:
    """Whether workers get processes of their own from a Nanny, or a user's subclass of it."""
    from headrace import Nanny

    return isinstance(worker_class, type) and issubclass(worker_class, Nanny)


def _protocol(protocol: str | None, host: str | None, security: Security, has_address: bool) -> str:
    if protocol:
        return protocol.removesuffix("://")
    if host and "://" in host:
        return host.partition("://")[0]
    if security.require_encryption:
        return "tls"
    return "tcp" if has_address else "inproc"


def _must_allow_reading() -> bool:
    """Whether workers and clients need a permission to read each other's large results from memory."""
    return restricts_siblings() and CommOptions.from_config().share_memory
