"""Documented events of the worker's state machine, and what each means to the core."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

from headrace.common.keys import Key
from headrace.messages import worker as messages
from headrace.protocol import dumps_exception
from headrace.worker.state import events as core


@dataclass
class StateMachineEvent:
    """Something that has happened.

    Attributes:
        stimulus_id: a text that names it in stories.
        handled: when, in seconds since the epoch; None before.
        core: types of the core's events that mean the same.
    """

    stimulus_id: str
    handled: float | None = field(init=False, default=None, repr=False, compare=False)
    core: ClassVar[tuple[type, ...]] = ()
    kinds: ClassVar[dict[str, type[StateMachineEvent]]] = {}

    def __init_subclass__(cls) -> None:
        StateMachineEvent.kinds[cls.__name__] = cls

    def to_loggable(self, *, handled: float) -> StateMachineEvent:
        """A copy that may be kept: without values and pickles."""
        kept = copy.copy(self)
        kept.handled = handled
        for name, empty in (("run_spec", None), ("value", None), ("exception", None), ("traceback", None)):
            if hasattr(kept, name):
                setattr(kept, name, empty)
        if isinstance(getattr(kept, "data", None), dict):
            kept.data = dict.fromkeys(kept.data)  # type: ignore[attr-defined]
        return kept

    @staticmethod
    def from_dict(d: dict[str, Any]) -> StateMachineEvent:
        """An event from its attributes, with the name of its class as `cls`."""
        given = dict(d)
        cls = StateMachineEvent.kinds[given.pop("cls")]
        handled = given.pop("handled", None)
        known = {each.name for each in fields(cls)}
        event = cls(**{name: value for name, value in given.items() if name in known})
        event.handled = handled
        return event


StateMachineEvent.kinds["StateMachineEvent"] = StateMachineEvent


@dataclass
class PauseEvent(StateMachineEvent):
    """Start nothing new."""

    core = (core.Pause,)


@dataclass
class UnpauseEvent(StateMachineEvent):
    """Go on."""

    core = (core.Unpause,)


@dataclass
class RetryBusyWorkerEvent(StateMachineEvent):
    """A busy peer may be asked again."""

    worker: str
    core = (core.BusyOver,)


@dataclass
class GatherDepDoneEvent(StateMachineEvent):
    """A request to a peer has ended, in whatever way."""

    worker: str
    total_nbytes: int
    core: ClassVar[tuple[type, ...]] = (core.GatherDone, core.GatherBusy, core.GatherFailed)


@dataclass
class GatherDepSuccessEvent(GatherDepDoneEvent):
    """A peer answered with these values; what was asked for and is not among them it does not have."""

    data: dict[Key, object]
    core = (core.GatherDone,)


@dataclass
class GatherDepBusyEvent(GatherDepDoneEvent):
    """A peer serves too many others."""

    core = (core.GatherBusy,)


@dataclass
class GatherDepNetworkFailureEvent(GatherDepDoneEvent):
    """A peer could not be reached."""

    core = (core.GatherFailed,)


@dataclass
class GatherDepFailureEvent(GatherDepDoneEvent):
    """The answer of a peer could not be loaded."""

    exception: Any
    traceback: Any
    exception_text: str
    traceback_text: str
    core = ()

    @classmethod
    def from_exception(
        cls, err: BaseException, *, worker: str, total_nbytes: int, stimulus_id: str
    ) -> GatherDepFailureEvent:
        """With the exception, pickled."""
        return cls(stimulus_id, worker, total_nbytes, *_pickled(err))


@dataclass
class RemoveWorkerEvent(StateMachineEvent):
    """A peer has gone."""

    worker: str


@dataclass
class ComputeTaskEvent(StateMachineEvent):
    """Run a task; see `TaskState`."""

    key: Key
    run_id: int
    who_has: dict[Key, Collection[str]]
    nbytes: dict[Key, int]
    priority: tuple[int, ...]
    run_spec: Any
    resource_restrictions: dict[str, float]
    actor: bool
    annotations: dict[str, Any]
    span_id: str | None
    core = (messages.ComputeTask,)

    @classmethod
    def dummy_runspec(cls, key: Key) -> Any:
        """A call for tests: of nothing."""
        return b""

    @staticmethod
    def dummy(
        key: Key,
        *,
        run_id: int = 0,
        who_has: dict[Key, Collection[str]] | None = None,
        nbytes: dict[Key, int] | None = None,
        priority: tuple[int, ...] = (0,),
        resource_restrictions: dict[str, float] | None = None,
        actor: bool = False,
        annotations: dict[str, Any] | None = None,
        stimulus_id: str,
    ) -> ComputeTaskEvent:
        """An event for tests."""
        return ComputeTaskEvent(
            stimulus_id,
            key,
            run_id,
            who_has or {},
            nbytes or dict.fromkeys(who_has or (), 1),
            priority,
            ComputeTaskEvent.dummy_runspec(key),
            resource_restrictions or {},
            actor,
            annotations or {},
            None,
        )


@dataclass
class ExecuteDoneEvent(StateMachineEvent):
    """A task has ended, in whatever way."""

    key: Key
    core: ClassVar[tuple[type, ...]] = (core.ExecuteDone, core.ExecuteFailed, core.ExecuteRescheduled)


@dataclass
class ExecuteSuccessEvent(ExecuteDoneEvent):
    """A task returned."""

    run_id: int
    value: object
    start: float
    stop: float
    nbytes: int
    type: type | None
    core = (core.ExecuteDone,)

    @staticmethod
    def dummy(
        key: Key, value: object = None, *, run_id: int = 1, nbytes: int = 1, stimulus_id: str
    ) -> ExecuteSuccessEvent:
        """An event for tests."""
        return ExecuteSuccessEvent(stimulus_id, key, run_id, value, 0.0, 1.0, nbytes, None)


@dataclass
class ExecuteFailureEvent(ExecuteDoneEvent):
    """A task raised."""

    run_id: int
    start: float | None
    stop: float | None
    exception: Any
    traceback: Any
    exception_text: str
    traceback_text: str
    core = (core.ExecuteFailed,)

    @classmethod
    def from_exception(
        cls,
        err_or_msg: Any,
        *,
        key: Key,
        run_id: int,
        start: float | None = None,
        stop: float | None = None,
        stimulus_id: str,
    ) -> ExecuteFailureEvent:
        """With an exception, or what an `error_message` says of one."""
        if isinstance(err_or_msg, dict):
            names = ("exception", "traceback", "exception_text", "traceback_text")
            parts = [err_or_msg.get(name) for name in names]
            return cls(stimulus_id, key, run_id, start, stop, parts[0], parts[1], str(parts[2]), str(parts[3]))
        return cls(stimulus_id, key, run_id, start, stop, *_pickled(err_or_msg))

    @staticmethod
    def dummy(key: Key, *, run_id: int = 1, stimulus_id: str) -> ExecuteFailureEvent:
        """An event for tests."""
        return ExecuteFailureEvent(stimulus_id, key, run_id, None, None, b"", None, "", "")


@dataclass
class RescheduleEvent(ExecuteDoneEvent):
    """A task raised `Reschedule`."""

    core = (core.ExecuteRescheduled,)

    @staticmethod
    def dummy(key: Key, *, stimulus_id: str) -> RescheduleEvent:
        """An event for tests."""
        return RescheduleEvent(stimulus_id, key)


@dataclass
class CancelComputeEvent(StateMachineEvent):
    """Do not run a task, if it has not started."""

    key: Key


@dataclass
class FindMissingEvent(StateMachineEvent):
    """Ask again for what nobody is known to hold."""

    core = (core.FindMissing,)


@dataclass
class RefreshWhoHasEvent(StateMachineEvent):
    """The current holders of data, by key."""

    who_has: dict[Key, Collection[str]]
    core = (messages.RefreshWhoHas,)


@dataclass
class AcquireReplicasEvent(StateMachineEvent):
    """Fetch copies."""

    who_has: dict[Key, Collection[str]]
    nbytes: dict[Key, int]
    core = (messages.AcquireReplicas,)


@dataclass
class RemoveReplicasEvent(StateMachineEvent):
    """Drop copies unless something here needs them."""

    keys: Collection[Key]
    core = (messages.RemoveReplicas,)


@dataclass
class FreeKeysEvent(StateMachineEvent):
    """Drop results, and do not run tasks that have not started."""

    keys: Collection[Key]
    core = (messages.FreeKeys,)


@dataclass
class StealRequestEvent(StateMachineEvent):
    """Give a task back if it has not started."""

    key: Key
    core = (messages.StealRequest,)


@dataclass
class UpdateDataEvent(StateMachineEvent):
    """A client scattered these values here."""

    data: dict[Key, object]
    core = (core.DataStored,)


@dataclass
class SecedeEvent(StateMachineEvent):
    """A task has left its thread's slot after so many seconds."""

    key: Key
    compute_duration: float
    core = (core.ExecuteSeceded,)


