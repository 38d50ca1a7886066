"""The worker's state machine: it decides what the worker holds, runs and fetches. Pure.

Theory of operation. Events go in through `handle` or `handle_batch`; decisions come out in `outbox`. A task that is
asked for goes released → waiting (for data) → ready (or constrained, for resources) → executing → memory or error. Data
that it needs go released → fetch → flight → memory, through missing when no holder is known. What has been started
cannot be undone, so a task that is freed meanwhile is *cancelled* until the end of what it is doing is reported, and
*resumed* when it is wanted for something else in the meantime. At the end of every event each task that nothing holds
any more is forgotten, and each that something here still needs is on its way.

Every change of a task's state is a row of `transition_table`, made and noted by `mover.transition`. Two frequent events
take tasks past states in which they would not stay (`transition_table.SHORT_WAYS`), unless `short_ways` is off.

Threads must not wait for the event loop between two short tasks, so more tasks than there are threads may be handed out
(`run_queues.room`); they are `executing` here, and `Outbox.recall` gets those back that no thread has taken yet.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from headrace.common.keys import Key
from headrace.exceptions import UnknownMessage
from headrace.messages.base import HandlerMessage, Payload
from headrace.messages.worker import AddKeys, HeartbeatInterval, RequestWhoHas, Retired

from . import computing, gathering, invariants, scheduler_messages, shell_events
from .effects import Outbox
from .mover import LogLine, settle
from .tasks import Priority, TaskState

#: The function for each class that a core takes: the messages of the scheduler, and the events of its own shell.
RECEIVED: dict[type, Callable[[WorkerCore, Any], None]] = {**scheduler_messages.MESSAGES, **shell_events.EVENTS}


class WorkerCore:
    """State of one worker.

    Parameters:
        address: this worker's own address; it is never fetched from.
        nthreads: tasks that run at a time.
        resources: amounts of abstract resources by name.
        validate: check all invariants after each event; slow.
        outgoing_limit: peers that are asked at a time.
        message_bytes_limit: bytes asked from one peer at a time, unless a single value is larger.
        incoming_bytes_limit: bytes asked from all peers at a time, unless a single value is larger.
        seed: turns the choice among equal holders, so that workers do not all ask the same one.
        log_length: transitions remembered for `story`.
        transition_counter_max: how many transitions there may be; False for any number. For tests.

    Attributes:
        short_ways: whether frequent events go past states in which the task would not stay; tests compare both ways.
        transition_counter: moves so far.
        watched: whether a plugin wants to hear of moves; then they are put into the outbox.
    """

    def __init__(
        self,
        *,
        address: str = "",
        nthreads: int = 1,
        resources: dict[str, float] | None = None,
        validate: bool = False,
        outgoing_limit: int = 50,
        message_bytes_limit: float = 50_000_000,
        incoming_bytes_limit: float = float("inf"),
        seed: int = 0,
        log_length: int = 20_000,
        transition_counter_max: int | bool = False,
    ) -> None:
        self.address = address
        self.nthreads = nthreads
        self.total_resources = dict(resources or {})
        self.available_resources = dict(self.total_resources)
        self.validate = validate
        self.transfer_incoming_count_limit = outgoing_limit
        self.transfer_message_bytes_limit = message_bytes_limit
        self.transfer_incoming_bytes_limit = incoming_bytes_limit
        self.seed = seed
        self.transition_counter = 0
        self.transition_counter_max = transition_counter_max
        self.outbox = Outbox()
        self.running = True
        self.watched = False
        self.short_ways = True
        #: why the scheduler wants this worker to close; None as long as it does not
        self.close_requested: str | None = None
        #: what the shell alone has to take note of
        self.notices: list[Retired | HeartbeatInterval | HandlerMessage] = []
        self.tasks: dict[Key, TaskState] = {}
        self.functions: dict[int, Payload] = {}
        #: seconds that calls of a function took of late, by its number; for tasks the scheduler knows nothing about
        self.learned: dict[int, float] = {}
        self.counter = 0
        #: how many values came to memory so far
        self.stored = 0

        # heaps of (priority, number, task); entries of tasks that have moved on are skipped when they surface
        self.ready: list[tuple[Priority, int, TaskState]] = []
        self.stale_ready = 0
        #: one heap per distinct demand, so that a task that must wait does not hold up others
        self.constrained: dict[tuple[tuple[str, float], ...], list[tuple[Priority, int, TaskState]]] = {}
        self.waiting: set[TaskState] = set()
        #: tasks that take a slot, those cancelled or resumed meanwhile among them
        self.executing: set[TaskState] = set()
        self.long_running: set[TaskState] = set()
        self.backlog = 0.0
        self.executed_count = 0
        #: runs that raised, so far
        self.failed_count = 0
        #: seconds that runs took which have ended
        self.executed_seconds = 0.0
        self.recalls_for_steal: set[Key] = set()
        self.recalls_for_loss: set[Key] = set()
        #: cancelled or resumed tasks whose run is being interrupted: how it ends says nothing of the call
        self.interrupted: set[Key] = set()

        # gathering
        self.has_what: dict[str, set[TaskState]] = {}
        self.fetch_queue: list[tuple[Priority, int, TaskState, str | None]] = []
        self.data_needed: dict[str, list[tuple[Priority, int, TaskState]]] = {}
        self.in_flight_workers: dict[str, set[Key]] = {}
        self.in_flight_bytes: dict[str, int] = {}
        self.in_flight_tasks: set[TaskState] = set()
        self.busy_workers: set[str] = set()
        self.missing_dep_flight: set[TaskState] = set()
        self.transfer_incoming_bytes = 0
        self.transfer_incoming_count_total = 0

        #: of each value that a client has put here, until it is dropped: the number of the scattering
        self.scattered: dict[Key, int] = {}
        self.nbytes = 0
        self.in_memory = 0
        self.loose: list[TaskState] = []
        self.added: list[Key] = []
        self.requested: list[Key] = []
        self.log: deque[LogLine] = deque(maxlen=log_length)
        #: the latest events, oldest first; kept only with `validate`
        self.stimulus_log: deque[object] = deque(maxlen=log_length)
        #: for the log: the type of the message or event that is being handled, and the time of it
        self.stimulus: type = type(None)
        self.now = 0.0

    @property
    def executing_count(self) -> int:
        """Tasks handed to the executor that have not seceded."""
        return len(self.executing)

    @property
    def transfer_incoming_count(self) -> int:
        """Peers that are being asked now."""
        return len(self.in_flight_workers)

    @property
    def all_running_tasks(self) -> set[TaskState]:
        """Tasks whose functions run or are about to."""
        return self.executing | self.long_running

    def handle(self, event: object, now: float = 0.0) -> None:
        """Take one message of the scheduler or one event of the shell; see `handle_batch`."""
        self.handle_batch((event,), now)

    def handle_batch(self, events: Iterable[object], now: float = 0.0) -> None:
        """Take messages of the scheduler and events of the shell, in order.

        Args:
            now: seconds since the epoch, for the log.

        Raises:
            UnknownMessage: the core does not take such a thing; those before it have been taken, those after it not.
            ValueError: a message that cannot be meant: an unknown function number, columns of unequal length.
            InvalidTransition: a defect in this package.
        """
        received, loose, validate = RECEIVED, self.loose, self.validate
        self.now = now
        if validate:
            events = list(events)
            self.stimulus_log += events
        for event in events:
            self.stimulus = kind = type(event)
            try:
                take = received[kind]
            except KeyError:
                self._finish()
                raise UnknownMessage(f"a worker does not take a {kind.__module__}.{kind.__qualname__}") from None
            take(self, event)
            if loose:
                settle(self)
            if validate:
                self._finish()
                invariants.check(self)
        self._finish()

    def _finish(self) -> None:
        """Start what can start and send what was collected."""
        if self.ready or self.constrained:
            computing.ensure_computing(self)
        if self.fetch_queue:
            gathering.ensure_communicating(self)
        if self.added:
            tasks = self.tasks  # a copy that came and went within the batch is not news
            held = [key for key in self.added if (task := tasks.get(key)) is not None and task.state == "memory"]
            if held:
                self.outbox.messages.append(AddKeys(held))
            self.added = []
        if self.requested:
            self.outbox.messages.append(RequestWhoHas(self.requested))
            self.requested = []

    def drain(self) -> Outbox:
        """Take all decisions so far."""
        outbox, self.outbox = self.outbox, Outbox()
        return outbox

    def story(self, *keys: Key | TaskState) -> list[LogLine]:
        """The moves of these tasks, or keys, oldest first, as `(key, start, asked, reached, stimulus, time)`.

        The stimulus is the type of the message or event, the time in seconds since the epoch.
        A value that a client scattered here has `"receive-from-scatter"` for its start.
        """
        wanted = {key.key if isinstance(key, TaskState) else key for key in keys}
        return [entry for entry in self.log if entry[0] in wanted]

    def validate_state(self) -> None:
        """Check all invariants.

        Raises:
            InvariantViolation: with the story of the task concerned.
        """
        invariants.check(self)
