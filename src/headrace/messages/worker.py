"""Messages of workers and the scheduler to each other, on their stream."""

from __future__ import annotations

from typing import Any, TypeAlias

import msgspec

from headrace.common.keys import Key

from .base import HandlerMessage, Message, Payload

#: Number of a scattering that is later than all.
LATEST = 1 << 62


class DefineFunction(Message):
    """A pickled callable that later `ComputeTask`s on this stream name by number."""

    function: int
    pickled: Payload


class ForgetFunction(Message):
    """No task that the scheduler knows uses this function any more."""

    function: int


class TaskExtras(msgspec.Struct, array_like=True, omit_defaults=True, frozen=True, gc=False):
    """Options of a task that concern the worker; few tasks have any."""

    resources: dict[str, float] = {}
    actor: bool = False
    annotations: dict[str, Any] = {}
    span: str | None = None


class ComputeTask(Message):
    """Run a task and keep its result.

    Attributes:
        attempt: number of this assignment; the answer repeats it, so that a late one is recognised.
        priority: smaller runs earlier (compared as tuples).
        function: see `DefineFunction`.
        arguments: pickled `(args, kwargs)`.
        duration: expected seconds; negative when unknown.
        report: whether a client wants the result, so that a small one should ride on the answer.
        dependencies: keys whose values are needed, or empty.
        who_has: per dependency, the addresses that hold it (this worker's own among them, if so).
        nbytes: per dependency, its size in bytes.
    """

    key: Key
    attempt: int
    priority: tuple[float, float, int]
    function: int
    arguments: Payload
    duration: float
    report: bool
    dependencies: list[Key] = []
    who_has: list[list[str]] = []
    nbytes: list[int] = []
    extras: TaskExtras | None = None


class FreeKeys(Message):
    """Drop these results, and do not run these tasks if they have not started.

    What a client has put there with a later scattering than `scattering` stays.
    """

    keys: list[Key]
    scattering: int = LATEST


class RefreshWhoHas(Message):
    """Answer to `MissingData` or `RequestWhoHas`: where these are now (perhaps nowhere)."""

    keys: list[Key]
    who_has: list[list[str]]
    nbytes: list[int]


class AcquireReplicas(Message):
    """Fetch copies of these from peers and keep them."""

    keys: list[Key]
    who_has: list[list[str]]
    nbytes: list[int]


class RemoveReplicas(Message):
    """Drop these copies unless something here still needs them.

    The answer is `ReleasedData` for each key, and then `AddKeys` for those that are kept, among them what a client has
    put there with a later scattering than `scattering`.
    """

    keys: list[Key]
    scattering: int = LATEST


class StealRequest(Message):
    """Give this task back if it has not started."""

    key: Key
    attempt: int


class InterruptTasks(Message):
    """Stop the runs of these, which are cancelled, and not only drop what they return.

    With `force`, have the worker restarted if one does not stop.
    """

    keys: list[Key]
    force: bool = False


class CloseWorker(Message):
    """Shut down."""

    reason: str = ""


class Retired(Message):
    """This worker's data is with others; it is given nothing more, and stays until it is closed or goes on."""


class HeartbeatInterval(Message):
    """Seconds from one heartbeat to the next from now on; the number of workers has changed much."""

    seconds: float


class TaskFinished(Message):
    """A task has a result, kept here.

    Attributes:
        type: name of the result's type, for display.
        nbytes: its size by `dask.sizeof`, in bytes.
        start, stop: seconds since the epoch by the worker's clock.
        result: the pickled result when it was asked for and is small.
    """

    key: Key
    attempt: int
    nbytes: int
    type: str
    start: float
    stop: float
    result: Payload = None
    thread: int = 0
    startstops: list[tuple[str, float, float]] = []
    metadata: dict[str, Any] | None = None


class TaskFailed(Message):
    """A task raised; `exception` and `traceback` are pickles, the texts are for readers without the classes.

    `retry` says whether it is an exception after which the task's policy has it tried again.
    """

    key: Key
    attempt: int
    exception: Payload
    traceback: Payload
    exception_text: str
    traceback_text: str
    start: float
    stop: float
    thread: int = 0
    retry: bool = True


class RescheduleTask(Message):
    """The task raised `Reschedule`, or was given back: place it anew."""

    key: Key
    attempt: int


class StealAnswer(Message):
    """Whether the task was given back (`state` was ready or waiting) or is past that."""

    key: Key
    attempt: int
    state: str


class LongRunning(Message):
    """The task has seceded: it no longer takes a thread."""

    key: Key
    attempt: int
    compute_duration: float


class AddKeys(Message):
    """Copies that this worker now holds beside what it computed."""

    keys: list[Key]


class ReleasedData(Message):
    """A copy that this worker no longer holds; `scattering` as in the request that this answers."""

    key: Key
    scattering: int = LATEST


class MissingData(Message):
    """A peer that should have had this key did not."""

    key: Key
    worker: str


class CannotSend(Message):
    """The worker that holds this result cannot send it: it cannot be pickled, or is too large."""

    key: Key


class RequestWhoHas(Message):
    """Ask where these results are: no address known to the worker answers."""

    keys: list[Key]


class WorkerHeartbeat(Message):
    """The worker is alive; `executing` maps running keys to seconds so far."""

    now: float
    metrics: dict[str, Any]
    executing: dict[Key, float] = {}
    extensions: dict[str, Any] = {}


class WorkerStatus(Message):
    """running, paused, closing_gracefully, closing (see `headrace.common.status`).

    Attributes:
        cause: of one that closes although nobody who may ask for that has: what made it close, in words; that is a
            death to the scheduler.
        blamed: keys of the tasks that made it close, as far as they are known.
        reason: of one that closes in good order: why, in words.
    """

    status: str
    cause: str = ""
    blamed: list[Key] = []
    reason: str = ""


class WorkerEvent(Message):
    """Something to publish on a topic (a task's `print`, `warn`, `log_event`)."""

    topics: list[str]
    event: Any


FromWorker: TypeAlias = (
    TaskFinished
    | TaskFailed
    | RescheduleTask
    | StealAnswer
    | LongRunning
    | AddKeys
    | ReleasedData
    | MissingData
    | CannotSend
    | RequestWhoHas
    | WorkerHeartbeat
    | WorkerStatus
    | WorkerEvent
    | HandlerMessage
)
ToWorker: TypeAlias = (
    DefineFunction
    | ForgetFunction
    | ComputeTask
    | FreeKeys
    | RefreshWhoHas
    | AcquireReplicas
    | RemoveReplicas
    | StealRequest
    | InterruptTasks
    | CloseWorker
    | Retired
    | HeartbeatInterval
    | HandlerMessage
)