def _pickled(error: BaseException) -> tuple[Any, Any, str, str]:
    dumped = dumps_exception(error)
    return dumped.exception, dumped.traceback, dumped.exception_text, dumped.traceback_text


#: Pairs that become one event of the core each, with the same attributes.
SAME: dict[type[StateMachineEvent], Callable[[Any], Any]] = {
    PauseEvent: lambda event: core.Pause(),
    UnpauseEvent: lambda event: core.Unpause(),
    FindMissingEvent: lambda event: core.FindMissing(),
    RetryBusyWorkerEvent: lambda event: core.BusyOver(event.worker),
    GatherDepBusyEvent: lambda event: core.GatherBusy(event.worker),
    GatherDepNetworkFailureEvent: lambda event: core.GatherFailed(event.worker),
    RescheduleEvent: lambda event: core.ExecuteRescheduled(event.key),
    SecedeEvent: lambda event: core.ExecuteSeceded(event.key, event.compute_duration),
    FreeKeysEvent: lambda event: messages.FreeKeys(list(event.keys)),
    RemoveReplicasEvent: lambda event: messages.RemoveReplicas(list(event.keys)),
    AcquireReplicasEvent: lambda event: messages.AcquireReplicas(
        list(event.who_has),
        [list(holders) for holders in event.who_has.values()],
        [event.nbytes.get(key, 1) for key in event.who_has],
    ),
    ExecuteFailureEvent: lambda event: core.ExecuteFailed(
        event.key,
        event.exception,
        event.traceback,
        event.exception_text,
        event.traceback_text,
        event.start or 0.0,
        event.stop or 0.0,
    ),
}
