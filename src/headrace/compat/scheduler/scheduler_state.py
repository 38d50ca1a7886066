"""`distributed.scheduler.SchedulerState`: the documented members of a Scheduler that are about its records.

The records, and all decisions, are those of `SchedulerCore`; workers are given by address, name or record, tasks by key
or record. Nothing here calls these methods itself.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from headrace.common.keys import Key, to_wire
from headrace.compat.core.server_members import DocumentedServer
from headrace.messages.base import Payload
from headrace.scheduler.server import SchedulerServer
from headrace.scheduler.shell import Shell
from headrace.scheduler.state.checks.invariants import InvariantError, check, problem_of
from headrace.scheduler.state.checks.story import ErredTask, Transition, transitions
from headrace.scheduler.state.core import SchedulerCore
from headrace.scheduler.state.placing import load
from headrace.scheduler.state.records.clients import ClientState
from headrace.scheduler.state.records.computations import Computation
from headrace.scheduler.state.records.groups import TaskGroup, TaskPrefix
from headrace.scheduler.state.records.memory_readings import MemoryState
from headrace.scheduler.state.records.tasks import TaskState
from headrace.scheduler.state.records.workers import WorkerState
from headrace.scheduler.topics.inspection import Inspection

from . import record_questions
from .forwarding import HeldBy, forwarded

decide_worker = record_questions.decide_among


def _memory_setting(name: str, doc: str) -> Any:
    """A property of a scheduler that is one of the shell's `memory_settings`."""

    def read(scheduler: SchedulerServer) -> Any:
        return getattr(scheduler.shell.memory_settings, name)

    def write(scheduler: SchedulerServer, value: Any) -> None:
        scheduler.shell.memory_settings = replace(scheduler.shell.memory_settings, **{name: value})

    return property(read, write, doc=doc)


