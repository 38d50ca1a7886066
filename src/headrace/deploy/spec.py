"""Clusters by specification: how the scheduler and each worker are made is given, and the cluster keeps to it.

What makes workers (a class of this process, a job of a batch system) is called, awaited and closed, and nothing more is
known of it. Whether a worker is there is what the scheduler says.
"""

from __future__ import annotations

import asyncio
import math
from asyncio import ALL_COMPLETED, FIRST_EXCEPTION
from collections.abc import Callable, Generator, Iterable
from types import TracebackType
from typing import Any, Self

from headrace.common.callables import import_term
from headrace.common.sizing import whole_number
from headrace.common.status import Status
from headrace.config import get, parse_bytes, parse_seconds
from headrace.security import Security

from .cluster import Cluster, close_clusters, gather_or_cancel, logger, silence

__all__ = ["ProcessInterface", "SpecCluster", "close_clusters", "init_spec", "run_spec"]

#: Names of the options that give a worker's threads, and its memory.
_THREADS = ("nthreads", "ncores", "threads", "cores")
_MEMORY = ("memory_limit", "memory")


class ProcessInterface:
    """A scheduler or worker that somebody else runs: a job of a batch system, a process of another machine.

    Subclasses start it in `start` and end it in `close`; both call these of the base.

    Args:
        scheduler: the scheduler's address, for workers.
        name: the worker's, for workers.

    Attributes:
        status: its life, as a `Status`.
        address: where it is reached; a scheduler's must be known after `start`.
        external_address: where it is reached from here, if that is another.
    """

    def __init__(self, scheduler: Any = None, name: Any = None) -> None:
        self.address: str | None = getattr(self, "address", None)
        self.external_address: str | None = None
        self.lock = asyncio.Lock()
        self._status = Status.created
        self._event_finished = asyncio.Event()

    @property
    def status(self) -> Status:
        return self._status

    @status.setter
    def status(self, status: Status | str) -> None:
        self._status = Status[status] if isinstance(status, str) else status

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: status={self.status.name}>"

    def __await__(self) -> Generator[Any, Any, Self]:
        return self._started().__await__()

    async def _started(self) -> Self:
        async with self.lock:
            if self.status is Status.created:
                await self.start()
                if self.status is Status.created:
                    self.status = Status.running
        return self

    async def start(self) -> None:
        """Ask for the process. A worker need not be there when this returns; a scheduler's address must be known."""
        self.status = Status.running

    async def close(self) -> None:
        """End the process. The scheduler has let a worker go before, if it was to be done in good order."""
        self.status = Status.closed
        self._event_finished.set()

    async def finished(self) -> None:
        """Wait until it was closed."""
        await self._event_finished.wait()

    async def __aenter__(self) -> Self:
        return await self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


