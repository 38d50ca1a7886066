"""The documented `WorkerState`: a view of a worker's core, with documented events, instructions and attributes.

Alone it drives a core of its own. The `state` of a live `Worker` is such a view of that worker's core, which the worker
drives in the core's own words (`handle_batch`, `drain`).
"""

from __future__ import annotations

import random
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any, Generic, TypedDict, TypeVar

from headrace.common.keys import Key
from headrace.messages import worker as messages
from headrace.worker.execution.result_sizes import nbytes_of, type_name_of
from headrace.worker.state import TaskState, WorkerCore
from headrace.worker.state import events as core
from headrace.worker.state.invariants import InvariantViolation, check
from headrace.worker.state.mover import LogLine
from headrace.worker.state.tasks import Priority

from . import state_events as events
from .instructions import Instruction, InvalidTaskState, instructions_of

T = TypeVar("T")

#: Number under which the core is told of each task's call, just before the task.
_CALL = 0


class StartStop(TypedDict, total=False):
    """Something that was done for a task: action, and when it began and ended, in seconds since the epoch."""

    action: str
    start: float
    stop: float
    source: str


class TaskCounter:
    """Counts of the tasks in each state, and the seconds that they have spent there, all together."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str]] = Counter()
        self._seconds: Counter[tuple[str, str]] = Counter()
        self._since = time.monotonic()

    def _advance(self) -> None:
        now = time.monotonic()
        elapsed, self._since = now - self._since, now
        for entry, count in self._counts.items():
            self._seconds[entry] += count * elapsed  # type: ignore[assignment]

    def new_task(self, ts: TaskState) -> None:
        """A task has come."""
        self._advance()
        self._counts[ts.prefix, ts.state] += 1

    def transitions(self, prev_states: Mapping[TaskState, str]) -> None:
        """Tasks have moved, from these states."""
        self._advance()
        for task, before in prev_states.items():
            self._counts[task.prefix, before] -= 1
            if task.state != "forgotten":
                self._counts[task.prefix, task.state] += 1

    def current_count(self, by_prefix: bool = True) -> Counter[Any]:
        """Tasks by (prefix, state), or by state."""
        return _by(+self._counts, by_prefix)

    def cumulative_elapsed(self, by_prefix: bool = True) -> Counter[Any]:
        """Seconds that tasks have spent in each (prefix, state), or state; those that are gone count as well."""
        self._advance()
        return _by(+self._seconds, by_prefix)


def _by(counts: Counter[tuple[str, str]], by_prefix: bool) -> Counter[Any]:
    if by_prefix:
        return counts
    states: Counter[Any] = Counter()
    for (_, state), count in counts.items():
        states[state] += count
    return states


class CoreAttribute(Generic[T]):
    """An attribute of a `WorkerState` that is the core's: it is read and set there."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, state: WorkerState, owner: type) -> T:
        found: T = getattr(state.core, self._name)
        return found

    def __set__(self, state: WorkerState, value: T) -> None:
        setattr(state.core, self._name, value)


