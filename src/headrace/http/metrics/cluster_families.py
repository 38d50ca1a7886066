"""What a scheduler knows of its workers and clients, and of how well the workers' threads are used."""

from __future__ import annotations

from collections.abc import Iterator

from headrace import config
from headrace.common.status import Status
from headrace.scheduler.shell import Shell
from headrace.scheduler.state.balance.scaling import target_workers

from .families import Catalogue, Described, Family

CLUSTER_TABLE = (
    Described("scheduler_clients", "gauge", "Clients that are connected"),
    Described("scheduler_client_connections_added_total", "counter", "Clients that have come"),
    Described("scheduler_client_connections_removed_total", "counter", "Clients that have gone"),
    Described("scheduler_desired_workers", "gauge", "Workers that the work there is now calls for"),
    Described(
        "scheduler_workers",
        "gauge",
        "Workers, by state: with fewer tasks than threads, with more than they can do at once, between these two, "
        "paused, or about to leave",
        ("state",),
    ),
    Described("scheduler_workers_added_total", "counter", "Workers that have come"),
    Described("scheduler_workers_removed_total", "counter", "Workers that have gone"),
    Described("scheduler_workers_lost_total", "counter", "Workers that have gone without being asked to: they died"),
    Described("scheduler_threads", "gauge", "Threads of all workers"),
    Described(
        "scheduler_thread_seconds_total",
        "counter",
        "Time that threads of workers have been there, busy or not, all together",
    ),
    Described(
        "scheduler_busy_thread_seconds_total",
        "counter",
        "Time that workers have spent on computing tasks, those that run now among them",
    ),
    Described(
        "scheduler_memory_bytes",
        "gauge",
        "Memory of all workers as of their last heartbeats: results in memory, what their processes take besides, "
        "results on disk, and the workers' limits",
        ("type",),
    ),
    Described("scheduler_last_time_total", "counter", "The scheduler's clock, in seconds"),
    Described("scheduler_stream_messages_total", "counter", "Messages that were taken, by who sent them", ("sender",)),
    Described(
        "scheduler_stream_seconds_total",
        "counter",
        "Time that was spent on doing what messages ask for, by who sent them",
        ("sender",),
    ),
)


def worker_states(shell: Shell) -> dict[str, int]:
    """How many workers are in each of the documented states."""
    core = shell.core
    statuses = [worker.status for worker in core.workers.values()]
    running = len(core.running)
    idle = sum(worker in core.running for worker in core.idle)
    saturated = sum(worker in core.running for worker in core.saturated)
    return {
        "idle": idle,
        "partially_saturated": running - idle - saturated,
        "saturated": saturated,
        "paused": statuses.count(Status.paused),
        "retiring": statuses.count(Status.closing_gracefully),
    }


def cluster_families(catalogue: Catalogue, shell: Shell, now: float, busy: float) -> Iterator[Family]:
    """The values of now.

    Args:
        now: by the clock that is never set.
        busy: seconds that workers have spent on computing.
    """
    core, family = shell.core, catalogue.family
    tallies = core.tallies
    yield family("scheduler_clients", [((), len(core.clients))])
    yield family("scheduler_client_connections_added_total", [((), tallies.clients_added)])
    yield family("scheduler_client_connections_removed_total", [((), tallies.clients_removed)])
    duration = config.parse_seconds(config.get("distributed.adaptive.target-duration", "5s"))
    yield family("scheduler_desired_workers", [((), target_workers(core, duration))])
    yield family("scheduler_workers", [((state,), count) for state, count in worker_states(shell).items()])
    yield family("scheduler_workers_added_total", [((), tallies.workers_added)])
    yield family("scheduler_workers_removed_total", [((), tallies.workers_removed)])
    yield family("scheduler_workers_lost_total", [((), tallies.workers_lost)])
    yield family("scheduler_threads", [((), core.total_nthreads)])
    yield family("scheduler_thread_seconds_total", [((), tallies.thread_seconds_until(core.total_nthreads, now))])
    yield family("scheduler_busy_thread_seconds_total", [((), busy)])
    memory = shell.memory
    yield family(
        "scheduler_memory_bytes",
        [
            (("managed",), memory.managed),
            (("unmanaged",), memory.unmanaged),
            (("spilled",), memory.spilled),
            (("limit",), shell.total_memory),
        ],
    )
    yield family("scheduler_last_time_total", [((), now)])
    times = shell.stream_times
    yield family("scheduler_stream_messages_total", [((sender,), count) for sender, count in times.counts.items()])
    yield family("scheduler_stream_seconds_total", [((sender,), seconds) for sender, seconds in times.seconds.items()])
