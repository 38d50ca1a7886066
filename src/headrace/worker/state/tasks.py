"""The record that a worker keeps of one task or one piece of data.

Records are plain: whatever changes a task's state lives in the transitions. Empty sets are shared and replaced on first
use, because an empty set of one's own costs 216 bytes and most tasks never need any.
"""

from __future__ import annotations

from typing import Any, Final, Literal, TypeAlias

from headrace.common.keys import Key, key_group, key_prefix
from headrace.messages.base import Payload

StateName: TypeAlias = Literal[
    "released",
    "waiting",
    "ready",
    "constrained",
    "executing",
    "long-running",
    "fetch",
    "flight",
    "missing",
    "memory",
    "error",
    "cancelled",
    "resumed",
    "rescheduled",
    "forgotten",
]

#: Smaller runs, or is fetched, earlier.
Priority: TypeAlias = tuple[float, float, int]

#: Stands for "no tasks yet"; typed loosely because it is replaced by a set before anything is added.
NOTHING: Final[Any] = frozenset()
#: Shared by the records of tasks that nobody annotated.
NO_ANNOTATIONS: Final[dict[str, Any]] = {}
#: Stands for "nothing was fetched for it"; never changed.
NO_TRANSFERS: Final[list[tuple[str, float, float]]] = []
#: Later than every priority that a scheduler gives.
LAST: Final[Priority] = (float("inf"), 0, 0)


class TaskState:
    """A task that this worker was asked to compute, or data that it holds or needs.

    Attributes:
        key: wire form of the task's key.
        actor: whether the result lives here as an actor.
        attempt: number of the assignment, repeated in every answer; -1 when this worker was not asked to compute it.
        function, function_number: the pickled callable and the number the scheduler gave it.
        arguments: pickled `(args, kwargs)`; None when this worker is not to compute it.
        duration: seconds that the scheduler expects; negative when unknown.
        expected: seconds that it may be queued ahead with; negative when it must wait for a free thread.
        ahead: what it adds to the backlog while it is handed out.
        report: whether a small result rides on the answer.
        priority: smaller runs, or is fetched, earlier.
        state: see `StateName`.
        previous: what still goes on (`executing`, `long-running`, `flight`) while the state is cancelled or resumed.
        next: what a resumed task does once that has ended (`fetch` or `waiting`).
        dependencies: tasks whose data it needs, until it has run; dependents: the inverse.
        waiting_for_data: dependencies that are not here yet; waiters: the inverse.
        who_has: peers that are believed to hold the data, while it is not here.
        coming_from: the peer it is being fetched from.
        replica: whether the scheduler wants a copy here although no task here needs one.
        resource_restrictions: amounts of abstract resources it takes while it runs.
        held_resources: what the run that goes on has taken.
        nbytes: size of the data in bytes; -1 when unknown.
        type: name of the type of the result.
        erred_thread: identity of the thread in which it failed; unset before.
        stored: how many values the worker had stored when this one came; unset before.
        seceded_after: seconds it had run when it left its thread's slot.
        transfers: (action, start, stop) of what was fetched for it, or read from disk; see `startstops`.
        given_metadata: what plugins or the task said of it; see `metadata`.
        retry: of a failure, whether the task's policy has it tried again after such an exception.
    """

    __slots__ = (
        "actor",
        "ahead",
        "annotations",
        "arguments",
        "attempt",
        "coming_from",
        "dependencies",
        "dependents",
        "duration",
        "erred_thread",
        "exception",
        "exception_text",
        "expected",
        "function",
        "function_number",
        "given_metadata",
        "held_resources",
        "key",
        "nbytes",
        "next",
        "previous",
        "priority",
        "replica",
        "report",
        "resource_restrictions",
        "retry",
        "seceded_after",
        "span_id",
        "start_time",
        "state",
        "stop_time",
        "stored",
        "suspicious_count",
        "traceback",
        "traceback_text",
        "transfers",
        "type",
        "waiters",
        "waiting_for_data",
        "who_has",
    )

    erred_thread: int
    stored: int

    def __init__(self, key: Key) -> None:
        self.key = key
        self.state: StateName = "released"
        self.actor = False
        self.attempt = -1
        self.priority: Priority = LAST
        self.function: Payload = None
        self.function_number = -1
        self.arguments: Payload = None
        self.duration = -1.0
        self.expected = -1.0
        self.ahead = 0.0
        self.report = False
        self.previous: StateName | None = None
        self.next: StateName | None = None
        self.dependencies: set[TaskState] = NOTHING
        self.dependents: set[TaskState] = NOTHING
        self.waiting_for_data: set[TaskState] = NOTHING
        self.waiters: set[TaskState] = NOTHING
        self.who_has: set[str] = NOTHING
        self.coming_from: str | None = None
        self.replica = False
        self.resource_restrictions: dict[str, float] | None = None
        self.held_resources: dict[str, float] | None = None
        self.annotations = NO_ANNOTATIONS
        self.span_id: str | None = None
        self.nbytes = -1
        self.type: str | None = None
        self.exception: Payload = None
        self.traceback: Payload = None
        self.exception_text = ""
        self.traceback_text = ""
        self.retry = True
        self.suspicious_count = 0
        self.start_time = 0.0
        self.stop_time = 0.0
        self.seceded_after = 0.0
        self.transfers: list[tuple[str, float, float]] | None = None
        self.given_metadata: dict[str, Any] | None = None

    def __repr__(self) -> str:
        return f"<TaskState {self.key!r} {self.state}>"

    @property
    def startstops(self) -> list[dict[str, Any]]:
        """Actions for the task, in order: `{"action": "transfer", "load" (from disk) or "compute", "start", "stop"}`.

        Times are in seconds since the epoch.
        """
        actions = list(self.transfers or ())
        if self.stop_time:
            actions.append(("compute", self.start_time, self.stop_time))
        return [{"action": action, "start": start, "stop": stop} for action, start, stop in actions]

    @property
    def metadata(self) -> dict[str, Any]:
        """Notes of plugins, or of the task itself; the scheduler gets them with the result. Msgpack types only."""
        if self.given_metadata is None:
            self.given_metadata = {}
        return self.given_metadata

    @property
    def prefix(self) -> str:
        """The key without its token."""
        return key_prefix(key_group(self.key))

    @property
    def run_id(self) -> int:
        """The attempt, by its documented name."""
        return self.attempt

    @property
    def run_spec(self) -> tuple[Payload, Payload] | None:
        """Pickled function and pickled `(args, kwargs)`; None for data that another worker computes."""
        return None if self.arguments is None else (self.function, self.arguments)

    @property
    def done(self) -> bool:
        """Whether what `previous` names has ended; kept for readers of the documented attribute."""
        return self.previous is None

    def get_nbytes(self) -> int:
        """Size in bytes; one kilobyte when unknown."""
        return self.nbytes if self.nbytes >= 0 else 1000
