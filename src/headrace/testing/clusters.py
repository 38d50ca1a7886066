"""Clusters for tests: within one event loop (`gen_cluster`), or of processes (`cluster`)."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import functools
import inspect
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import cloudpickle
import dask.config

from headrace.common.status import Status
from headrace.nanny.environment import SEED_VARIABLE, hash_seed
from headrace.rpc import new_event_loop
from headrace.security import Security

from .leaks import clean
from .stories import check_invalid_task_states, check_invalid_worker_transitions, validate_state

#: Seconds that a scheduler or worker of `cluster` has to start, and to end.
_PROCESS_TIMEOUT = 30
#: Seconds to close what a test of `gen_cluster` has left open.
_CLOSE_TIMEOUT = 10


async def start_cluster(
    nthreads: list[Any],
    scheduler_addr: str,
    security: Security | dict[str, Any] | None = None,
    Worker: Any = None,
    scheduler_kwargs: dict[str, Any] | None = None,
    worker_kwargs: dict[str, Any] | None = None,
    timeout: float = 7,
) -> tuple[Any, list[Any]]:
    """A Scheduler and Workers on this event loop.

    Args:
        nthreads: per worker `(host, threads)` or `(host, threads, keywords)`.
        scheduler_addr: host of the scheduler.
        timeout: seconds for all workers to arrive.

    Raises:
        TimeoutError: they did not. Nothing is left open.
    """
    from headrace import Worker as DefaultWorker
    from headrace.scheduler import Scheduler

    worker_class = Worker or DefaultWorker
    scheduler = await Scheduler(
        **{"validate": True, "security": security, "port": 0, "host": scheduler_addr, **(scheduler_kwargs or {})}
    )
    workers = [
        worker_class(
            scheduler.address,
            **{
                "nthreads": threads,
                "name": number,
                "security": security,
                "validate": True,
                "host": host,
                **(worker_kwargs or {}),
                **(own[0] if own else {}),
            },
        )
        for number, (host, threads, *own) in enumerate(nthreads)
    ]
    try:
        async with asyncio.timeout(timeout):
            await asyncio.gather(*workers)
            while len(scheduler.workers) < len(workers):
                await asyncio.sleep(0.005)
    except BaseException:
        await end_cluster(scheduler, workers)
        raise
    return scheduler, workers


async def end_cluster(s: Any, workers: list[Any]) -> None:
    """Close what `start_cluster` made."""
    await asyncio.gather(*[worker.close() for worker in workers], return_exceptions=True)
    await s.close()


def gen_test(
    timeout: float = 30, config: dict[str, Any] | None = None, clean_kwargs: dict[str, Any] | None = None
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Make a plain test of a coroutine function.

    Args:
        timeout: seconds that it may take.
        config: configuration while it runs.
        clean_kwargs: see `clean`.
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def test(*args: Any, **kwargs: Any) -> Any:
            with clean(**(clean_kwargs or {})), dask.config.set(config or {}):
                return _run(_bounded(function(*args, **kwargs), timeout))

        return _plain(test, function, given=0)

    return decorate


def gen_cluster(
    nthreads: list[Any] | None = None,
    scheduler: str = "127.0.0.1",
    timeout: float = 30,
    security: Security | dict[str, Any] | None = None,
    Worker: Any = None,
    client: bool = False,
    scheduler_kwargs: dict[str, Any] | None = None,
    worker_kwargs: dict[str, Any] | None = None,
    client_kwargs: dict[str, Any] | None = None,
    active_rpc_timeout: float = 1,
    config: dict[str, Any] | None = None,
    clean_kwargs: dict[str, Any] | None = None,
    allow_unclosed: bool = True,
    should_check_state: bool = True,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Make a plain test of a coroutine function that takes a scheduler and workers (and a client first, if asked for).

    Args:
        nthreads: per worker `(host, threads)` or `(host, threads, keywords)`; by default two, with 1 and 2 threads.
        scheduler: its host.
        timeout: seconds that the test may take.
        security: certificates of all.
        Worker: class of the workers.
        client: whether the test takes an asynchronous client.
        scheduler_kwargs, worker_kwargs, client_kwargs: more keywords.
        config: configuration while it runs.
        clean_kwargs: see `clean`.
        should_check_state: whether the records of scheduler and workers are checked after the test.
        active_rpc_timeout, allow_unclosed: accepted for compatibility.

    >>> @gen_cluster(client=True)
    ... async def test_inc(c, s, a, b):
    ...     assert await c.submit(lambda x: x + 1, 1) == 2
    """
    nthreads = [("127.0.0.1", 1), ("127.0.0.1", 2)] if nthreads is None else nthreads

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        if not inspect.iscoroutinefunction(function):
            raise TypeError(f"gen_cluster decorates coroutine functions, and {function.__qualname__} is none")

        async def work(outer: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            server, workers = await start_cluster(
                nthreads, scheduler, security, Worker, scheduler_kwargs, worker_kwargs
            )
            given = [server, *workers]
            connected = None
            try:
                if client:
                    from headrace.client import Client

                    connected = await Client(
                        server.address, security=security, asynchronous=True, **(client_kwargs or {})
                    )
                    given.insert(0, connected)
                result = await _bounded(function(*given, *outer, **kwargs), timeout)
                if should_check_state:
                    _check(server, workers)
                return result
            finally:
                async with asyncio.timeout(_CLOSE_TIMEOUT):
                    if connected is not None:
                        await connected.close()
                    await end_cluster(server, workers)

        @functools.wraps(function)
        def test(*outer: Any, **kwargs: Any) -> Any:
            with clean(**(clean_kwargs or {})), dask.config.set(config or {}):
                return _run(work(outer, kwargs))

        return _plain(test, function, given=len(nthreads) + 1 + client)

    return decorate


def _check(scheduler: Any, workers: list[Any]) -> None:
    """Fail if records contradict each other, or a worker reported that its own did."""
    check_invalid_worker_transitions(scheduler)
    check_invalid_task_states(scheduler)
    validate_state(*[server for server in (scheduler, *workers) if server.status is Status.running])


def gen_tls_cluster(**kwargs: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """`gen_cluster` with TLS, and certificates of its own."""
    kwargs.setdefault("security", Security.temporary())
    return gen_cluster(scheduler="tls://127.0.0.1", **kwargs)


def _plain(test: Callable[..., Any], function: Callable[..., Any], given: int) -> Callable[..., Any]:
    """Hide the arguments that the decorator gives, so that pytest does not take them for fixtures."""
    signature = inspect.signature(function)
    rest = list(signature.parameters.values())[given:]
    test.__signature__ = signature.replace(parameters=rest)  # type: ignore[attr-defined]
    del test.__wrapped__  # type: ignore[attr-defined]
    return test


def _run(work: Any) -> Any:
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(work)


async def _bounded(work: Any, timeout: float) -> Any:
    try:
        async with asyncio.timeout(timeout) as bound:
            return await work
    except TimeoutError:
        if bound.expired():
            raise TimeoutError(f"the test took longer than {timeout} s") from None
        raise


@contextlib.contextmanager
def cluster(
    nworkers: int = 2,
    nanny: bool = False,
    worker_kwargs: dict[str, Any] | None = None,
    active_rpc_timeout: float = 10,
    scheduler_kwargs: dict[str, Any] | None = None,
    config: dict[str, Any] | None = None,
    should_check_state: bool = True,
) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """A scheduler and workers, each in a process of its own.

    Yields `({"address": …}, [{"address": …, "proc": …}, …])`.

    Args:
        nworkers: number of workers, of one thread each.
        nanny: have a nanny watch each worker.
        worker_kwargs, scheduler_kwargs: more keywords.
        config: configuration of the processes.
        active_rpc_timeout, should_check_state: accepted for compatibility.
    """
    with contextlib.ExitStack() as stack:
        keywords = {"host": "127.0.0.1", "port": 0, **(scheduler_kwargs or {})}
        scheduler = stack.enter_context(server_process("headrace.scheduler:Scheduler", (), keywords, config))
        kind = "headrace.nanny:Nanny" if nanny else "headrace:Worker"
        keywords = {"nthreads": 1, **(worker_kwargs or {})}
        starting = [
            stack.enter_context(_Child(kind, (scheduler["address"],), {"name": name, **keywords}, config))
            for name in range(nworkers)
        ]
        yield scheduler, [child.ready() for child in starting]


@contextlib.contextmanager
def server_process(
    kind: str, args: tuple[Any, ...], kwargs: dict[str, Any], config: dict[str, Any] | None = None
) -> Iterator[dict[str, Any]]:
    """One server ("module:Class") in a process of its own: its address and the process."""
    with _Child(kind, args, kwargs, config) as child:
        yield child.ready()


class _Child:
    """A process that runs `headrace.testing.cluster_child`; it ends when its standard input is closed."""

    def __init__(self, kind: str, args: tuple[Any, ...], kwargs: dict[str, Any], config: dict[str, Any] | None) -> None:
        self.kind = kind
        self._work = base64.b64encode(cloudpickle.dumps((kind, args, kwargs, config or {})))

    def __enter__(self) -> _Child:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "headrace.testing.cluster_child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path),
                SEED_VARIABLE: hash_seed(os.environ),
            },
        )
        assert self.process.stdin is not None
        self.process.stdin.write(self._work + b"\n")
        self.process.stdin.flush()
        return self

    def ready(self) -> dict[str, Any]:
        """Wait until the server has started.

        Raises:
            RuntimeError: it did not; its errors were shown on standard error.
        """
        assert self.process.stdout is not None
        address = self.process.stdout.readline().decode().strip()
        if not address:
            raise RuntimeError(f"{self.kind} did not start: exit status {self.process.wait(_PROCESS_TIMEOUT)}")
        return {"address": address, "proc": self.process}

    def __exit__(self, *_: object) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        try:
            self.process.wait(_PROCESS_TIMEOUT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