class SpecCluster(Cluster):
    """A cluster whose scheduler and workers are given by specifications: `{"cls": class, "options": keywords}`.

    A class is called with the options (workers: after the scheduler's address, and with the keyword `name`), awaited,
    and closed in the end; it may be given as text, such as "distributed.Nanny". A specification with `"group"`, a list
    of suffixes, makes several workers, named by its own name and each of the suffixes.

    Args:
        workers: specifications of the workers to start with, by name.
        scheduler: that of the scheduler; a Scheduler in this process by default.
        worker: that of workers which are added by `scale`.
        asynchronous: for use with `async with` and `await`.
        loop: see `Cluster`.
        security: of connections to the scheduler.
        silence_logs: level below which the loggers are silent while the cluster lives; False leaves them alone.
        name: of the cluster; random by default.
        shutdown_on_close: whether the cluster is closed when the program ends.
        scheduler_sync_interval: see `Cluster`.
        shutdown_scheduler: whether closing the cluster closes the scheduler.

    Attributes:
        workers: what was made, by name.
        worker_spec: the specifications that the cluster keeps to, by name.
        new_spec: `worker`.

    Raises:
        ValueError: a specification lacks its class.
        RuntimeError: a worker did not start; says which and why. Nothing is left behind.

    >>> cluster = SpecCluster(worker={"cls": Nanny, "options": {"nthreads": 2}})  # doctest: +SKIP
    >>> cluster.scale(3)  # doctest: +SKIP
    """

    _supports_scaling = True

    def __init__(
        self,
        workers: dict[Any, dict[str, Any]] | None = None,
        scheduler: dict[str, Any] | None = None,
        worker: dict[str, Any] | None = None,
        asynchronous: bool = False,
        loop: Any = None,
        security: Any = None,
        silence_logs: Any = False,
        name: str | None = None,
        shutdown_on_close: bool = True,
        scheduler_sync_interval: Any = 1,
        shutdown_scheduler: bool = True,
    ) -> None:
        super().__init__(
            asynchronous=asynchronous, loop=loop, name=name, scheduler_sync_interval=scheduler_sync_interval
        )
        self.scheduler_spec = dict(scheduler) if scheduler else default_scheduler()
        self.worker_spec: dict[Any, dict[str, Any]] = dict(workers or {})
        self.new_spec = dict(worker) if worker else None
        for what, spec in {"scheduler": self.scheduler_spec, "worker": self.new_spec, **self.worker_spec}.items():
            _check(what, spec)
        self.workers: dict[Any, Any] = {}
        self.security = security if security is not None else Security()
        self.silence_logs = silence_logs
        self.shutdown_on_close = shutdown_on_close
        self.shutdown_scheduler = shutdown_scheduler
        self._i = 0
        self._correcting = asyncio.Lock()
        self._is_up_once = False
        self._start_tasks: set[asyncio.Task[None]] = set()
        #: when each worker that had registered was first missed, by name of its specification
        self._missed: dict[Any, float] = {}
        self._seen: set[Any] = set()
        self._closing_lost: set[asyncio.Task[None]] = set()
        self._restore_logging: Callable[[], None] | None = None
        if not asynchronous:
            self._start_sync()

    # Life

    async def _start(self) -> None:
        self._restore_logging = silence(self.silence_logs)
        if self.scheduler is None:
            self.scheduler = await _init(self.scheduler_spec, (), {})
        await self._listen_in_memory()
        await super()._start()
        await self._correct_state()
        self._is_up_once = True

    async def _inproc_address(self) -> str:
        listener = await self.scheduler.listen("inproc://")
        return str(listener.contact_address)

    async def _listen_in_memory(self) -> None:
        """Let clients of this process reach a scheduler of this process without the network."""
        if self._is_local and not self.client_address:
            address = self.scheduler.address
            self.client_address = address if address.startswith("inproc") else await self._inproc_address()

    async def _started(self) -> Self:
        starting = self._starting is not None and self._starting.done()
        await super()._started()
        if starting:  # awaiting the cluster again: the specification may have changed
            await self._correct_state()
        return self

    async def _close(self) -> None:
        self.worker_spec = {}
        for task in self._start_tasks:
            task.cancel()
        try:
            async with self._correcting:
                await self._close_workers(list(self.workers))
            if self.scheduler is not None and self.shutdown_scheduler:
                await self._close_scheduler()
        finally:
            await super()._close()
            if self._restore_logging is not None:
                self._restore_logging()

    async def _close_scheduler(self) -> None:
        if self._is_local:
            await self.scheduler.close(reason="the cluster closes")
            return
        if self.scheduler_comm is not None:
            try:
                async with asyncio.timeout(parse_seconds(get("distributed.comm.timeouts.connect"))):
                    await self.scheduler_comm.terminate()
            except (OSError, TimeoutError, AttributeError) as error:
                logger.debug("The scheduler of cluster %s did not answer: %s", self.name, error)
        await _close_quietly(self.scheduler)

    # Workers

    def _new_worker_name(self, worker_number: int) -> Any:
        """What a worker that `scale` adds is called; subclasses may have names of their own."""
        return worker_number

    def new_worker_spec(self) -> dict[Any, dict[str, Any]]:
        """Name and specification of one more worker.

        Raises:
            ValueError: the cluster was not told how to make more workers.
        """
        if self.new_spec is None:
            raise ValueError(f"{type(self).__name__} was given no specification of new workers: use worker=...")
        while (name := self._new_worker_name(self._i)) in self.worker_spec:
            self._i += 1
        self._i += 1
        return {name: self.new_spec}

    async def _correct_state(self) -> None:
        """Start and stop workers until those that run are those of `worker_spec`."""
        async with self._correcting:
            surplus = [name for name in self.workers if name not in self.worker_spec]
            if surplus:
                await self._retire(surplus)
                await self._close_workers(surplus)
            missing = [name for name in self.worker_spec if name not in self.workers]
            if missing and self.status in (Status.starting, Status.running):
                await self._start_workers(missing)
            if surplus or missing:
                await super()._look()

    async def _start_workers(self, names: list[Any]) -> None:
        tasks = [asyncio.ensure_future(self._start_worker(name)) for name in names]
        self._start_tasks.update(tasks)
        try:
            await asyncio.wait(tasks, return_when=ALL_COMPLETED if self._is_up_once else FIRST_EXCEPTION)
        finally:
            # when the cluster itself starts, one that fails ends it; later that is no reason to give up the others
            for task in tasks:
                task.cancel()
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
            self._start_tasks.difference_update(tasks)
        failures = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        for failure in sorted(failures, key=lambda failure: isinstance(failure, asyncio.CancelledError)):
            if isinstance(failure, asyncio.CancelledError):
                raise RuntimeError(f"{type(self).__name__} was closed while workers started")
            raise failure

    async def _start_worker(self, name: Any) -> None:
        spec = self.worker_spec[name]
        self._log(f"starting worker {name}")
        try:
            worker = _init(spec, (self._address_for_workers,), {"name": name})
        except Exception as error:
            raise self._start_error(name, error) from error
        self.workers[name] = worker  # from now on it is closed with the cluster, however far it gets
        try:
            await worker
        except BaseException as error:
            self.workers.pop(name, None)
            await _close_quietly(worker)
            if not isinstance(error, Exception):
                raise
            raise self._start_error(name, error) from error

    def _start_error(self, name: Any, error: Exception) -> RuntimeError:
        return RuntimeError(f"worker {name} of {type(self).__name__} did not start: {error}")

    @property
    def _address_for_workers(self) -> str:
        return str(getattr(self.scheduler, "contact_address", None) or self.scheduler.address)

    async def _retire(self, names: list[Any]) -> None:
        """Have the scheduler move what only these workers hold to others before they end."""
        members = sorted(self._expanded(names) & self.observed, key=str)
        if not members:
            return
        try:
            await self.scheduler_comm.retire_workers(names=members, close_workers=True, remove=True)
        except Exception as error:
            logger.warning("Could not retire the workers %s: %s", names, error)

    async def _close_workers(self, names: list[Any]) -> None:
        workers = [self.workers.pop(name) for name in names]
        for name in names:
            self._log(f"closing worker {name}")
            self._forget(name)
        await asyncio.gather(*[_close_quietly(worker) for worker in workers])

    def _forget(self, name: Any) -> None:
        self._missed.pop(name, None)
        self._seen.discard(name)

    async def _correct_and_log(self) -> None:
        try:
            await self._correct_state()
        except Exception as error:
            logger.error("%s", error)

    # Workers that are lost

    async def _look(self) -> None:
        await super()._look()
        if self._find_lost() and self._adaptive is not None:
            await self._correct_and_log()

    def _find_lost(self) -> bool:
        """Let go of workers that have been gone for `distributed.deploy.lost-worker-timeout`; whether there are any."""
        now, observed = asyncio.get_running_loop().time(), self.observed
        timeout = None
        lost = []
        for name, worker in self.workers.items():
            if any(member in observed for member in self._members(name)):
                self._missed.pop(name, None)
                self._seen.add(name)
            elif getattr(worker, "is_starting_again", False):
                self._missed.pop(name, None)  # a nanny is at it: to let go of it would leave nobody to start a worker
            elif name in self._seen:
                if timeout is None:
                    timeout = parse_seconds(get("distributed.deploy.lost-worker-timeout"))
                if now - self._missed.setdefault(name, now) >= timeout:
                    lost.append(name)
        for name in lost:
            lost_worker = self.workers.pop(name)
            self._forget(name)
            self._log(f"worker {name} is lost")
            logger.warning("Worker %s of cluster %s has been gone for a while and is closed", name, self.name)
            self._closing_lost.add(task := asyncio.ensure_future(_close_quietly(lost_worker)))
            task.add_done_callback(self._closing_lost.discard)
        return bool(lost)

    # What there is, and shall be

    def _members(self, name: Any) -> list[Any]:
        """Names of the workers that one specification makes."""
        spec = self.worker_spec.get(name) or self.new_spec or {}
        return [f"{name}{suffix}" for suffix in spec["group"]] if spec.get("group") else [name]

    def _expanded(self, names: Iterable[Any]) -> set[Any]:
        return {member for name in names for member in self._members(name)}

    @property
    def requested(self) -> set[Any]:
        return self._expanded(self.workers)

    @property
    def plan(self) -> set[Any]:
        return self._expanded(self.worker_spec)

    @property
    def worker_key(self) -> Callable[[Any], Any] | None:
        """Groups WorkerStates of one specification, which can only be closed together; None if there are no groups."""
        homes = {member: str(name) for name in self.worker_spec for member in self._members(name)}
        if all(member == name for name in self.worker_spec for member in self._members(name)):
            return None
        return lambda worker: homes.get(worker.name, worker.name)

    def specifications_for(self, workers: int) -> int:
        """What to `scale` to in order to have that many workers; subclasses whose `scale` counts workers count them."""
        if type(self).scale is not SpecCluster.scale:
            return workers
        return math.ceil(workers / max(1, len((self.new_spec or {}).get("group") or [0])))

    def _threads_per_worker(self) -> int:
        """Threads of a worker that `scale` adds.

        Raises:
            ValueError: its specification does not say.
        """
        return int(self._option(_THREADS, "cores"))

    def _memory_per_worker(self) -> int:
        """Bytes of memory of a worker that `scale` adds.

        Raises:
            ValueError: its specification does not say.
        """
        return parse_bytes(self._option(_MEMORY, "memory"))

    def _option(self, names: tuple[str, ...], unit: str) -> Any:
        given = (self.new_spec or {}).get("options", {})
        for options in (given, given.get("worker_kwargs") or {}):
            for name in names:
                if options.get(name):
                    return options[name]
        raise ValueError(
            f"cannot count workers by {unit}: the specification of new workers gives none of {', '.join(names)}"
        )

    # Scaling

    def _count(self, n: Any, memory: Any, cores: Any) -> int:
        """The number of workers that was asked for in one way or several: the largest."""
        wanted = [whole_number("the number of workers to scale to", n)]
        if wanted[0] < 0:
            raise ValueError(f"cannot scale to {n} workers")
        if memory is not None:
            wanted.append(math.ceil(parse_bytes(memory) / self._memory_per_worker()))
        if cores is not None:
            wanted.append(math.ceil(cores / self._threads_per_worker()))
        return max(wanted)

    def _want(self, count: int) -> None:
        """Change the specification to so many workers; those that have not come yet go first."""
        surplus = len(self.worker_spec) - count
        if surplus > 0:
            observed = self.observed
            names = list(self.worker_spec)
            awaited = [name for name in names if not observed.intersection(self._members(name))]
            chosen = [*reversed(awaited), *(name for name in reversed(names) if name not in set(awaited))]
            for name in chosen[:surplus]:
                del self.worker_spec[name]
        while len(self.worker_spec) < count:
            self.worker_spec.update(self.new_worker_spec())

    def scale(self, n: int = 0, memory: Any = None, cores: int | None = None) -> Any:
        """Have that many workers, or as many as have that memory or those cores together. Does not wait for them.

        Before an asynchronous cluster was awaited, this says how many it starts with.

        Args:
            n: number of specifications (of workers, where each makes one).
            memory: bytes in total, or text such as "16 GB".
            cores: threads in total.

        Raises:
            RuntimeError: the cluster was closed.
            TypeError: the number is no integer.
            ValueError: the number is negative, or memory or threads of a worker are not known.
        """
        if self.status is Status.created:  # as dask-jobqueue's constructor does
            self._want(self._count(n, memory, cores))
            return self
        if self.status not in (Status.running, Status.starting):
            raise RuntimeError(f"cannot scale: the cluster is {self.status.name}")
        self._note_scaling()
        self._want(self._count(n, memory, cores))
        return self._correct_soon()

    scale_up = scale

    def _correct_soon(self) -> Any:
        if self.asynchronous:
            return asyncio.ensure_future(self._correct_state())
        self.loop.add_callback(self._correct_and_log)
        return None

    async def scale_down(self, workers: Iterable[Any]) -> None:
        """Stop the workers of these names or addresses; of a group, all its members."""
        by_address = {address: info["name"] for address, info in self.scheduler_info["workers"].items()}
        homes = {member: name for name in self.worker_spec for member in self._members(name)}
        for worker in workers:
            member = by_address.get(worker, worker)
            self.worker_spec.pop(homes.get(member, member), None)
        await self._correct_state()

    def adapt(
        self,
        Adaptive: Any = None,
        minimum: float = 0,
        maximum: float = math.inf,
        minimum_cores: int | None = None,
        maximum_cores: int | None = None,
        minimum_memory: str | None = None,
        maximum_memory: str | None = None,
        **kwargs: Any,
    ) -> Any:
        """Have as many workers as the work needs, from now on, within bounds.

        Args:
            Adaptive: class that decides.
            minimum, maximum: numbers of workers.
            minimum_cores, maximum_cores: threads in total.
            minimum_memory, maximum_memory: bytes in total, or text such as "100 GiB".
            kwargs: for `Adaptive`: `interval`, `wait_count`, `target_duration`, `worker_key`, …

        Raises:
            ValueError: the bounds contradict each other, or threads or memory of a worker are not known.

        >>> cluster.adapt(minimum=0, maximum_memory="100 GiB", interval="500ms")  # doctest: +SKIP
        """
        if minimum_cores is not None:
            minimum = max(minimum or 0, math.ceil(minimum_cores / self._threads_per_worker()))
        if minimum_memory is not None:
            minimum = max(minimum or 0, math.ceil(parse_bytes(minimum_memory) / self._memory_per_worker()))
        if maximum_cores is not None:
            maximum = min(maximum, math.floor(maximum_cores / self._threads_per_worker()))
        if maximum_memory is not None:
            maximum = min(maximum, math.floor(parse_bytes(maximum_memory) / self._memory_per_worker()))
        return super().adapt(Adaptive, minimum=minimum, maximum=maximum, **kwargs)


