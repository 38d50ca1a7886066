"""What the core asks of its shell: one outbox, drained after each batch of events.

The shell removes `free` first, then acts on `recall` and `execute`, then `gather`, then sends `messages`; the order
within each list is the order of the decisions.
"""

from __future__ import annotations

from typing import Any

import msgspec

from headrace.common.keys import Key

from .tasks import TaskState


class GatherData(msgspec.Struct, gc=False):
    """Fetch these from a peer; `nbytes` is what they are believed to weigh."""

    worker: str
    keys: list[Key]
    nbytes: int


class Outbox:
    """Decisions that wait for the shell.

    Attributes:
        execute: tasks for the executor.
        recall: tasks to take back from the executor if they have not started (answer: `ExecuteRecalled`).
        gather: requests to peers.
        free: keys whose values are to be dropped.
        retry_later: busy peers, to be announced by `BusyOver` after a pause.
        messages: for the scheduler.
        transitions: `(key, start, finish)` for plugins, while someone watches.
    """

    __slots__ = ("execute", "free", "gather", "messages", "recall", "retry_later", "transitions")

    def __init__(self) -> None:
        self.execute: list[TaskState] = []
        self.recall: list[TaskState] = []
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
            or self.retry_later
            or self.transitions
        )
