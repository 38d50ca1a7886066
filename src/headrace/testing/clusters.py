"""Clusters for tests: within one event loop (`gen_cluster`), or of processes (`cluster`)."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import functools
import inspect
import os
import pickle
import subprocess
import sys
import traceback
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any, Self, TypedDict, TypeVar

import cloudpickle
import dask.config

import headrace
from headrace.common.status import Status
from headrace.nanny.environment import SEED_VARIABLE, hash_seed
from headrace.rpc import new_event_loop
from headrace.security import Security

from .cluster_child import FAILED
from .leaks import clean
from .record_checks import check_invalid_task_states, check_invalid_worker_transitions, validate_state

T = TypeVar("T")
#: Host and threads of a worker, and keywords for it.
WorkerOptions = tuple[str, int] | tuple[str, int, dict[str, Any]]
#: A class of workers, or of nannies, which have one each.
WorkerClass = type[headrace.Worker] | type[headrace.Nanny]

#: Seconds that a scheduler or worker of `cluster` has to start, and to end.
_PROCESS_TIMEOUT = 30
#: Seconds to close what a test of `gen_cluster` has left open.
_CLOSE_TIMEOUT = 10


class ServerProcess(subprocess.Popen[bytes]):
    """The process of a server, with what is usual for one of `multiprocessing` too.

    `distributed.utils_test.cluster` has a weak reference here, so that calling this gives the process.
    """

    def __call__(self) -> Self:
        return self

    @property
    def exitcode(self) -> int | None:
        """The exit status, negative for a signal; None while the process runs."""
        return self.poll()

    def is_alive(self) -> bool:
        return self.poll() is None

    def join(self, timeout: float | None = None) -> None:
        """Wait until the process has ended, `timeout` seconds at most."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(timeout)


class StartedServer(TypedDict):
    """A server in a process of its own."""

    address: str
    proc: ServerProcess