class WorkerState:
    """State of one worker.

    Args:
        nthreads: tasks that run at a time.
        address: this worker's own; it is never fetched from.
        data: where `handle_stimulus` puts values.
        threads, plugins: accepted for compatibility.
        resources: amounts of abstract resources by name.
        transfer_incoming_count_limit: peers that are asked at a time.
        validate: check all records after each event.
        transition_counter_max: how many transitions there may be; False for any number.
        transfer_incoming_bytes_limit, transfer_message_bytes_limit: bytes asked of all peers, and of one, at a time.
        seed, log_length: see `WorkerCore`.

    Attributes:
        core: what decides; other attributes are described there.
    """

    address = CoreAttribute[str]()
    available_resources = CoreAttribute[dict[str, float]]()
    busy_workers = CoreAttribute[set[str]]()
    close_requested = CoreAttribute[str | None]()
    constrained = CoreAttribute[dict[tuple[tuple[str, float], ...], list[tuple[Priority, int, TaskState]]]]()
    data_needed = CoreAttribute[dict[str, list[tuple[Priority, int, TaskState]]]]()
    executed_count = CoreAttribute[int]()
    executing = CoreAttribute[set[TaskState]]()
    fetch_queue = CoreAttribute[list[tuple[Priority, int, TaskState, str | None]]]()
    has_what = CoreAttribute[dict[str, set[TaskState]]]()
    in_flight_tasks = CoreAttribute[set[TaskState]]()
    in_flight_workers = CoreAttribute[dict[str, set[Key]]]()
    log = CoreAttribute[deque[LogLine]]()
    long_running = CoreAttribute[set[TaskState]]()
    missing_dep_flight = CoreAttribute[set[TaskState]]()
    nbytes = CoreAttribute[int]()
    nthreads = CoreAttribute[int]()
    ready = CoreAttribute[list[tuple[Priority, int, TaskState]]]()
    running = CoreAttribute[bool]()
    stimulus_log = CoreAttribute[deque[Any]]()
    tasks = CoreAttribute[dict[Key, TaskState]]()
    total_resources = CoreAttribute[dict[str, float]]()
    transfer_incoming_bytes = CoreAttribute[int]()
    transfer_incoming_bytes_limit = CoreAttribute[float]()
    transfer_incoming_count_limit = CoreAttribute[int]()
    transfer_incoming_count_total = CoreAttribute[int]()
    transfer_message_bytes_limit = CoreAttribute[float]()
    transition_counter = CoreAttribute[int]()
    transition_counter_max = CoreAttribute[int | bool]()
    validate = CoreAttribute[bool]()
    waiting = CoreAttribute[set[TaskState]]()

    def __init__(
        self,
        *,
        nthreads: int = 1,
        address: str | None = None,
        data: MutableMapping[Key, object] | None = None,
        threads: dict[Key, int] | None = None,
        plugins: dict[str, Any] | None = None,
        resources: Mapping[str, float] | None = None,
        transfer_incoming_count_limit: int = 9999,
        validate: bool = True,
        transition_counter_max: int | bool = False,
        transfer_incoming_bytes_limit: float = float("inf"),
        transfer_message_bytes_limit: float = float("inf"),
        seed: int = 0,
        log_length: int = 20_000,
    ) -> None:
        self.core = WorkerCore(
            address=address or "",
            nthreads=nthreads,
            resources=dict(resources or {}),
            validate=validate,
            outgoing_limit=transfer_incoming_count_limit,
            message_bytes_limit=transfer_message_bytes_limit,
            incoming_bytes_limit=transfer_incoming_bytes_limit,
            seed=seed,
            log_length=log_length,
            transition_counter_max=transition_counter_max,
        )
        self.data: MutableMapping[Key, object] = {} if data is None else data
        self.threads: dict[Key, int] = {} if threads is None else threads
        self.plugins: dict[str, Any] = {} if plugins is None else plugins
        self.rng = random.Random(seed)

    # Events in, instructions out

    def handle_stimulus(self, *stims: events.StateMachineEvent) -> list[Instruction]:
        """Take events in order, and return what is to be done because of them.

        Raises:
            TypeError: something is no event.
            InvalidTransition, InvalidTaskState: a defect in this package.
        """
        found: list[Instruction] = []
        for event in stims:
            now, logged = time.time(), len(self.stimulus_log)
            if isinstance(event, events.UpdateDataEvent | events.GatherDepSuccessEvent):
                self.data.update(event.data)
            elif isinstance(event, events.ExecuteSuccessEvent) and event.key in self.tasks:
                self.data[event.key] = event.value
            try:
                self.core.handle_batch(self.meant(event), now)
            except InvariantViolation as error:
                raise InvalidTaskState(getattr(event, "key", ""), str(error), []) from error
            found += self._decided(event.stimulus_id, now)
            if self.validate:
                while len(self.stimulus_log) > logged:
                    self.stimulus_log.pop()  # what it meant to the core
                self.stimulus_log.append(event.to_loggable(handled=now))
        return found

    def _decided(self, stimulus_id: str, now: float) -> list[Instruction]:
        """Drain the core; what it wants back has always started here, since nobody keeps it waiting."""
        found: list[Instruction] = []
        while outbox := self.core.drain():
            found += instructions_of(outbox, stimulus_id, self.tasks)
            for key in outbox.free:
                self.data.pop(key, None)
            if outbox.recall:
                self.core.handle_batch([core.ExecuteRecalled(task.key, False) for task in outbox.recall], now)
        return found

    def meant(self, event: events.StateMachineEvent) -> list[Any]:
        """Translate a documented event into the core's own events and messages.

        Raises:
            TypeError: it is no such event.
        """
        same = events.SAME.get(type(event))
        if same is not None:
            return [same(event)]
        handler = _MEANINGS.get(type(event))
        if handler is None:
            raise TypeError(f"the worker's state machine knows no event such as {event!r}")
        return handler(self, event)

    # Stories and checks

    def story(self, *keys_or_tasks: Key | TaskState) -> list[LogLine]:
        """The moves of these tasks, oldest first; see `WorkerCore.story`."""
        return self.core.story(*keys_or_tasks)

    def validate_state(self) -> None:
        """Check all records.

        Raises:
            InvariantViolation: they contradict each other; with the story of the task concerned.
        """
        self.core.validate_state()

    def stimulus_story(self, *keys_or_tasks: Any) -> list[Any]:
        """The events that named these tasks, oldest first; kept only with `validate`."""
        keys = {getattr(each, "key", each) for each in keys_or_tasks}
        return [event for event in self.stimulus_log if keys & _keys_of(event)]

    def validate_task(self, ts: TaskState) -> None:
        """Check all records, of which this task's is one.

        Raises:
            InvalidTaskState: they contradict each other.
        """
        try:
            check(self.core)
        except InvariantViolation as error:
            raise InvalidTaskState(ts.key, ts.state, self.story(ts)) from error

    # Documented attributes

    @property
    def executing_count(self) -> int:
        """Tasks handed to the executor that have not seceded."""
        return self.core.executing_count

    @property
    def all_running_tasks(self) -> set[TaskState]:
        """Tasks whose functions run or are about to."""
        return self.core.all_running_tasks

    @property
    def transfer_incoming_count(self) -> int:
        """Peers that are being asked now."""
        return self.core.transfer_incoming_count

    @property
    def actors(self) -> dict[Key, object]:
        """Values of the actors that live here, as far as `data` has them."""
        return {key: self.data.get(key) for key, task in self.tasks.items() if task.actor and task.state == "memory"}

    @property
    def fetch_count(self) -> int:
        """Tasks whose data is to be fetched, and is not on its way."""
        return sum(task.state == "fetch" for task in self.tasks.values())

    @property
    def in_flight_tasks_count(self) -> int:
        """Tasks whose data is on its way."""
        return len(self.in_flight_tasks)

    @property
    def generation(self) -> int:
        """How often tasks were put into a queue: among tasks of equal priority, the first is first."""
        return self.core.counter

    @property
    def task_counter(self) -> TaskCounter:
        """Counts of the tasks that are here now."""
        counter = TaskCounter()
        for task in self.tasks.values():
            counter.new_task(task)
        return counter

    @property
    def transfer_incoming_bytes_throttle_threshold(self) -> int:
        """Bytes on their way below which the limit of peers alone decides; here every byte counts."""
        return 0


