"""Restrictions: the workers that may run a task are those that it names and that have the abstract resources it takes.

What is asked for is looked up once for all tasks that ask for the same, until a worker comes, goes or changes its
resources; no task scans the workers.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from typing import TYPE_CHECKING, TypeAlias

from headrace.messages.base import TaskOptions

if TYPE_CHECKING:
    from headrace.scheduler.state.core import SchedulerCore
    from headrace.scheduler.state.records.tasks import TaskState
    from headrace.scheduler.state.records.workers import WorkerState

#: A task is weighed against so many of the workers that may run it, other ones each time, and those that hold
#: something it needs.
SAMPLE = 20
#: Distinct demands that are remembered.
REMEMBERED = 10_000
#: Schemes of addresses that may be left out where workers are named.
_SCHEMES = ("tcp", "tls", "inproc", "ws", "wss")
#: Addresses of a machine's own network.
LOOPBACK = ("127.0.0.1", "::1")

Demand: TypeAlias = tuple[tuple[str, ...], tuple[tuple[str, float], ...]]


class Allowed:
    """The workers, running or not, that a demand allows; `turn` is where the next sample begins."""

    __slots__ = ("members", "turn", "workers")

    def __init__(self, workers: Iterable[WorkerState]) -> None:
        self.workers = list(workers)
        self.members = frozenset(self.workers)
        self.turn = 0


def restricted_workers(state: SchedulerCore, task: TaskState) -> list[WorkerState] | None:
    """Running workers that may run the task (a sample, if there are many); `None` when all may."""
    options = task.options
    if not options.workers and not options.resources:
        return None
    resources = tuple(sorted(options.resources.items()))
    allowed = _allowed(state, (tuple(options.workers), resources))
    chosen = _running(state, allowed)
    if not chosen and options.workers and options.allow_other_workers:
        allowed = _allowed(state, ((), resources))
        chosen = _running(state, allowed)
    if chosen and len(allowed.workers) > SAMPLE:
        for dependency in task._dependencies:
            for holder in dependency.who_has:
                if holder in allowed.members and holder in state.running and holder not in chosen:
                    chosen.append(holder)
    return chosen


def all_allowed(state: SchedulerCore, task: TaskState) -> list[WorkerState] | None:
    """All running workers that may run the task, and no turn is taken; `None` when all may."""
    options = task.options
    if not options.workers and not options.resources:
        return None
    resources = tuple(sorted(options.resources.items()))
    chosen = _all_running(state, _allowed(state, (tuple(options.workers), resources)))
    if not chosen and options.workers and options.allow_other_workers:
        chosen = _all_running(state, _allowed(state, ((), resources)))
    return chosen


def runs_somewhere(state: SchedulerCore, task: TaskState) -> bool:
    """Whether some running worker may run the task."""
    candidates = all_allowed(state, task)
    return bool(state.running if candidates is None else candidates)


def forget_allowed(state: SchedulerCore) -> None:
    """A worker has come, gone, or changed its resources."""
    state.allowed.clear()


def workers_named(state: SchedulerCore, name: str) -> list[WorkerState]:
    """Workers by address (with or without its protocol), name, host or the host's name, and these with a port."""
    for address in (state.aliases.get(name, name), *(f"{scheme}://{name}" for scheme in _SCHEMES)):
        worker = state.workers.get(address)
        if worker is not None:
            return [worker]
    found = [worker for worker in state.workers.values() if str(worker.name) == name or _is_on(worker, name)]
    if found or not isinstance(name, str) or ":" not in name:
        return found
    scheme, _, location = name.rpartition("://")
    host, _, port = location.rpartition(":")
    return [
        worker
        for worker in state.workers.values()
        if worker.address.startswith(scheme)
        and worker.address.rpartition(":")[2].partition("/")[0] == port
        and _is_on(worker, host.strip("[]"))
    ]


def _is_on(worker: WorkerState, host: str) -> bool:
    return host in (worker.host, worker.hostname) or (host == "localhost" and worker.host in LOOPBACK)


def lanes(worker: WorkerState, options: TaskOptions) -> float:
    """Number of such tasks that the worker runs at a time: its threads, or fewer where resources are scarce."""
    count: float = worker.nthreads
    for name, amount in options.resources.items():
        if amount > 0:
            count = min(count, worker.resources.get(name, 0.0) / amount)
    return max(count, 1e-9)


def has_resources(worker: WorkerState, resources: Iterable[tuple[str, float]]) -> bool:
    """Whether the worker has as much as a task takes, free or not."""
    available = worker.resources
    return all(available.get(name, 0.0) >= amount for name, amount in resources)


def may_run(state: SchedulerCore, task: TaskState, worker: WorkerState) -> bool:
    """Whether the task's restrictions let the worker run it; loose ones let every worker that has the resources."""
    options = task.options
    return (not options.workers and not options.resources) or worker in _may_run(state, task).members


def of_these(state: SchedulerCore, task: TaskState, workers: Container[WorkerState]) -> list[WorkerState]:
    """List those of the workers that the restrictions of a restricted task let run it; see `may_run`."""
    return [worker for worker in _may_run(state, task).workers if worker in workers]


def _may_run(state: SchedulerCore, task: TaskState) -> Allowed:
    options = task.options
    names = () if options.allow_other_workers else tuple(options.workers)
    return _allowed(state, (names, tuple(sorted(options.resources.items()))))


def _allowed(state: SchedulerCore, demand: Demand) -> Allowed:
    found = state.allowed.get(demand)
    if found is None:
        names, resources = demand
        if names:
            candidates = dict.fromkeys(worker for name in names for worker in workers_named(state, name))
        else:
            candidates = dict.fromkeys(state.workers.values())
        if len(state.allowed) >= REMEMBERED:
            state.allowed.clear()
        found = state.allowed[demand] = Allowed(worker for worker in candidates if has_resources(worker, resources))
    return found


def _all_running(state: SchedulerCore, allowed: Allowed) -> list[WorkerState]:
    running = state.running
    return [worker for worker in allowed.workers if worker in running]


def _running(state: SchedulerCore, allowed: Allowed) -> list[WorkerState]:
    workers, running = allowed.workers, state.running
    if len(workers) <= SAMPLE:
        return _all_running(state, allowed)
    chosen: list[WorkerState] = []
    size = len(workers)
    for step in range(size):
        worker = workers[(allowed.turn + step) % size]
        if worker in running:
            chosen.append(worker)
            if len(chosen) == SAMPLE:
                break
    allowed.turn = (allowed.turn + step + 1) % size
    return chosen
