"""Clusters by specification: the user specifies how scheduler and workers are made, and the cluster keeps to it.

The cluster calls, awaits and closes the classes in specifications (a class of this process, a job of a batch system),
and knows no more of them. It asks the scheduler whether a worker is there.
"""

from __future__ import annotations

import asyncio
import math
from asyncio import ALL_COMPLETED, FIRST_EXCEPTION
from collections.abc import Awaitable, Callable, Generator, Hashable, Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar

from headrace.common.callables import import_term
from headrace.common.sizing import whole_number
from headrace.common.status import Status
from headrace.config import get, parse_bytes, parse_seconds
from headrace.security import Security

from .cluster import Cluster, close_clusters, gather_or_cancel, logger, silence

if TYPE_CHECKING:
    from .adaptive import Adaptive

__all__ = ["ProcessInterface", "SpecCluster", "close_clusters", "init_spec", "run_spec"]

#: Names of the options that give a worker's threads, and its memory.
_THREADS = ("nthreads", "ncores", "threads", "cores")
_MEMORY = ("memory_limit", "memory")


T = TypeVar("T")


class Closable(Protocol):
    """A scheduler or worker that was made by a specification, as far as a cluster closes it."""

    def close(self) -> Awaitable[object]: ...


class ProcessInterface:
    """A scheduler or worker outside this process: a job of a batch system, a process of another machine.

    Subclasses start the process in `start` and end it in `close`; both call the base's method.

    Args:
        scheduler: the scheduler's address, for workers.
        name: the worker's, for workers.

    Attributes:
        status: state of its life, as a `Status`.
        address: its address; a scheduler's must be known after `start`.
        external_address: its address from this machine, if that is another.
    """

    def __init__(self, scheduler: object = None, name: object = None) -> None:
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
        """Ask for the process. A worker need not run when this returns; a scheduler's address must be known."""
        self.status = Status.running

    async def close(self) -> None:
        """End the process. A worker that leaves in good order has been retired by the scheduler before."""
        self.status = Status.closed
        self._event_finished.set()

    async def finished(self) -> None:
        """Wait until `close` was called."""
        await self._event_finished.wait()

    async def __aenter__(self) -> Self:
        return await self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


