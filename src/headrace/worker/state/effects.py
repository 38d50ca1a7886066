"""The core's requests to its shell: one outbox, drained after each batch of events.

The shell acts on `execute` first (it takes hold of the values that the tasks need), then on `recall`, `interrupt`,
`free` and `gather`, then it sends `messages`; the order within each list is the order of the decisions.
"""

from __future__ import annotations

from typing import Any

import msgspec

from headrace.common.keys import Key
from headrace.messages.base import Payload
from headrace.messages.spending import Spent

from .tasks import TaskState

#: Of tasks that are expected to take less, only samples are measured closely: measuring takes a microsecond.
SHORT_SECONDS = 0.001
#: How closely a run is measured: by its seconds alone; with what it was given; with its use of the processor, which
#: stands for that of others; with that, and with how long it waited.
UNTIMED, COUNTED, SAMPLED, TIMED = range(4)


class TaskRun:
    """Run a task. A snapshot, because the record may be given another call while this one runs; the shell's own.

    Attributes:
        key: the task.
        function, arguments: pickles.
        dependencies: keys whose values it needs; they are here.
        report: whether a small result is to be pickled.
        annotations: what the task was annotated with.
        actor: whether the result is to live here as an actor.
        values: the shell's: by key, the values of the dependencies.
        started: the shell's: when a thread took it, in seconds by the monotonic clock; 0 until then.
        thread: the shell's: which one; 0 until then.
        loading: the shell's: when it began and ended to read values from disk; None if it had not to.
        call: the shell's: what was loaded for a coroutine that runs: function, arguments and named arguments.
        loaded, spent: the shell's, if it had: how many values and bytes, and what that took, by (activity, unit).
        needed_bytes: size of the dependencies' values; unset without.
        timed: how closely the run is measured: `UNTIMED`, `COUNTED`, `SAMPLED` or `TIMED`.
        submitted: the shell's, for those that are `TIMED`: when it was handed out to a free thread, by the monotonic
            clock; 0 if none was free.
        cpu: the shell's, for those that are `SAMPLED` or `TIMED`: seconds of the processor that the function took.
        measures: the shell's: (label, value, unit) of what the task has measured itself; unset for nothing.
        watch: the shell's: what it may be interrupted for; None for nothing so far.
    """

    __slots__ = (
        "actor",
        "annotations",
        "arguments",
        "call",
        "cpu",
        "dependencies",
        "function",
        "key",
        "loaded",
        "loading",
        "measures",
        "needed_bytes",
        "report",
        "spent",
        "started",
        "submitted",
        "thread",
        "timed",
        "values",
        "watch",
    )

    cpu: float
    loaded: tuple[int, int]
    measures: list[tuple[Any, float, str]]
    needed_bytes: int
    spent: Spent
    submitted: float

    def __init__(self, task: TaskState) -> None:
        self.key = task.key
        self.function: Payload = task.function
        self.arguments: Payload = task.arguments
        self.dependencies: list[Key] | None = None
        if task.dependencies:
            self._note_needed(task.dependencies)
        self.report = task.report
        self.annotations = task.annotations
        self.actor = task.actor
        self.values: dict[Any, Any] | None = None
        self.started = 0.0
        self.thread = 0
        self.loading: tuple[float, float] | None = None
        self.call: object = None
        self.watch: Any = None
        self.timed = UNTIMED
        if not 0.0 <= task.expected < SHORT_SECONDS:
            self.timed = TIMED
        elif task.dependencies or task.annotations:
            self.timed = COUNTED

    def _note_needed(self, dependencies: set[TaskState]) -> None:
        keys, nbytes = [], 0
        for dependency in dependencies:
            keys.append(dependency.key)
            nbytes += dependency.nbytes
        self.dependencies, self.needed_bytes = keys, nbytes


class GatherData(msgspec.Struct, gc=False):
    """Fetch these from a peer; `nbytes` is what they are believed to weigh."""

    worker: str
    keys: list[Key]
    nbytes: int


class Outbox:
    """Decisions that wait for the shell.

    Attributes:
        execute: runs for the executor.
        recall: tasks to take back from the executor if they have not started (answer: `ExecuteRecalled`).
        interrupt: tasks whose runs nobody wants, to be stopped, and whether at the price of a restart.
        gather: requests to peers.
        free: keys whose values are to be dropped.
        retry_later: busy peers, to be announced by `BusyOver` after a pause.
        messages: for the scheduler.
        transitions: `(key, start, finish)` for plugins, while someone watches.
    """

    __slots__ = ("execute", "free", "gather", "interrupt", "messages", "recall", "retry_later", "transitions")

    def __init__(self) -> None:
        self.execute: list[TaskRun] = []
        self.recall: list[TaskState] = []
        self.interrupt: list[tuple[Key, bool]] = []
        self.gather: list[GatherData] = []
        self.free: list[Key] = []
        self.retry_later: list[str] = []
        self.messages: list[Any] = []
        self.transitions: list[tuple[Key, str, str]] = []

    def __bool__(self) -> bool:
        return bool(
            self.execute
            or self.messages
            or self.free
            or self.gather
            or self.recall
            or self.interrupt
            or self.retry_later
            or self.transitions
        )
