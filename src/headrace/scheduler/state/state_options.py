"""The scheduler's settings, read once by the shell."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from headrace.common.keys import Key
from headrace.messages.base import Payload

if TYPE_CHECKING:
    from .records.tasks import TaskState
    from .records.workers import WorkerState


@dataclass(frozen=True)
class StateOptions:
    """Settings of the state machine.

    Attributes:
        validate: check invariants after every event.
        short_ways: make the moves beside the table that it lists; without, all go through it, which takes longer and
            must come to the same.
        allowed_failures: how many workers may die under a task before it errs; of those that leave in good order
            more may (`membership.allowed_departures`).
        saturation: root-like tasks that a worker holds at a time, per thread; infinity sends them all at once.
        bandwidth: speed between workers as long as none has been measured, in bytes per second.
        unknown_duration: assumed seconds of a task whose prefix has not run yet.
        default_durations: assumed seconds by prefix, until the first has run.
        rootish_groups, rootish_tasks: root-like tasks need results of fewer groups, and fewer results, than this.
        default_nbytes: assumed size, in bytes, of a result whose size is not known.
        computations_kept: how many computations are remembered.
        erred_kept: how many failures are remembered.
        log_length: how many transitions the story keeps.
        killed_payload: makes the exception, as clients are to get it, of a task under which too many workers died,
            from its key, the last worker's record, `allowed_failures` and what that worker died of; without, there is
            only a text.
        left_payload: likewise for one under which too many left in good order, with how many were allowed to.
        actor_payload: likewise for an actor whose worker is gone, from a text.
        unrunnable_payload: likewise for a task that waited too long for a worker, from the task, the seconds, and
            whether there were workers at all.
        too_large_payload: likewise for one that no worker has memory for, from a text.
    """

    validate: bool = False
    short_ways: bool = True
    allowed_failures: int = 3
    saturation: float = 1.1
    bandwidth: float = 100e6
    unknown_duration: float = 0.5
    default_durations: dict[str, float] = field(default_factory=dict)
    rootish_groups: float = 5
    rootish_tasks: float = 5
    default_nbytes: int = 1024
    computations_kept: int = 100
    erred_kept: int = 100
    log_length: int = 100_000
    killed_payload: Callable[[Key, WorkerState, int, str], Payload] | None = None
    left_payload: Callable[[Key, WorkerState, int, str], Payload] | None = None
    unrunnable_payload: Callable[[TaskState, float, bool], Payload] | None = None
    actor_payload: Callable[[str], Payload] | None = None
    too_large_payload: Callable[[str], Payload] | None = None
