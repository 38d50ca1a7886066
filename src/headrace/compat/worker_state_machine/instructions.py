"""Documented instructions of the worker's state machine: what is to be done, and what the scheduler is to be told."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any, ClassVar

from headrace.common.keys import Key
from headrace.messages import worker as messages
from headrace.worker.state import Outbox, TaskState


class RecommendationsConflict(Exception):
    """Two recommendations name different states for one task."""


class InvalidTaskState(Exception):
    """The record of a task contradicts the others.

    Args:
        key, state: the task's.
        story: what happened to it before.
    """

    def __init__(self, key: Key, state: str, story: list[tuple[Any, ...]]) -> None:
        self.key = key
        self.state = state
        self.story = story
        super().__init__(key, state, story)

    def __str__(self) -> str:
        lines = "\n  ".join(map(repr, self.story))
        return f"{self.key!r} is {self.state}, which contradicts the other records; its story:\n  {lines}"

    def to_event(self) -> tuple[str, dict[str, Any]]:
        """A topic and a message for `log_event`."""
        return "invalid-worker-task-state", {"key": self.key, "state": self.state, "story": self.story}


class _Match:
    """Equal to instructions of a class (not of its subclasses) with these attributes."""

    def __init__(self, kind: type, wanted: dict[str, Any]) -> None:
        self.kind, self.wanted = kind, wanted

    def __eq__(self, other: object) -> bool:
        return type(other) is self.kind and all(getattr(other, name) == value for name, value in self.wanted.items())

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        wanted = ", ".join(f"{name}={value!r}" for name, value in self.wanted.items())
        return f"{self.kind.__name__}({wanted}, …)"


@dataclass
class Instruction:
    """Something to do.

    Attributes:
        stimulus_id: of the event that led to it.
    """

    stimulus_id: str

    @classmethod
    def match(cls, **kwargs: Any) -> Any:
        """Something that equals instructions of this class with these attributes.

        >>> Execute("s", "x") == Execute.match(key="x"), [Execute("s", "x")] == [Execute.match(key="y")]
        (True, False)
        """
        return _Match(cls, kwargs)


@dataclass
class GatherDep(Instruction):
    """Fetch these from a peer."""

    worker: str
    to_gather: set[Key]
    total_nbytes: int


@dataclass
class Execute(Instruction):
    """Run a task."""

    key: Key


@dataclass
class RetryBusyWorkerLater(Instruction):
    """Announce a busy peer (`RetryBusyWorkerEvent`) after a pause."""

    worker: str


@dataclass
class SendMessageToScheduler(Instruction):
    """Tell the scheduler.

    Attributes:
        op: the name of the message.
    """

    op: ClassVar[str] = ""

    def to_dict(self) -> dict[str, Any]:
        """All attributes, and `op`."""
        return {"op": self.op, **{each.name: getattr(self, each.name) for each in fields(self)}}


@dataclass
class TaskFinishedMsg(SendMessageToScheduler):
    """A task has a result."""

    key: Key
    run_id: int
    nbytes: int | None
    type: bytes
    typename: str
    metadata: dict[str, Any]
    thread: int | None
    startstops: list[dict[str, Any]]
    op = "task-finished"


@dataclass
class TaskErredMsg(SendMessageToScheduler):
    """A task raised."""

    key: Key
    run_id: int
    exception: Any
    traceback: Any
    exception_text: str
    traceback_text: str
    thread: int | None
    startstops: list[dict[str, Any]]
    op = "task-erred"

    @staticmethod
    def from_task(ts: TaskState, run_id: int, stimulus_id: str, thread: int | None = None) -> TaskErredMsg:
        """Of a task that has failed."""
        return TaskErredMsg(
            stimulus_id,
            ts.key,
            run_id,
            ts.exception,
            ts.traceback,
            ts.exception_text,
            ts.traceback_text,
            thread,
            ts.startstops,
        )


@dataclass
class ReleaseWorkerDataMsg(SendMessageToScheduler):
    """A copy is here no longer."""

    key: Key
    op = "release-worker-data"


@dataclass
class RescheduleMsg(SendMessageToScheduler):
    """A task is to be placed anew."""

    key: Key
    op = "reschedule"


@dataclass
class LongRunningMsg(SendMessageToScheduler):
    """A task has seceded."""

    key: Key
    run_id: int
    compute_duration: float | None
    op = "long-running"


@dataclass
class AddKeysMsg(SendMessageToScheduler):
    """Copies are here beside what was computed here."""

    keys: list[Key]
    op = "add-keys"


@dataclass
class RequestRefreshWhoHasMsg(SendMessageToScheduler):
    """Ask where data is."""

    keys: list[Key]
    op = "request-refresh-who-has"


@dataclass
class StealResponseMsg(SendMessageToScheduler):
    """In which state a task was that is wanted back; None if it is not here."""

    key: Key
    state: str | None
    op = "steal-response"


def instructions_of(outbox: Outbox, stimulus_id: str, tasks: dict[Key, TaskState]) -> list[Instruction]:
    """The core's decisions in documented words."""
    told = [message for message in outbox.messages if type(message) is not messages.CannotSend]
    found: list[Instruction] = [_told(message, stimulus_id, tasks) for message in told]
    found += [Execute(stimulus_id, run.key) for run in outbox.execute]
    found += [GatherDep(stimulus_id, each.worker, set(each.keys), each.nbytes) for each in outbox.gather]
    found += [RetryBusyWorkerLater(stimulus_id, address) for address in outbox.retry_later]
    return found


def _told(message: Any, stimulus_id: str, tasks: dict[Key, TaskState]) -> Instruction:
    match message:
        case messages.TaskFinished():
            task = tasks.get(message.key)
            return TaskFinishedMsg(
                stimulus_id,
                message.key,
                message.attempt,
                message.nbytes,
                b"",
                message.type,
                message.metadata or {},
                message.thread or None,
                task.startstops if task is not None else [],
            )
        case messages.TaskFailed():
            texts = (message.exception_text, message.traceback_text)
            payloads = (message.exception, message.traceback)
            return TaskErredMsg(
                stimulus_id, message.key, message.attempt, *payloads, *texts, message.thread or None, []
            )
        case messages.RescheduleTask():
            return RescheduleMsg(stimulus_id, message.key)
        case messages.LongRunning():
            return LongRunningMsg(stimulus_id, message.key, message.attempt, message.compute_duration)
        case messages.AddKeys():
            return AddKeysMsg(stimulus_id, message.keys)
        case messages.ReleasedData():
            return ReleaseWorkerDataMsg(stimulus_id, message.key)
        case messages.RequestWhoHas():
            return RequestRefreshWhoHasMsg(stimulus_id, message.keys)
        case messages.MissingData():
            return RequestRefreshWhoHasMsg(stimulus_id, [message.key])
        case messages.StealAnswer():
            return StealResponseMsg(stimulus_id, message.key, message.state)
    raise TypeError(f"the core said something that has no documented name: {message!r}")


def merge_recs_instructions(
    *args: tuple[dict[TaskState, str], Iterable[Instruction]],
) -> tuple[dict[TaskState, str], list[Instruction]]:
    """Several pairs of recommendations and instructions as one.

    Raises:
        RecommendationsConflict: they name different states for one task.
    """
    recommendations: dict[TaskState, str] = {}
    instructions: list[Instruction] = []
    for some, more in args:
        for task, finish in some.items():
            if recommendations.setdefault(task, finish) != finish:
                raise RecommendationsConflict(f"{task!r} should go to {recommendations[task]} and to {finish}")
        instructions += more
    return recommendations, instructions
