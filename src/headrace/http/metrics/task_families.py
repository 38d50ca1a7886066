"""What a scheduler knows of its tasks: by state, by the first part of their keys, and of those that nobody can run."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

from headrace.scheduler.state.core import SchedulerCore
from headrace.scheduler.state.records.tasks import TaskState

from .families import Catalogue, Described, Family, Row

#: The states of tasks on record, as documented.
STATES = ("waiting", "no-worker", "released", "queued", "erred", "memory", "processing")
#: Of the tasks without a worker so many are looked at, and so many different demands are told apart.
MOST_TASKS = 5_000
MOST_DEMANDS = 50
OTHERS = "others"

_BY_PREFIX = ("task_prefix_name",)

TASK_TABLE = (
    Described("scheduler_tasks", "gauge", "Tasks on record, by state", ("state",)),
    Described("scheduler_task_groups", "gauge", "Groups of tasks on record"),
    Described("scheduler_tasks_forgotten_total", "counter", "Tasks that have gone off the record"),
    Described("scheduler_transitions_total", "counter", "Moves of tasks from one state to another"),
    Described(
        "scheduler_tasks_suspicious_total",
        "counter",
        "Deaths of workers that are put down to tasks of a prefix",
        _BY_PREFIX,
    ),
    Described(
        "scheduler_tasks_compute_seconds_total",
        "counter",
        "Time that workers spent on computing tasks that have ended, by prefix",
        _BY_PREFIX,
    ),
    Described(
        "scheduler_tasks_transfer_seconds_total",
        "counter",
        "Time that workers spent on bringing data for tasks, by prefix",
        _BY_PREFIX,
    ),
    Described(
        "scheduler_tasks_running_seconds",
        "gauge",
        "Time that the tasks which run now have been running, as of the last heartbeats, by prefix",
        _BY_PREFIX,
    ),
    Described(
        "scheduler_tasks_recomputed_total",
        "counter",
        "Results that were computed again after they were lost",
        _BY_PREFIX,
    ),
    Described(
        "scheduler_tasks_output_bytes",
        "gauge",
        "Size of the results that tasks on record have produced, copies left out, by prefix",
        _BY_PREFIX,
    ),
    Described(
        "scheduler_prefix_state_totals_total",
        "counter",
        "How often tasks of a prefix have come into each state",
        ("task_prefix_name", "state"),
    ),
    Described(
        "scheduler_unrunnable_tasks",
        "gauge",
        "Tasks that no worker may run, by what they ask for",
        ("wants",),
    ),
    Described(
        "scheduler_unrunnable_seconds",
        "gauge",
        "How long the oldest of the tasks has been waiting that no worker may run, by what they ask for",
        ("wants",),
    ),
    Described(
        "scheduler_occupancy_seconds", "gauge", "Time that the tasks on workers are expected to take, all together"
    ),
)


class SecondsSpent(NamedTuple):
    """Seconds that workers have spent on tasks, by prefix.

    Attributes:
        ended: by action, on tasks that have ended.
        running: on those that run now, as of the workers' last heartbeats.
    """

    ended: dict[str, dict[str, float]]
    running: dict[str, float]

    @property
    def busy(self) -> float:
        """Seconds of computing, all together."""
        return sum([spent.get("compute", 0.0) for spent in self.ended.values()]) + sum(self.running.values())


def seconds_spent(core: SchedulerCore) -> SecondsSpent:
    """The seconds of now."""
    running: dict[str, float] = {}
    for worker in core.workers.values():
        for task, seconds in worker.executing.items():
            if task in worker.processing:
                name = task.group.prefix.name
                running[name] = running.get(name, 0.0) + seconds
    return SecondsSpent({name: prefix.seconds_spent for name, prefix in core.tasks.prefixes.items()}, running)


def task_families(catalogue: Catalogue, core: SchedulerCore, now: float, spent: SecondsSpent) -> Iterator[Family]:
    """The values of now; costs in proportion to prefixes and groups, not to tasks.

    Args:
        now: by the clock that is never set.
        spent: what `seconds_spent` gives.
    """
    present = dict.fromkeys(STATES, 0)
    totals: list[Row] = []
    compute: list[Row] = []
    transfer: list[Row] = []
    suspicious: list[Row] = []
    recomputed: list[Row] = []
    nbytes: list[Row] = []
    forgotten = 0
    for group in core.tasks.groups.values():
        entered, left = group.entered, group.left
        for state in STATES:
            present[state] += entered[state] - left[state]
    for name, prefix in core.tasks.prefixes.items():
        label = (name,)
        counts = prefix.state_counts
        forgotten += counts["forgotten"]
        totals += [((name, state), count) for state, count in counts.items() if count]
        ended = spent.ended[name]
        compute.append((label, ended.get("compute", 0.0)))
        transfer.append((label, ended.get("transfer", 0.0)))
        suspicious.append((label, prefix.suspicious))
        recomputed.append((label, prefix.recomputed))
        nbytes.append((label, prefix.nbytes_total))
    family = catalogue.family
    yield family("scheduler_tasks", [((state,), count) for state, count in present.items()])
    yield family("scheduler_task_groups", [((), len(core.tasks.groups))])
    yield family("scheduler_tasks_forgotten_total", [((), forgotten)])
    yield family("scheduler_transitions_total", [((), core.transition_counter)])
    yield family("scheduler_tasks_suspicious_total", suspicious)
    yield family("scheduler_tasks_compute_seconds_total", compute)
    yield family("scheduler_tasks_transfer_seconds_total", transfer)
    yield family("scheduler_tasks_running_seconds", [((name,), seconds) for name, seconds in spent.running.items()])
    yield family("scheduler_tasks_recomputed_total", recomputed)
    yield family("scheduler_tasks_output_bytes", nbytes)
    yield family("scheduler_prefix_state_totals_total", totals)
    counted, waited = _unrunnable(core, now)
    yield family("scheduler_unrunnable_tasks", counted)
    yield family("scheduler_unrunnable_seconds", waited)
    yield family("scheduler_occupancy_seconds", [((), max(0.0, core.total_occupancy))])


def _unrunnable(core: SchedulerCore, now: float) -> tuple[list[Row], list[Row]]:
    """How many tasks no worker may run, and for how long, by their demand; the oldest come first."""
    counts: dict[str, int] = {}
    since: dict[str, float] = {}
    for task, began in islice(core.unrunnable.items(), MOST_TASKS):
        demand = demand_of(task)
        if demand not in counts and len(counts) >= MOST_DEMANDS:
            demand = OTHERS
        counts[demand] = counts.get(demand, 0) + 1
        since[demand] = min(began, since.get(demand, began))
    rest = len(core.unrunnable) - sum(counts.values())
    if rest:
        counts[OTHERS] = counts.get(OTHERS, 0) + rest
        since.setdefault(OTHERS, now)
    return [((demand,), count) for demand, count in counts.items()], [
        ((demand,), max(0.0, now - began)) for demand, began in since.items()
    ]


def demand_of(task: TaskState) -> str:
    """What a task asks of a worker, in one short text; "any worker" if nothing."""
    options = task.options
    wants = [f"{name}={amount:g}" for name, amount in sorted((options.resources or {}).items())]
    if options.workers and not options.allow_other_workers:
        named = sorted(map(str, options.workers))
        wants.append("worker " + " or ".join(named[:3]) + (f" or {len(named) - 3} others" if len(named) > 3 else ""))
    return ", ".join(wants) or "any worker"
