"""ClientState: the scheduler's record of one client, what it wants and what is to be sent to it."""

from __future__ import annotations

from typing import Any

from .computations import Computation
from .tasks import TaskState


class OpenGraph:
    """A submission in several messages.

    Attributes:
        generation: its place in the order of submissions.
        size: how many of its tasks came.
        held: tasks to keep until the last message comes.
        computation: what its tasks so far belong to.
    """

    __slots__ = ("computation", "generation", "held", "size")

    def __init__(self, generation: float) -> None:
        self.generation = generation
        self.size = 0
        self.held: list[TaskState] = []
        self.computation: Computation | None = None


class ClientState:
    """A client that is connected.

    Attributes:
        client_key: its name, unique.
        wants_what: tasks whose results it wants.
        last_seen: time of its last sign of life by the scheduler's clock.
        graphs: submissions whose last part has not come, by the client's number.
        outbox: messages to it that the shell has not sent yet.
        silent: whether it is nobody's client but the scheduler's own, to which nothing is said.
        slow: whether so much waits to be read by it that results are not pushed to it, but fetched by it.
    """

    __slots__ = (
        "alone",
        "client_key",
        "graphs",
        "last_seen",
        "last_submission",
        "outbox",
        "silent",
        "slow",
        "versions",
        "wants_what",
    )

    def __init__(
        self, client: str, versions: dict[str, Any] | None = None, now: float = 0.0, *, silent: bool = False
    ) -> None:
        self.client_key = client
        self.silent = silent
        self.slow = False
        self.versions = versions or {}
        self.last_seen = now
        self.last_submission = float("-inf")
        self.wants_what: set[TaskState] = set()
        self.graphs: dict[int, OpenGraph] = {}
        self.outbox: list[Any] = []
        #: the set of this client only, shared by every task that it alone wants
        self.alone: frozenset[ClientState] = frozenset((self,))

    def __repr__(self) -> str:
        return f"<Client {self.client_key!r}>"