def _keys_of(event: Any) -> set[Any]:
    found = {getattr(event, "key", None)}
    for name in ("keys", "dependencies"):
        found.update(getattr(event, name, ()))
    for name in ("who_has", "data", "nbytes"):
        value = getattr(event, name, None)
        if isinstance(value, Mapping):
            found.update(value)
    return found


def _compute(state: WorkerState, event: events.ComputeTaskEvent) -> list[Any]:
    extras = messages.TaskExtras(event.resource_restrictions, event.actor, event.annotations, event.span_id)
    return [
        messages.DefineFunction(_CALL, event.run_spec),
        messages.ComputeTask(
            event.key,
            event.run_id,
            event.priority,  # type: ignore[arg-type]
            _CALL,
            b"",
            -1.0,
            False,
            list(event.who_has),
            [list(holders) for holders in event.who_has.values()],
            [event.nbytes.get(key, 1) for key in event.who_has],
            extras,
        ),
    ]


def _success(state: WorkerState, event: events.ExecuteSuccessEvent) -> list[Any]:
    name = event.type.__name__ if event.type is not None else type_name_of(event.value)
    return [core.ExecuteDone(event.key, event.nbytes, name, event.start, event.stop)]


def _gathered(state: WorkerState, event: events.GatherDepSuccessEvent) -> list[Any]:
    return [core.GatherDone(event.worker, {key: nbytes_of(value) for key, value in event.data.items()})]


def _not_loaded(state: WorkerState, event: events.GatherDepFailureEvent) -> list[Any]:
    reason = (event.exception, event.traceback, event.exception_text, event.traceback_text)
    keys = state.in_flight_workers.get(event.worker, ())
    return [core.GatherDone(event.worker, {}, {key: core.ExecuteFailed(key, *reason) for key in keys})]


def _scattered(state: WorkerState, event: events.UpdateDataEvent) -> list[Any]:
    return [core.DataStored({key: nbytes_of(value) for key, value in event.data.items()})]


def _cancel(state: WorkerState, event: events.CancelComputeEvent) -> list[Any]:
    task = state.tasks.get(event.key)
    waiting = task is not None and task.state in ("waiting", "ready", "constrained")
    return [messages.FreeKeys([event.key])] if waiting else []


def _steal(state: WorkerState, event: events.StealRequestEvent) -> list[Any]:
    task = state.tasks.get(event.key)
    return [messages.StealRequest(event.key, task.attempt if task is not None else -1)]


def _refresh(state: WorkerState, event: events.RefreshWhoHasEvent) -> list[Any]:
    sizes = [task.nbytes if (task := state.tasks.get(key)) is not None else -1 for key in event.who_has]
    return [messages.RefreshWhoHas(list(event.who_has), [list(each) for each in event.who_has.values()], sizes)]


def _peer_gone(state: WorkerState, event: events.RemoveWorkerEvent) -> list[Any]:
    tasks = list(state.has_what.get(event.worker, ()))
    if not tasks:
        return []
    left = [[address for address in task.who_has if address != event.worker] for task in tasks]
    return [messages.RefreshWhoHas([task.key for task in tasks], left, [task.nbytes for task in tasks])]


_MEANINGS: dict[type, Callable[[WorkerState, Any], list[Any]]] = {
    events.ComputeTaskEvent: _compute,
    events.ExecuteSuccessEvent: _success,
    events.GatherDepSuccessEvent: _gathered,
    events.GatherDepFailureEvent: _not_loaded,
    events.UpdateDataEvent: _scattered,
    events.CancelComputeEvent: _cancel,
    events.StealRequestEvent: _steal,
    events.RefreshWhoHasEvent: _refresh,
    events.RemoveWorkerEvent: _peer_gone,
}
