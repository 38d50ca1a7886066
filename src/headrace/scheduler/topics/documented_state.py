"""`distributed.scheduler.SchedulerState`: the documented members of a Scheduler that are about its records.

The records, and all decisions, are those of `state.core.SchedulerCore`; workers are given by address, name or record,
tasks by key or record. Nothing here calls these methods itself.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from headrace import clock
from headrace.common.keys import Key, to_wire
from headrace.messages.base import Payload
from headrace.messages.client import DesireKeys
from headrace.messages.worker import ReleasedData, RequestWhoHas
from headrace.scheduler.state import documented
from headrace.scheduler.state.checks.invariants import InvariantError, check, problem_of
from headrace.scheduler.state.checks.story import ErredTask, Transition, transitions
from headrace.scheduler.state.records.computations import Computation
from headrace.scheduler.state.records.tasks import TaskState
from headrace.scheduler.state.records.workers import WorkerState

from .documented import DocumentedMethods

decide_worker = documented.decide_among


class SchedulerState(DocumentedMethods):
    """Records of tasks, workers and clients, questions about them, and rules that move tasks.

    Attributes:
        transition_counter_max: how many transitions there may be; False for any number. For tests.
    """

    set_worker_status: Callable[[str, str], None]
    broadcast: Callable[..., Any]
    worker_send: Callable[[str, Any], None]
    transition_counter_max: int | bool = False

    # Settings and totals

    @property
    def UNKNOWN_TASK_DURATION(self) -> float:
        """Assumed seconds of a task whose prefix has not run yet."""
        return self.state.options.unknown_duration

    @property
    def WORKER_SATURATION(self) -> float:
        """Root-like tasks that a worker holds at a time, per thread."""
        return self.state.options.saturation

    @property
    def erred_tasks(self) -> deque[ErredTask]:
        """The latest failures, oldest first."""
        return self.state.erred_tasks

    @property
    def total_nthreads_history(self) -> list[tuple[float, int]]:
        """(seconds since the epoch, threads of all workers) after each change."""
        return list(self.state.total_nthreads_history)

    @property
    def idle_task_count(self) -> set[WorkerState]:
        """Workers with fewer tasks than threads."""
        return set(self.state.idle)

    @property
    def replicated_tasks(self) -> set[TaskState]:
        """Results that more than one worker holds."""
        return documented.replicated(self.state)

    @property
    def is_idle(self) -> bool:
        """Whether no task runs, waits for a place to run, or waits for others."""
        return documented.is_idle(self.state)

    def check_idle_saturated(self, ws: WorkerState, occ: float = -1.0) -> None:
        """Keep the sets of idle and saturated workers in step with one worker; `occ` is accepted and not needed."""
        documented.check_load(self.state, ws)

    def story(self, *keys_or_tasks_or_stimuli: Any) -> list[Transition]:
        """The logged transitions of these tasks, or with these stimuli, oldest first."""
        return transitions(self.state.story(*keys_or_tasks_or_stimuli))

    # Placement

    def is_rootish(self, ts: Any) -> bool:
        """Whether a task is one of many that need little."""
        return documented.is_rootish(self.state, self._task(ts))

    def is_unoccupied(self, ws: Any, occupancy: float, nprocessing: int) -> bool:
        """Whether a worker with so many expected seconds of work and so many tasks has room for more.

        It has with fewer tasks than threads, and with less than half of the work a thread that workers have on average.
        """
        return documented.is_unoccupied(self.state, self._worker(ws), occupancy, nprocessing)

    def decide_worker_non_rootish(self, ts: Any) -> WorkerState | None:
        """The worker where a task with dependencies would start earliest; `None` if none may run it."""
        return documented.decide_worker(self.state, self._task(ts))

    def decide_worker_rootish_queuing_disabled(self, ts: Any) -> WorkerState | None:
        """The worker for a root-like task that is not to be queued: that of its neighbours, or the least busy."""
        return documented.decide_sibling(self.state, self._task(ts))

    def decide_worker_rootish_queuing_enabled(self) -> WorkerState | None:
        """The least busy worker that has room for a root-like task; `None` if the task is to be queued."""
        return documented.decide_open(self.state)

    def bulk_schedule_unrunnable_after_adding_worker(self, ws: Any) -> dict[Key, str]:
        """What to do with tasks that no worker could run, now that there is this one: for `transitions`."""
        found = documented.runnable_on(self.state, self._worker(ws))
        return {task.key: "processing" for task in found}

    def stimulus_queue_slots_maybe_opened(self, *, stimulus_id: str) -> None:
        """Give queued tasks to workers that have room."""
        self.state.transitions({}, stimulus_id, clock.now())
        self.flush()

    def set_restrictions(self, worker: Mapping[Any, Iterable[str] | str | None]) -> None:
        """Restrict tasks that have not started to workers, by key: addresses, names or hosts; None for all."""
        for key, names in worker.items():
            chosen = [] if names is None else [names] if isinstance(names, str) else list(names)
            documented.set_restrictions(self._task(key), chosen)

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
        return documented.new_task(self.state, to_wire(key), spec, state, computation)

    def add_replica(self, ts: Any, ws: Any) -> None:
        """Record that a worker holds a copy of a result."""
        documented.add_replica(self._task(ts), self._worker(ws))

    def remove_replica(self, ts: Any, ws: Any) -> None:
        """Record that it no longer does."""
        documented.drop_replica(self._task(ts), self._worker(ws))

    def remove_all_replicas(self, ts: Any) -> None:
        """Record that no worker holds a copy, without telling any."""
        task = self._task(ts)
        for worker in list(task.who_has):
            documented.drop_replica(task, worker)

    def acquire_resources(self, ts: Any, ws: Any) -> None:
        """Account for the abstract resources that a task takes on a worker."""
        documented.claim(self._task(ts), self._worker(ws), 1)

    def release_resources(self, ts: Any, ws: Any) -> None:
        """Account for their return."""
        documented.claim(self._task(ts), self._worker(ws), -1)

    # Messages of clients and workers

    def client_desires_keys(self, keys: Iterable[Key], client: str) -> None:
        """A client wants existing tasks."""
        message = DesireKeys([to_wire(key) for key in keys])
        self.state.handle(self._client(client), message, clock.now())
        self.flush()

    def report_on_key(self, key: Key | None = None, *, ts: Any = None, client: str | None = None) -> None:
        """Tell a client, or all that want it, how a task stands.

        Raises:
            KeyError: there is no such task or client.
        """
        task = self._task(ts if ts is not None else key)
        receivers = [client] if client is not None else [each.client_key for each in task.who_wants if not each.silent]
        for name in receivers:
            self.client_desires_keys([task.key], name)

    def handle_task_finished(self, key: Key, worker: Any, stimulus_id: str, **msg: Any) -> None:
        """A worker has computed a result; see `stimulus_task_finished`. Nothing for a worker that is gone."""
        if self.coerce_address(worker) in self.workers:
            self.stimulus_task_finished(worker, stimulus_id, key, **msg)

    def handle_task_erred(self, key: Key, stimulus_id: str, **msg: Any) -> None:
        """A task raised on `msg["worker"]`; see `stimulus_task_erred`."""
        self.stimulus_task_erred(msg.pop("worker"), stimulus_id, key, **msg)

    def handle_request_refresh_who_has(self, keys: Iterable[Key], worker: Any, stimulus_id: str) -> None:
        """A worker asks where data is; it is told."""
        self._from_worker(worker, RequestWhoHas([to_wire(key) for key in keys]))

    def release_worker_data(self, key: Key, worker: Any, stimulus_id: str) -> None:
        """A worker has dropped a copy."""
        if to_wire(key) in self.tasks and self.coerce_address(worker) in self.workers:
            self._from_worker(worker, ReleasedData(to_wire(key)))

    def handle_worker_status_change(self, status: Any, worker: Any, stimulus_id: str) -> None:
        """A worker runs, pauses or is about to close, by the status's name."""
        self.state.set_worker_status(self._worker(worker), getattr(status, "name", status), clock.now())
        self.flush()

    def send_all(self, client_msgs: Mapping[str, Iterable[Any]], worker_msgs: Mapping[str, Iterable[Any]]) -> None:
        """Send stream messages to clients and workers, by name and address; those that are gone are passed over."""
        for client, messages in client_msgs.items():
            for message in messages:
                self.client_send(client, message)
        for worker, messages in worker_msgs.items():
            for message in messages:
                self.worker_send(worker, message)

    # Checks

    def validate_state(self, allow_overlap: bool = False) -> None:
        """Check all records.

        Args:
            allow_overlap: accepted for compatibility.

        Raises:
            InvariantError: (an AssertionError) they contradict each other.
        """
        check(self.state)

    def validate_key(self, key: Key, ts: TaskState | None = None) -> None:
        """Check the record of a task.

        Raises:
            InvariantError: it contradicts itself, or others.
        """
        task = ts if ts is not None else self._task(key)
        problem = problem_of(self.state, task)
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
            state = self.state

            def count(task: TaskState, start: str, finish: str, now: float) -> None:
                if state.transition_counter > maximum:
                    raise InvariantError(f"more than {maximum} transitions: tasks seem to go in circles, at {task!r}")

            state.observers = (*state.observers, count)
