"""The core's requests to its shell: one outbox, drained after each batch of events.

The shell acts on `execute` first (it takes hold of the values that the tasks need), then on `recall`, `interrupt`,
`free` and `gather`, then it sends `messages`; the order within each list is the order of the decisions.
"""

from __future__ import annotations

from typing import Any

import msgspec

from headrace.common.keys import Key
from headrace.messages.base import Payload

from .tasks import TaskState


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
        watch: the shell's: what it may be interrupted for; None for nothing so far.
    """

    __slots__ = (
        "actor",
        "annotations",
        "arguments",
        "call",
        "dependencies",
        "function",
        "key",
        "loading",
        "report",
        "started",
        "thread",
        "values",
        "watch",
    )

    def __init__(self, task: TaskState) -> None:
        self.key = task.key
        self.function: Payload = task.function
        self.arguments: Payload = task.arguments
        self.dependencies = [dependency.key for dependency in task.dependencies] if task.dependencies else None
        self.report = task.report
        self.annotations = task.annotations
        self.actor = task.actor
        self.values: dict[Any, Any] | None = None
        self.started = 0.0
        self.thread = 0
        self.loading: tuple[float, float] | None = None
        self.call: object = None
        self.watch: Any = None


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