def default_scheduler(options: dict[str, Any] | None = None) -> dict[str, Any]:
    """The specification of a Scheduler in this process, with these keywords."""
    from headrace import Scheduler

    return {"cls": Scheduler, "options": options or {}}


def _check(what: Any, spec: Any) -> None:
    if spec is not None and not (isinstance(spec, dict) and spec.get("cls")):
        raise ValueError(
            f"the specification of {what!r} must be a dictionary with 'cls', and 'options' if needed, not {spec!r}"
        )


def _init(spec: dict[str, Any], args: tuple[Any, ...], defaults: dict[str, Any]) -> Any:
    """What a specification makes, not started."""
    make = spec["cls"]
    if isinstance(make, str):
        make = import_term(make)
    return make(*args, **{**defaults, **spec.get("options", spec.get("opts", {}))})


async def _close_quietly(worker: Any) -> None:
    try:
        await worker.close()
    except Exception:
        logger.warning("Could not close %r", worker, exc_info=True)


def init_spec(spec: dict[str, Any], *args: Any) -> dict[str, Any]:
    """What a specification means, not started: one object (under the name 0), or several by name.

    Args:
        spec: `{"cls": class or its dotted name, "opts": keywords}`, or several of these by name.
        args: positional arguments of every class.

    Raises:
        ValueError: a specification lacks its class.
    """
    several = {0: spec} if "cls" in spec else spec
    made: dict[Any, Any] = {}
    for name, one in several.items():
        _check(name, one)
        defaults = {} if "cls" in spec else {"name": name}
        made[name] = _init(one, args, defaults)
    return made


async def run_spec(spec: dict[str, Any], *args: Any) -> dict[str, Any]:
    """As `init_spec`, and started; if one does not start, all are closed."""
    made = init_spec(spec, *args)
    try:
        await gather_or_cancel(_started(server) for server in made.values())
    except BaseException:
        await asyncio.gather(*[_close_quietly(server) for server in made.values()])
        raise
    return made


async def _started(server: Any) -> Any:
    return await server