class SpecCluster(Cluster):
    """A cluster whose scheduler and workers are given by specifications: `{"cls": class, "options": keywords}`.

    The cluster calls a class with the options (a worker's class after the scheduler's address, and with the keyword
    `name`), awaits the object, and closes it in the end. A class may be given as text, such as "distributed.Nanny". A
    specification with `"group"`, a list of suffixes, makes several workers, named by its own name and each suffix.

    Args:
        workers: specifications of the workers to start with, by name.
        scheduler: specification of the scheduler; a Scheduler in this process by default.
        worker: specification of the workers that `scale` adds.
        asynchronous: for use with `async with` and `await`.
        loop: see `Cluster`.
        security: the certificates for connections to the scheduler.
        silence_logs: level below which the loggers are silent while the cluster lives; False leaves them alone.
        name: the cluster's; random by default.
        shutdown_on_close: whether the cluster is closed when the program ends.
        scheduler_sync_interval: see `Cluster`.
        shutdown_scheduler: whether closing the cluster closes the scheduler.

    Attributes:
        workers: the workers' objects, by name of their specifications.
        worker_spec: the specifications that the cluster keeps to, by name.
        new_spec: `worker`.

    Raises:
        ValueError: a specification lacks its class.
        RuntimeError: the scheduler did not start; the message says why.
        Exception: a worker did not start: what its class raised, with a note that says which. All that was started is
            closed again.

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
        loop: object = None,
        security: Security | dict[str, Any] | None = None,
        silence_logs: int | str | bool | None = False,
        name: str | None = None,
        shutdown_on_close: bool = True,
        scheduler_sync_interval: float | str = 1,
        shutdown_scheduler: bool = True,
    ) -> None:
        super().__init__(
            asynchronous=asynchronous, loop=loop, name=name, scheduler_sync_interval=scheduler_sync_interval
        )
        self.scheduler_spec = dict(scheduler) if scheduler else default_scheduler({"dashboard": True})
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
        #: time when each worker that had registered was first missed, by name of its specification
        self._missed: dict[Any, float] = {}
        self._seen: set[Any] = set()
        self._closing_lost: set[asyncio.Task[None]] = set()
        self._next_look: asyncio.TimerHandle | None = None
        self._restore_logging: Callable[[], None] | None = None
        if not asynchronous:
            self._start_sync()

    # Life

    async def _start(self) -> None:
        self.status = Status.starting
        self._restore_logging = silence(self.silence_logs)
        if self.scheduler is None:
            try:
                self.scheduler = await _init(self.scheduler_spec, (), {})
            except Exception as error:
                raise RuntimeError(f"the scheduler of {type(self).__name__} did not start: {error}") from error
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
        if starting:  # the user awaits the cluster again: the specification may have changed
            await self._correct_state()
        return self

    async def _close(self) -> None:
        self.worker_spec = {}
        if self._next_look is not None:
            self._next_look.cancel()
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
        """The name of a worker that `scale` adds; subclasses may give other names."""
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
        """Start and stop workers until exactly those of `worker_spec` run."""
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
            # While the cluster itself starts, a worker that fails ends it; later, the other workers go on starting.
            for task in tasks:
                task.cancel()
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
            self._start_tasks.difference_update(tasks)
        failures = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        for failure in sorted(failures, key=lambda failure: isinstance(failure, asyncio.CancelledError)):
            if isinstance(failure, asyncio.CancelledError):
                raise RuntimeError(f"{type(self).__name__} was closed while workers started")
            raise failure

    async def _start_worker(self, name: Hashable) -> None:
        spec = self.worker_spec[name]
        self._log(f"starting worker {name}")
        try:
            worker = _init(spec, (self._address_for_workers,), {"name": name})
            # From now on the cluster's end closes the worker, however far its start has come.
            self.workers[name] = worker
            await worker
        except BaseException as error:
            if (failed := self.workers.pop(name, None)) is not None:
                self._forget(name)
                await _close_quietly(failed)
            error.add_note(f"worker {name} of {type(self).__name__} did not start")
            raise

    @property
    def _address_for_workers(self) -> str:
        return str(getattr(self.scheduler, "contact_address", None) or self.scheduler.address)

    async def _retire(self, names: list[Any]) -> None:
        """Have the scheduler move the results that only these workers hold to others before the workers end."""
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

    def _forget(self, name: Hashable) -> None:
        self._missed.pop(name, None)
        self._seen.discard(name)

    async def _correct_and_log(self) -> None:
        try:
            await self._correct_state()
        except Exception as error:
            logger.error("%s: %s: %s", "; ".join(getattr(error, "__notes__", ())), type(error).__name__, error)

    # Workers that are lost

    def _worker_came(self, address: str, identity: dict[str, Any]) -> None:
        super()._worker_came(address, identity)
        home = self._home(identity["name"])
        if home in self.workers:
            self._seen.add(home)
            self._missed.pop(home, None)

    def _worker_left(self, address: str, name: Any) -> None:
        super()._worker_left(address, name)
        home = self._home(name)
        if home in self.workers and home in self.worker_spec:
            self._seen.add(home)
            self._look_within(0.0)

    def _look_within(self, seconds: float) -> None:
        """Look for lost workers after so many seconds, or earlier if that was planned."""
        loop = asyncio.get_running_loop()
        if self._next_look is not None:
            if self._next_look.when() <= loop.time() + seconds:
                return
            self._next_look.cancel()
        self._next_look = self.loop.call_later(seconds, self._look)

    async def _look(self) -> None:
        if self._next_look is not None:
            self._next_look.cancel()
            self._next_look = None
        await super()._look()
        if self.status is Status.running and self._find_lost() and self._adaptive is not None:
            await self._correct_and_log()

    def _find_lost(self) -> bool:
        """Close workers that have been gone for `distributed.deploy.lost-worker-timeout`; returns whether any were.

        Looks again when that is over for the next of those that are gone.
        """
        now, observed = asyncio.get_running_loop().time(), self.observed
        lost, left = [], []
        for name, worker in self.workers.items():
            if any(member in observed for member in self._members(name)):
                self._missed.pop(name, None)
                self._seen.add(name)
            elif getattr(worker, "is_starting_again", False):
                self._missed.pop(name, None)  # its nanny starts the worker again, unless it is closed here
            elif name in self._seen:
                seconds = self._missed.setdefault(name, now) + _lost_after() - now
                if seconds > 0:
                    left.append(seconds)
                else:
                    lost.append(name)
        for name in lost:
            lost_worker = self.workers.pop(name)
            self._forget(name)
            self._log(f"worker {name} is lost")
            logger.warning("Worker %s of cluster %s has been gone for a while and is closed", name, self.name)
            self._closing_lost.add(task := asyncio.ensure_future(_close_quietly(lost_worker)))
            task.add_done_callback(self._closing_lost.discard)
        if left:
            self._look_within(min(left))
        return bool(lost)

    # Names of workers

    def _home(self, member: Any) -> Any:
        """The name of the specification that makes the worker of a name; that name itself if none is known to."""
        if member in self.workers or not any(spec.get("group") for spec in self.worker_spec.values()):
            return member
        return next((name for name in self.workers if member in self._members(name)), member)

    def _members(self, name: Hashable) -> list[Any]:
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
        """A function that groups the WorkerStates of one specification, which can only be closed together.

        None if each specification makes one worker.
        """
        homes = {member: str(name) for name in self.worker_spec for member in self._members(name)}
        if all(member == name for name in self.worker_spec for member in self._members(name)):
            return None
        return lambda worker: homes.get(worker.name, worker.name)

    def specifications_for(self, workers: int) -> int:
        """The argument with which `scale` gives so many workers: ours counts specifications, a subclass's workers."""
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

    def _count(self, n: float, memory: float | str | None, cores: float | None) -> int:
        """The largest number of workers by `n`, by `memory` (bytes in total) and by `cores` (threads in total)."""
        wanted = [whole_number("the number of workers to scale to", n)]
        if wanted[0] < 0:
            raise ValueError(f"cannot scale to {n} workers")
        if memory is not None:
            wanted.append(math.ceil(parse_bytes(memory) / self._memory_per_worker()))
        if cores is not None:
            wanted.append(math.ceil(cores / self._threads_per_worker()))
        return max(wanted)

    def _want(self, count: int) -> None:
        """Change `worker_spec` to `count` specifications; workers that have not come yet are dropped first."""
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

    def scale(self, n: int = 0, memory: float | str | None = None, cores: int | None = None) -> Any:
        """Ask for `n` workers, or for as many as have so much memory or so many cores together. Does not wait for them.

        On an asynchronous cluster that was not awaited yet, this sets the number to start with.

        Args:
            n: number of specifications (of workers, where each makes one).
            memory: bytes in total, or text such as "16 GB".
            cores: threads in total.

        Raises:
            RuntimeError: the cluster was closed.
            TypeError: the number is no integer.
            ValueError: the number is negative, or memory or threads of a worker are not known.
        """
        if self.status is Status.created:  # dask-jobqueue's constructor scales
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
        """Stop the workers with these names or addresses, together with the other members of their groups."""
        by_address = {address: info["name"] for address, info in self.scheduler_info["workers"].items()}
        homes = {member: name for name in self.worker_spec for member in self._members(name)}
        for worker in workers:
            member = by_address.get(worker, worker)
            self.worker_spec.pop(homes.get(member, member), None)
        await self._correct_state()

    def adapt(
        self,
        Adaptive: type[Adaptive] | None = None,
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


def _lost_after() -> float:
    """Seconds after which a worker that the scheduler does not have any more is given up."""
    return parse_seconds(get("distributed.deploy.lost-worker-timeout"))


def _check(what: object, spec: object) -> None:
    if spec is not None and not (isinstance(spec, dict) and spec.get("cls")):
        raise ValueError(
            f"the specification of {what!r} must be a dictionary with 'cls', and 'options' if needed, not {spec!r}"
        )


def _init(spec: dict[str, Any], args: tuple[object, ...], defaults: dict[str, Any]) -> Any:
    """The object that a specification describes, not started."""
    make = spec["cls"]
    if isinstance(make, str):
        make = import_term(make)
    return make(*args, **{**defaults, **spec.get("options", spec.get("opts", {}))})


async def _close_quietly(worker: Closable) -> None:
    try:
        await worker.close()
    except Exception:
        logger.warning("Could not close %r", worker, exc_info=True)


def init_spec(spec: dict[str, Any], *args: object) -> dict[str, Any]:
    """The objects that specifications describe, by name, not started; the name is 0 for a single specification.

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


async def run_spec(spec: dict[str, Any], *args: object) -> dict[str, Any]:
    """Make objects by specifications, as `init_spec` does, and start them; if one does not start, all are closed."""
    made = init_spec(spec, *args)
    try:
        await gather_or_cancel(_started(server) for server in made.values())
    except BaseException:
        await asyncio.gather(*[_close_quietly(server) for server in made.values()])
        raise
    return made


async def _started(server: Awaitable[T]) -> T:
    return await server