class SchedulerState(SchedulerServer, DocumentedServer):
    """Records of tasks, workers and clients, questions about them, and rules that move tasks.

    Attributes:
        transition_counter_max: how many transitions there may be; False for any number. For tests.
    """

    transition_counter_max: int | bool = False

    plugins: HeldBy[dict[str, Any]] = HeldBy("shell", "plugins")
    extensions: HeldBy[dict[str, Any]] = HeldBy("shell", "extensions")
    task_metadata: HeldBy[dict[Any, Any]] = HeldBy("shell", "task_metadata")

    MEMORY_RECENT_TO_OLD_TIME = _memory_setting(
        "recent_to_old_time", "Seconds after which memory that no result accounts for counts as old."
    )
    MEMORY_REBALANCE_MEASURE = _memory_setting("measure", "The reading by which `rebalance` compares workers.")
    MEMORY_REBALANCE_SENDER_MIN = _memory_setting("sender_min", "Share of its limit above which a worker gives data.")
    MEMORY_REBALANCE_RECIPIENT_MAX = _memory_setting("recipient_max", "Share of its limit below which a worker takes.")
    MEMORY_REBALANCE_HALF_GAP = _memory_setting("half_gap", "Half the share of the limit by which both must differ.")

    log_event = forwarded(Shell.log_event, "shell")
    story = forwarded(Inspection.story, "inspection")

    @property
    def state(self) -> SchedulerCore:
        """The state machine, whose records are offered below under their documented names."""
        return self.core

    # Records

    def _task(self, task: TaskState | Key | None) -> TaskState:
        if isinstance(task, TaskState):
            return task
        found = self.tasks.get(to_wire(task)) if task is not None else None
        if found is None:
            raise KeyError(f"the scheduler does not know the task {task!r}")
        return found

    def _worker(self, worker: object) -> WorkerState:
        if isinstance(worker, WorkerState):
            return worker
        found = self.workers.get(self.parts.directory.coerce_address(worker))
        if found is None:
            raise KeyError(f"there is no worker {worker!r}")
        return found

    def _client(self, client: ClientState | str) -> ClientState:
        if isinstance(client, ClientState):
            return client
        if client not in self.clients:
            raise KeyError(f"there is no client {client!r}")
        return self.clients[client]

    @property
    def tasks(self) -> dict[Any, TaskState]:
        """{key: TaskState}"""
        return self.core.tasks

    @property
    def task_groups(self) -> dict[str, TaskGroup]:
        return self.core.tasks.groups

    @property
    def task_prefixes(self) -> dict[str, TaskPrefix]:
        return self.core.tasks.prefixes

    @property
    def workers(self) -> dict[str, WorkerState]:
        """{address: WorkerState}"""
        return self.core.workers

    @property
    def clients(self) -> dict[str, ClientState]:
        """{name: ClientState}"""
        return self.core.clients

    @property
    def aliases(self) -> dict[Any, str]:
        return self.core.aliases

    @property
    def host_info(self) -> dict[str, dict[str, Any]]:
        return self.core.host_info

    @property
    def unrunnable(self) -> dict[TaskState, float]:
        """Tasks in state no-worker."""
        return self.core.unrunnable

    @property
    def queued(self) -> Any:
        return self.core.queued

    @property
    def running(self) -> set[WorkerState]:
        return set(self.core.running)

    @property
    def idle(self) -> dict[str, WorkerState]:
        return {worker.address: worker for worker in self.core.idle}

    @property
    def saturated(self) -> set[WorkerState]:
        return set(self.core.saturated)

    @property
    def resources(self) -> dict[str, dict[str, float]]:
        return self.core.resources

    @property
    def cumulative_worker_metrics(self) -> dict[tuple[Any, ...], float]:
        """What workers have spent on activities: see `SpansSchedulerExtension`."""
        metrics: dict[tuple[Any, ...], float] = self.shell.extensions["spans"].cumulative_worker_metrics
        return metrics

    @property
    def bandwidth(self) -> float:
        """Average speed of transfers between workers, as these measure it, in bytes per second."""
        return self.core.bandwidth

    @bandwidth.setter
    def bandwidth(self, bandwidth: float) -> None:
        self.core.bandwidth = float(bandwidth)

    @property
    def bandwidth_workers(self) -> dict[tuple[str, str], float]:
        """The same by addresses of (receiver, sender)."""
        return self.core.bandwidth_workers

    @property
    def bandwidth_types(self) -> dict[str, float]:
        """The same by the type of what was sent."""
        return self.core.bandwidth_types

    @property
    def total_nthreads(self) -> int:
        return self.core.total_nthreads

    @property
    def total_occupancy(self) -> float:
        return self.core.total_occupancy

    @property
    def total_memory(self) -> int:
        """Sum of the workers' memory limits in bytes."""
        return sum(worker.memory_limit for worker in list(self.workers.values()))  # shown from other threads

    @property
    def memory(self) -> MemoryState:
        """Memory of the whole cluster."""
        return MemoryState.sum(*[worker.memory for worker in self.workers.values()])

    @property
    def n_tasks(self) -> int:
        return len(self.core.tasks)

    @property
    def computations(self) -> deque[Any]:
        return self.core.computations

    @property
    def transition_log(self) -> deque[Transition]:
        """The latest transitions of all tasks, oldest first."""
        return deque(transitions(self.core.transition_log))

    @property
    def transition_counter(self) -> int:
        return self.core.transition_counter

    @property
    def task_duration(self) -> dict[str, float]:
        """Expected seconds by prefix, of those that have run."""
        return {
            name: prefix.duration_average for name, prefix in self.task_prefixes.items() if prefix.duration_average >= 0
        }

    @property
    def validate(self) -> bool:
        """Whether all records are checked after every event."""
        return self.core.validate

    @validate.setter
    def validate(self, validate: bool) -> None:
        self.core.validate = bool(validate)

    # Settings and totals

    @property
    def UNKNOWN_TASK_DURATION(self) -> float:
        """Assumed seconds of a task whose prefix has not run yet."""
        return self.core.options.unknown_duration

    @UNKNOWN_TASK_DURATION.setter
    def UNKNOWN_TASK_DURATION(self, seconds: float) -> None:
        self.core.change_options(self.shell.now(), unknown_duration=float(seconds))

    @property
    def WORKER_SATURATION(self) -> float:
        """Root-like tasks that a worker holds at a time, per thread."""
        return self.core.options.saturation

    @WORKER_SATURATION.setter
    def WORKER_SATURATION(self, saturation: float) -> None:
        self.core.change_options(self.shell.now(), saturation=float(saturation))
        self.shell.flush()

    @property
    def allowed_failures(self) -> int:
        """How many workers may die under a task before it errs."""
        return self.core.options.allowed_failures

    @allowed_failures.setter
    def allowed_failures(self, number: int) -> None:
        self.core.change_options(self.shell.now(), allowed_failures=int(number))

    @property
    def generation(self) -> int:
        """Counts the submissions that priorities tell apart."""
        return self.core.generation

    @property
    def erred_tasks(self) -> deque[ErredTask]:
        """The latest failures, oldest first."""
        return self.core.erred_tasks

    @property
    def total_nthreads_history(self) -> list[tuple[float, int]]:
        """(seconds since the epoch, threads of all workers) after each change."""
        return list(self.core.total_nthreads_history)

    @property
    def idle_task_count(self) -> set[WorkerState]:
        """Workers with fewer tasks than threads."""
        return set(self.core.idle)

    @property
    def replicated_tasks(self) -> set[TaskState]:
        """Results that more than one worker holds."""
        return record_questions.replicated(self.core)

    @property
    def is_idle(self) -> bool:
        """Whether no task runs, waits for a place to run, or waits for others."""
        return record_questions.is_idle(self.core)

    def check_idle_saturated(self, ws: WorkerState, occ: float = -1.0) -> None:
        """Keep the sets of idle and saturated workers in step with one worker; `occ` is accepted and not needed."""
        record_questions.check_load(self.core, ws)

    # Placement

    def decide_worker(self, ts: TaskState | Key) -> WorkerState | None:
        """The worker that a task would best run on now; `None` if none may run it."""
        return record_questions.decide_worker(self.core, self._task(ts))

    def worker_objective(self, ts: TaskState | Key, ws: object) -> tuple[float, int]:
        """The cost of a choice of worker: seconds until the task could start there, then bytes stored there."""
        return record_questions.worker_objective(self.core, self._task(ts), self._worker(ws))

    def valid_workers(self, ts: TaskState | Key) -> set[WorkerState] | None:
        """The running workers that may run a task, by its restrictions; `None` when all may."""
        return record_questions.valid_workers(self.core, self._task(ts))

    def get_comm_cost(self, ts: TaskState | Key, ws: object) -> float:
        """Seconds expected for bringing to a worker what a task needs."""
        return load.comm_cost(self.core, self._worker(ws), self._task(ts))

    def get_task_duration(self, ts: TaskState | Key, default: float | None = None) -> float:
        """Seconds that a task is expected to compute.

        Args:
            default: for tasks of a prefix that has not run; as configured by default.
        """
        average = self._task(ts).prefix.duration_average
        if average >= 0:
            return average
        return self.core.options.unknown_duration if default is None else default

    def is_rootish(self, ts: TaskState | Key) -> bool:
        """Whether a task is one of many that need little."""
        return record_questions.is_rootish(self.core, self._task(ts))

    def is_unoccupied(self, ws: object, occupancy: float, nprocessing: int) -> bool:
        """Whether a worker with so many expected seconds of work and so many tasks has room for more.

        It has with fewer tasks than threads, and with less than half of the work a thread that workers have on average.
        """
        return record_questions.is_unoccupied(self.core, self._worker(ws), occupancy, nprocessing)

    def decide_worker_non_rootish(self, ts: TaskState | Key) -> WorkerState | None:
        """The worker where a task with dependencies would start earliest; `None` if none may run it."""
        return record_questions.decide_worker(self.core, self._task(ts))

    def decide_worker_rootish_queuing_disabled(self, ts: TaskState | Key) -> WorkerState | None:
        """The worker for a root-like task that is not to be queued: that of its neighbours, or the least busy."""
        return record_questions.decide_sibling(self.core, self._task(ts))

    def decide_worker_rootish_queuing_enabled(self) -> WorkerState | None:
        """The least busy worker that has room for a root-like task; `None` if the task is to be queued."""
        return record_questions.decide_open(self.core)

    def bulk_schedule_unrunnable_after_adding_worker(self, ws: object) -> dict[Key, str]:
        """Recommendations for tasks that no worker could run, now that there is this one: for `transitions`."""
        found = record_questions.runnable_on(self.core, self._worker(ws))
        return {task.key: "processing" for task in found}

    def stimulus_queue_slots_maybe_opened(self, *, stimulus_id: str) -> None:
        """Give queued tasks to workers that have room."""
        self.core.transitions({}, stimulus_id, self.shell.now())
        self.shell.flush()

    def set_restrictions(self, worker: Mapping[Any, Iterable[str] | str | None]) -> None:
        """Restrict tasks that have not started to workers, by key: addresses, names or hosts; None for all."""
        for key, names in worker.items():
            chosen = [] if names is None else [names] if isinstance(names, str) else list(names)
            record_questions.set_restrictions(self._task(key), chosen)

    # Records

    def new_task(
        self, key: Key, spec: tuple[Payload, Payload] | None, state: str, computation: Computation | None = None
    ) -> TaskState:
        """Make the record of a task that is not known.

        Args:
            spec: the pickled function and the pickled `(args, kwargs)`; None for data that no task computes.
            state: its state: "released", from which `transitions` may move it.
            computation: that it is a part of.

        Raises:
            ValueError: it is known, or the state is another.
        """
        return record_questions.new_task(self.core, to_wire(key), spec, state, computation)

    def add_replica(self, ts: TaskState | Key, ws: object) -> None:
        """Record that a worker holds a copy of a result."""
        record_questions.add_replica(self._task(ts), self._worker(ws))

    def remove_replica(self, ts: TaskState | Key, ws: object) -> None:
        """Record that it no longer does."""
        record_questions.drop_replica(self._task(ts), self._worker(ws))

    def remove_all_replicas(self, ts: TaskState | Key) -> None:
        """Record that no worker holds a copy, without telling any."""
        task = self._task(ts)
        for worker in list(task.who_has):
            record_questions.drop_replica(task, worker)

    def acquire_resources(self, ts: TaskState | Key, ws: object) -> None:
        """Account for the abstract resources that a task takes on a worker."""
        record_questions.claim(self._task(ts), self._worker(ws), 1)

    def release_resources(self, ts: TaskState | Key, ws: object) -> None:
        """Account for their return."""
        record_questions.claim(self._task(ts), self._worker(ws), -1)

    def coerce_hostname(self, host: object) -> str:
        """The host of a worker that is given by name; others stay as they are."""
        address = self.aliases.get(host)
        return self.workers[address].host if address in self.workers else str(host)

    # Checks

    def validate_state(self, allow_overlap: bool = False) -> None:
        """Check all records.

        Args:
            allow_overlap: accepted for compatibility.

        Raises:
            InvariantError: (an AssertionError) they contradict each other.
        """
        check(self.core)

    def validate_key(self, key: Key, ts: TaskState | None = None) -> None:
        """Check the record of a task.

        Raises:
            InvariantError: it contradicts itself, or others.
        """
        task = ts if ts is not None else self._task(key)
        problem = problem_of(self.core, task)
        if problem:
            raise InvariantError(f"{task!r}: {problem}")

    def _validate_as(self, key: Key, state: str) -> None:
        task = self._task(key)
        if task.state != state:
            raise InvariantError(f"{task!r} should be {state}")
        self.validate_key(key, task)

    def validate_released(self, key: Key) -> None:
        """Check the record of a task that should be released; the other `validate_…` likewise."""
        self._validate_as(key, "released")

    def validate_waiting(self, key: Key) -> None:
        self._validate_as(key, "waiting")

    def validate_queued(self, key: Key) -> None:
        self._validate_as(key, "queued")

    def validate_processing(self, key: Key) -> None:
        self._validate_as(key, "processing")

    def validate_memory(self, key: Key) -> None:
        self._validate_as(key, "memory")

    def validate_no_worker(self, key: Key) -> None:
        self._validate_as(key, "no-worker")

    def validate_erred(self, key: Key) -> None:
        self._validate_as(key, "erred")

    def limit_transitions(self, maximum: int | bool) -> None:
        """Fail once there are more transitions than this: for tests that look for endless ones."""
        self.transition_counter_max = maximum
        if maximum:
            core = self.core

            def count(task: TaskState, start: str, finish: str, now: float) -> None:
                if core.transition_counter > maximum:
                    raise InvariantError(f"more than {maximum} transitions: tasks seem to go in circles, at {task!r}")

            self.shell.plugin_registry.watch_transitions(count)
