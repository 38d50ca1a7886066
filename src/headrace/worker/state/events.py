"""The shell's reports to its core; the scheduler's messages are in `headrace.messages.worker.ToWorker`.

Values are stored in, and removed from, the worker's data by the shell: it stores first and tells the core, and removes
what the core puts into `Outbox.free`.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from headrace.common.keys import Key
from headrace.messages.base import Payload


class ShellEvent(msgspec.Struct, gc=False):
    """Base of the shell's events."""


class ExecuteDone(ShellEvent):
    """A task returned; its value is stored.

    Attributes:
        type: name of the result's type.
        nbytes: its size in bytes.
        start, stop: seconds since the epoch.
        result: its pickle, when it was asked for and is small.
        thread: identity of the thread that ran it.
        loading: when it began and ended to read from disk what it needs, before it started; None if nothing was there.
    """

    key: Key
    nbytes: int
    type: str
    start: float
    stop: float
    result: Payload = None
    thread: int = 0
    loading: tuple[float, float] | None = None


class ExecuteFailed(ShellEvent):
    """A task raised, or could not be unpickled; payloads and `retry` as in `TaskFailed`.

    Of data from a peer, `unsent` says that the peer has them and cannot send them.
    """

    key: Key
    exception: Payload
    traceback: Payload
    exception_text: str
    traceback_text: str
    start: float = 0.0
    stop: float = 0.0
    thread: int = 0
    retry: bool = True
    unsent: bool = False


class ExecuteRescheduled(ShellEvent):
    """A task raised `Reschedule`."""

    key: Key


class ExecuteSeceded(ShellEvent):
    """A task left its thread's slot after `duration` seconds."""

    key: Key
    duration: float


class ExecuteRecalled(ShellEvent):
    """Answer to `Outbox.recall`: whether the task was taken out of the executor's queue before it started."""

    key: Key
    unstarted: bool


class GatherDone(ShellEvent):
    """A peer answered.

    Attributes:
        data: size in bytes of each value that came and is stored; asked keys that are in neither are not there.
        broken: keys whose value could not be sent, or came and could not be unpickled, with the failure.
        start, stop: when it was asked and when all was stored, in seconds since the epoch; 0 when unknown.
    """

    worker: str
    data: dict[Key, int]
    broken: dict[Key, ExecuteFailed] = {}
    start: float = 0.0
    stop: float = 0.0


class GatherBusy(ShellEvent):
    """A peer serves too many others; `BusyOver` follows after a while."""

    worker: str


class BusyOver(ShellEvent):
    """A busy peer may be asked again."""

    worker: str


class GatherFailed(ShellEvent):
    """A peer could not be reached, or the connection broke."""

    worker: str


class FindMissing(ShellEvent):
    """Time to ask again for what nobody is known to hold."""


class DataStored(ShellEvent):
    """Values that a client scattered here are stored; sizes in bytes. `scattering` is its number, if it has one."""

    nbytes: dict[Key, int]
    scattering: int = 0


class DataDropped(ShellEvent):
    """Values that the shell lost or dropped on its own."""

    keys: list[Key]


class SchedulerLost(ShellEvent):
    """The connection to the scheduler broke: it has placed anew what was to be computed here."""


class Pause(ShellEvent):
    """Start nothing new."""


class Unpause(ShellEvent):
    """Go on."""


class SetResources(ShellEvent):
    """The worker's abstract resources changed."""

    resources: dict[str, float]


#: All events that the core takes from its shell.
FromShell: TypeAlias = (
    ExecuteDone
    | ExecuteFailed
    | ExecuteRescheduled
    | ExecuteSeceded
    | ExecuteRecalled
    | GatherDone
    | GatherBusy
    | BusyOver
    | GatherFailed
    | FindMissing
    | DataStored
    | DataDropped
    | SchedulerLost
    | Pause
    | Unpause
    | SetResources
)