async def start_cluster(
    nthreads: Sequence[WorkerOptions],
    scheduler_addr: str,
    security: Security | dict[str, Any] | None = None,
    Worker: WorkerClass | None = None,
    scheduler_kwargs: dict[str, Any] | None = None,
    worker_kwargs: dict[str, Any] | None = None,
    timeout: float = 7,
) -> tuple[headrace.Scheduler, list[headrace.Worker | headrace.Nanny]]:
    """A Scheduler and Workers on this event loop.

    Args:
        nthreads: per worker `(host, threads)` or `(host, threads, keywords)`.
        scheduler_addr: host of the scheduler.
        timeout: seconds for all workers to arrive.

    Raises:
        TimeoutError: they did not. Nothing is left open.
    """
    worker_class: Callable[..., headrace.Worker | headrace.Nanny] = Worker or headrace.Worker
    scheduler = await headrace.Scheduler(
        **{
            "validate": True,
            "security": security,
            "port": 0,
            "host": scheduler_addr,
            "dashboard": False,
            "dashboard_address": ":0",
            **(scheduler_kwargs or {}),
        }
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
                "dashboard_address": ":0",
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


async def end_cluster(s: headrace.Scheduler, workers: Sequence[headrace.Worker | headrace.Nanny]) -> None:
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

    Raises:
        NotACoroutineFunctionError: what is decorated is none.
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        _require_coroutine_function("gen_test", function)

        @functools.wraps(function)
        def test(*args: object, **kwargs: object) -> object:
            with clean(**(clean_kwargs or {})), dask.config.set(config or {}):
                return _run(_bounded(function(*args, **kwargs), timeout))

        return _plain(test, function, given=0)

    return decorate


def gen_cluster(
    nthreads: Sequence[WorkerOptions] | None = None,
    scheduler: str = "127.0.0.1",
    timeout: float = 30,
    security: Security | dict[str, Any] | None = None,
    Worker: WorkerClass | None = None,
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

    Raises:
        NotACoroutineFunctionError: what is decorated is none.

    >>> @gen_cluster(client=True)
    ... async def test_inc(c, s, a, b):
    ...     assert await c.submit(lambda x: x + 1, 1) == 2
    """
    nthreads = [("127.0.0.1", 1), ("127.0.0.1", 2)] if nthreads is None else nthreads

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        _require_coroutine_function("gen_cluster", function)

        async def work(outer: tuple[object, ...], kwargs: dict[str, object]) -> Any:
            server, workers = await start_cluster(
                nthreads, scheduler, security, Worker, scheduler_kwargs, worker_kwargs
            )
            given: list[object] = [server, *workers]
            connected: headrace.Client | None = None
            try:
                if client:
                    connected = await headrace.Client(
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
        def test(*outer: object, **kwargs: object) -> object:
            with clean(**(clean_kwargs or {})), dask.config.set(config or {}):
                return _run(work(outer, kwargs))

        return _plain(test, function, given=len(nthreads) + 1 + client)

    return decorate


def _check(scheduler: headrace.Scheduler, workers: Sequence[headrace.Worker | headrace.Nanny]) -> None:
    """Fail if records contradict each other, or a worker reported that its own did."""
    check_invalid_worker_transitions(scheduler)
    check_invalid_task_states(scheduler)
    validate_state(*[server for server in (scheduler, *workers) if server.status is Status.running])


def gen_tls_cluster(**kwargs: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """`gen_cluster` with TLS, and certificates of its own."""
    kwargs.setdefault("security", Security.temporary())
    return gen_cluster(scheduler="tls://127.0.0.1", **kwargs)


class NotACoroutineFunctionError(TypeError, RuntimeError):
    """What a decorator of tests was given is no coroutine function."""


def _require_coroutine_function(decorator: str, function: Callable[..., Any]) -> None:
    if not inspect.iscoroutinefunction(function):
        raise NotACoroutineFunctionError(
            f"{decorator} only works for coroutine functions, and {function.__qualname__} is none: "
            "define it with `async def`"
        )


def _plain(test: Callable[..., Any], function: Callable[..., Any], given: int) -> Callable[..., Any]:
    """Hide the arguments that the decorator gives, so that pytest does not take them for fixtures.

    These are the first so many positional ones, and `*workers`, which takes those that are left.
    """
    signature = inspect.signature(function)
    rest: list[inspect.Parameter] = []
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.VAR_POSITIONAL:
            continue
        if given and parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            given -= 1
        else:
            rest.append(parameter)
    test.__signature__ = signature.replace(parameters=rest)  # type: ignore[attr-defined]
    return test


def _run(work: Coroutine[Any, Any, T]) -> T:
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(work)


async def _bounded(work: Coroutine[Any, Any, T], timeout: float) -> T:
    """Await a test, `timeout` seconds at most.

    Raises:
        TimeoutError: it took longer, also if it caught its cancellation; the message says where it stood.
    """
    stood = "it ended when it was cancelled"
    try:
        async with asyncio.timeout(timeout) as bound:
            try:
                result = await work
            except asyncio.CancelledError as cancelled:
                stood = "it stood here:\n" + "".join(traceback.format_tb(cancelled.__traceback__)[1:])
                raise
    except TimeoutError:
        if not bound.expired():
            raise
    if bound.expired():
        raise TimeoutError(f"the test took longer than {timeout} s; {stood}")
    return result


@contextlib.contextmanager
def cluster(
    nworkers: int = 2,
    nanny: bool = False,
    worker_kwargs: dict[str, Any] | None = None,
    active_rpc_timeout: float = 10,
    scheduler_kwargs: dict[str, Any] | None = None,
    config: dict[str, Any] | None = None,
    should_check_state: bool = True,
) -> Iterator[tuple[StartedServer, list[StartedServer]]]:
    """A scheduler and workers, each in a process of its own.

    Yields `({"address": …}, [{"address": …, "proc": …}, …])`; calling `proc` gives the process, too.

    Args:
        nworkers: number of workers, of one thread each.
        nanny: have a nanny watch each worker.
        worker_kwargs, scheduler_kwargs: more keywords.
        config: configuration of the processes.
        active_rpc_timeout, should_check_state: accepted for compatibility.

    Raises:
        Exception: what a server raised as it started.
    """
    with contextlib.ExitStack() as stack:
        keywords = {"host": "127.0.0.1", "port": 0, **(scheduler_kwargs or {})}
        scheduler = stack.enter_context(server_process("headrace:Scheduler", (), keywords, config))
        kind = "headrace:Nanny" if nanny else "headrace:Worker"
        keywords = {"nthreads": 1, **(worker_kwargs or {})}
        starting = [
            stack.enter_context(_ServerProcess(kind, (scheduler["address"],), {"name": name, **keywords}, config))
            for name in range(nworkers)
        ]
        yield scheduler, [child.ready() for child in starting]


@contextlib.contextmanager
def server_process(
    kind: str, args: tuple[Any, ...], kwargs: dict[str, Any], config: dict[str, Any] | None = None
) -> Iterator[StartedServer]:
    """One server ("module:Class") in a process of its own: its address and the process."""
    with _ServerProcess(kind, args, kwargs, config) as child:
        yield child.ready()


class _ServerProcess:
    """A process that runs `headrace.testing.cluster_child`; it ends when its standard input is closed."""

    def __init__(self, kind: str, args: tuple[Any, ...], kwargs: dict[str, Any], config: dict[str, Any] | None) -> None:
        self.kind = kind
        self._work = base64.b64encode(cloudpickle.dumps((kind, args, kwargs, config or {})))

    def __enter__(self) -> _ServerProcess:
        self.process = ServerProcess(
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

    def ready(self) -> StartedServer:
        """Wait until the server has started.

        Raises:
            Exception: what kept it from starting, with the process's traceback on standard error.
            RuntimeError: the process ended without a word.
        """
        assert self.process.stdout is not None
        answer = self.process.stdout.readline().strip()
        if not answer:
            raise RuntimeError(f"{self.kind} did not start: exit status {self.process.wait(_PROCESS_TIMEOUT)}")
        if answer.startswith(FAILED):
            error: BaseException = pickle.loads(base64.b64decode(answer.removeprefix(FAILED)))
            error.add_note(f"{self.kind} did not start")
            raise error
        return {"address": answer.decode(), "proc": self.process}

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
