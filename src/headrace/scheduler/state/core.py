"""SchedulerCore: the records, and the doors through which events come in.

How it works. Each method named `on_…`, `add_…` or `remove_…` is an event; the shell passes the time with it. An event
changes records, collects recommendations (task → state it should move to), and the transition table runs until none
is left. What has to be told to workers and clients is appended to their `outbox`, and they to `dirty`; the shell sends
these when the event loop turns. The topics live in files of their own (`graph`, `placement`, `completion`, `interest`,
`membership`, `replicas`), as functions that take the state first.

This file must not decide: no placement, no policy.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from headrace.common.keys import Key
from headrace.exceptions import UnknownMessage
from headrace.messages.base import Message, Payload
from headrace.messages.client import SubmitGraph
from headrace.messages.worker import FreeKeys, WorkerHeartbeat

from .balance.steal_requests import Steals
from .checks import invariants
from .checks.story import ErredTask
from .data.scatters import Scatters
from .flow import completion, heartbeat_reports, interest, membership, retry_delays, scattered_data
from .flow.client_messages import CLIENT_MESSAGES as CLIENT_MESSAGES
from .flow.completion import WORKER_MESSAGES as WORKER_MESSAGES
from .placing import placement, unrunnable
from .placing.load import check_load
from .placing.promises import Promises
from .placing.queue import TaskQueue
from .placing.restrictions import Allowed, Demand
from .records.clients import ClientState
from .records.computations import Computation
from .records.groups import TaskGroup
from .records.tallies import Tallies
from .records.task_functions import FunctionTable
from .records.task_table import TaskTable
from .records.tasks import TaskState
from .records.workers import WorkerState
from .state_options import StateOptions
from .transitions.engine import Recommendations, run_as_documented, run_transitions

#: (key, start, finish, stimulus, time): a line of a task's story
StoryLine = tuple[Key, str, str, str, float]


#: Changes of the number of threads that are remembered.
HISTORY_KEPT = 10_000


class SchedulerCore:
    """Tasks, workers and clients, and the rules that move tasks between states.

    Attributes:
        tasks: every known task by key.
        workers: connected workers by address; `aliases` maps their names to addresses.
        clients: connected clients by name.
        running: workers that may be given tasks.
        idle: of these, those with fewer tasks than threads; `saturated`: those with more work than they can do at once.
        steals: tasks that workers are asked to give back.
        promises: tasks that workers have been sent before what they need is there.
        open_workers: those with room for another root-like task, in the order in which they are given one.
        unrunnable: tasks that no connected worker may run, with the time since when.
        queued: root-like tasks that wait for room.
        delays: tasks that wait for the time of their next attempt.
        bandwidth: average speed of transfers between workers, as these measure it, in bytes per second; from
            `options` at first. `bandwidth_workers` has it by (receiver, sender), `bandwidth_types` by type of the data.
        dirty: workers and clients whose `outbox` the shell has to send.
        transition_log: the latest transitions, oldest first.
        now: when the event that is being handled began, as the shell said, by a clock that is never set: all waits are
            measured by it. `shown` is the same in seconds since the epoch, for what people see; the shell says by
            `show_times` how far the two are apart.
        observers: called with (task, start, finish, now) after each transition (plugins).
        tallies: counts of workers and clients that came and went.
    """

    def __init__(self, options: StateOptions | None = None) -> None:
        self.options = options or StateOptions()
        self.validate = self.options.validate
        self.tasks = TaskTable(self.options.default_durations, self.options.default_nbytes)
        self.functions = FunctionTable()
        self.workers: dict[str, WorkerState] = {}
        self.aliases: dict[Any, str] = {}
        self.host_info: dict[str, dict[str, Any]] = {}
        self.resources: dict[str, dict[str, float]] = {}
        self.clients: dict[str, ClientState] = {}
        self.running: OrderedDict[WorkerState, None] = OrderedDict()
        self.idle: OrderedDict[WorkerState, None] = OrderedDict()
        self.saturated: dict[WorkerState, None] = {}
        self.open_workers: OrderedDict[WorkerState, None] = OrderedDict()
        self.unrunnable: dict[TaskState, float] = {}
        #: workers by what tasks ask for; see `restrictions`
        self.allowed: dict[Demand, Allowed] = {}
        #: what cannot be fetched from where it is; see `staying`
        self.staying: set[TaskState] = set()
        self.steals = Steals()
        self.promises = Promises()
        self.scatters = Scatters()
        self.queued = TaskQueue()
        self.delays = retry_delays.Delays()
        self.dirty: list[WorkerState | ClientState] = []
        self.total_nthreads = 0
        self.total_occupancy = 0.0
        self.tallies = Tallies()
        #: workers that have been sent tasks which they have not finished
        self.busy: set[WorkerState] = set()
        self.bandwidth = self.options.bandwidth
        self.bandwidth_workers: dict[tuple[str, str], float] = {}
        self.bandwidth_types: dict[str, float] = {}
        self.generation = 0
        self.attempts = 0
        self.computations: deque[Computation] = deque(maxlen=self.options.computations_kept)
        self.transition_log: deque[StoryLine] = deque(maxlen=self.options.log_length)
        self.transition_counter = 0
        #: how many of them the invariants have seen
        self.checked_transitions = 0
        #: the latest failures, oldest first
        self.erred_tasks: deque[ErredTask] = deque(maxlen=self.options.erred_kept)
        #: (seconds since the epoch, threads of all workers), after each change
        self.total_nthreads_history: deque[tuple[float, int]] = deque(maxlen=HISTORY_KEPT)
        self.observers: tuple[Callable[[TaskState, str, str, float], None], ...] = ()
        #: keeps tasks of unfinished submissions
        self.holder = ClientState("held", silent=True)
        #: keeps what `fire_and_forget` was called for
        self.until_done = ClientState("fire-and-forget", silent=True)
        #: called with each part of a graph once its tasks are recorded, before any is started (plugins)
        self.graph_observer: Callable[[ClientState, SubmitGraph], None] | None = None
        #: called with (group, annotation, code) when a group has come in a `span`
        self.span_observer: Callable[[TaskGroup, Any, Any], None] | None = None
        #: the worker's message that is being taken, and whose it is, while somebody observes
        self.report: Any = None
        self.reporter: WorkerState | None = None
        self.now = 0.0
        self.shift = 0.0
        self.shown = 0.0
        self.stimulus = ""
        self.short_ways = self.options.short_ways
        #: workers that were chosen for tasks which are about to move to processing
        self.chosen: dict[TaskState, WorkerState] = {}
        #: results that came with reports, of tasks which are about to move to memory (without `short_ways` only)
        self.finished: dict[TaskState, Payload] = {}

    def change_options(self, now: float, **changes: Any) -> None:
        """Go on with other settings; see `StateOptions`. Queued tasks go to workers that have room by these."""
        self.options = replace(self.options, **changes)
        if "saturation" in changes:
            self._begin("worker-saturation", now)
            for worker in self.workers.values():
                worker.set_slots(self.options.saturation)
                check_load(self, worker)
            self._end()

    # Events from clients

    def add_client(self, name: str, versions: dict[str, Any] | None, now: float) -> ClientState:
        """A client has connected."""
        client = self.clients[name] = ClientState(name, versions, now + self.shift)
        self.tallies.clients_added += 1
        return client

    def remove_client(self, name: str, now: float) -> None:
        """A client has gone: what only it wanted is released."""
        client = self.clients.pop(name, None)
        if client is not None:
            self.tallies.clients_removed += 1
            self._begin("remove-client", now)
            self._end(interest.drop_client(self, client))

    def handle(self, sender: WorkerState | ClientState, message: Message, now: float) -> None:
        """Take one message of a client or worker.

        Raises:
            UnknownMessage: the core takes no such message of such a sender (see `CLIENT_MESSAGES`, `WORKER_MESSAGES`).
        """
        if isinstance(sender, WorkerState):
            self.handle_batch(sender, [message], now)
            return
        function = CLIENT_MESSAGES.get(type(message))
        if function is None:
            raise UnknownMessage(
                f"the scheduler does not take messages of the class {type(message).__name__} from clients"
            )
        self._begin("client", now)  # the functions say more exactly
        self._end(function(self, sender, message))

    def let_go(self, keeper: ClientState, now: float) -> None:
        """Nothing is kept any more on behalf of a silent client."""
        self._begin("client-releases-keys", now)
        self._end(interest.drop_client(self, keeper))

    def retry(self, keys: Iterable[Key], now: float) -> list[Key]:
        """Run erred tasks again, from the task that failed on; returns the keys that were erred."""
        self._begin("retry", now)
        recommendations, retried = completion.retry_keys(self, keys)
        self._end(recommendations)
        return retried

    def on_retries_due(self, now: float) -> None:
        """Time has passed: tasks whose next attempt is due run again."""
        self._begin("retry-due", now)
        self._end(retry_delays.run_due(self))

    # Events from workers

    def add_worker(
        self, worker: WorkerState, held: dict[Key, int], now: float, *, scattered: Iterable[Key] = ()
    ) -> None:
        """A worker has connected, with the results in `held` (key → bytes).

        Those in `scattered` are left to it if they are not known: a client is perhaps about to tell of them.

        A record that its address has already is replaced: the same process (`server_id`) has come back before its
        absence was noticed, or another has taken its place.
        """
        self._begin("add-worker", now)
        self.settle(membership.add_worker(self, worker, held, frozenset(scattered)))
        self._end(unrunnable.run_unrunnable(self))

    def remove_worker(
        self, address: str, reason: str, now: float, *, expected: bool = False, blamed: Iterable[Key] = ()
    ) -> list[Key]:
        """A worker has gone; its tasks are placed anew and lost results computed again.

        Args:
            expected: whether it left in good order; else it died.
            blamed: keys of the tasks that are known to be to blame for a death.

        Returns:
            The keys of the results that are lost for good: nothing computes them (scattered data).
        """
        worker = self.workers.get(address)
        if worker is None:
            return []
        self._begin("remove-worker", now)
        recommendations, lost = membership.remove_worker(self, worker, reason, expected=expected, blamed=blamed)
        self.settle(recommendations)
        self._end(placement.park_queued(self))
        return lost

    def handle_batch(self, worker: WorkerState, messages: Iterable[Message], now: float) -> None:
        """Take a worker's messages, in order; afterwards it is given more of what is queued.

        Late words of a worker that has gone are passed over.

        Raises:
            UnknownMessage: the core takes no such message of a worker; those before it are taken, those after it not.
        """
        if self.workers.get(worker.address) is not worker:
            return
        self.stimulus = "worker"
        self.now = now
        self.shown = now + self.shift
        unknown = None
        functions = WORKER_MESSAGES
        for message in messages:
            function = functions.get(type(message))
            if function is None:
                unknown = message
                break
            if self.observers:
                self.report = message
                self.reporter = worker
            recommendations = function(self, worker, message)
            if recommendations:
                run_transitions(self, recommendations)
        if self.queued.count:
            placement.fill(self, worker)
        self._end()
        if unknown is not None:
            raise UnknownMessage(
                f"the scheduler does not take messages of the class {type(unknown).__name__} from workers"
            )

    def on_heartbeat(
        self, worker: WorkerState, message: WorkerHeartbeat, now: float, recent_to_old: float = 30.0
    ) -> None:
        """A worker lives; `recent_to_old`: see `WorkerState.on_metrics`."""
        self._begin("heartbeat", now)
        heartbeat_reports.on_heartbeat(self, worker, message, recent_to_old)
        self._end()

    def set_worker_status(self, worker: WorkerState, status: str, now: float, reason: str = "") -> None:
        """A worker says that it runs, pauses or is closing, and why it does that."""
        self._begin("worker-status-change", now)
        self.settle(membership.set_status(self, worker, status, reason))
        self._end({**unrunnable.run_unrunnable(self), **placement.park_queued(self)})

    def set_resources(self, worker: WorkerState, resources: dict[str, float], now: float) -> None:
        """A worker has other amounts of some abstract resources from now on."""
        self._begin("set-resources", now)
        self.settle(membership.set_resources(self, worker, resources))
        self._end(unrunnable.run_unrunnable(self))

    def expire_unrunnable(self, timeout: float, now: float) -> None:
        """Let tasks err that have waited for a worker for over `timeout` seconds."""
        self._begin("no-workers-timeout", now)
        self._end(unrunnable.expire(self, timeout))

    def begin_scatter(self, keys: Iterable[Key], client: str, now: float) -> int:
        """A client is about to put data on workers; returns the number that they and `add_data` are to be given."""
        return self.scatters.begin(keys, client, now)

    def add_data(
        self,
        client: ClientState | None,
        who_has: dict[Key, list[str]],
        nbytes: dict[Key, int],
        types: dict[Key, str],
        now: float,
        *,
        scattering: int = 0,
    ) -> None:
        """Results that no task computed (scattered data) are on these workers.

        Args:
            scattering: the number from `begin_scatter`, which ends with this.
        """
        self._begin("update-data", now)
        if scattering:
            self.scatters.end(scattering)
        self._end(scattered_data.add_data(self, client, who_has, nbytes, types, scattering))

    def add_data_of(
        self,
        name: str,
        who_has: dict[Key, list[str]],
        nbytes: dict[Key, int],
        types: dict[Key, str],
        now: float,
        *,
        scattering: int = 0,
    ) -> None:
        """The same, for a client that may have gone meanwhile: then the data goes, too."""
        client = self.clients.get(name) or ClientState(name, silent=True)
        self.add_data(client, who_has, nbytes, types, now, scattering=scattering)
        if name not in self.clients:
            self._end(interest.drop_client(self, client))

    def on_missing_data(self, key: Key, address: str, now: float) -> None:
        """A worker that should have a result did not have it when a client asked."""
        self._begin("missing-data", now)
        self._end(completion.lose_missing(self, key, address))

    # Events that documented methods make

    def note_client(self, client: ClientState, now: float) -> None:
        """Note that a client lives."""
        client.last_seen = now + self.shift

    def transition(self, task: TaskState, finish: str, stimulus: str, now: float) -> Recommendations:
        """Move one task as the documented `Scheduler.transition`; returns what `transitions` is to be given next.

        Raises:
            UnknownTransition: the table connects the two states neither directly nor by way of `released`.
        """
        self._begin(stimulus, now)
        return run_as_documented(self, task, finish)

    def transitions(self, recommendations: Recommendations, stimulus: str, now: float) -> None:
        """Move tasks as the documented `Scheduler.transitions`, until no recommendation is left.

        Raises:
            UnknownTransition: the table connects two states neither directly nor by way of `released`.
        """
        self._begin(stimulus, now)
        following: Recommendations = {}
        for task, finish in recommendations.items():
            following.update(run_as_documented(self, task, finish))
        self._end(following)

    def assign(self, task: TaskState, worker: WorkerState, now: float) -> None:
        """Send a task that waits for a worker to this one."""
        if task.state not in ("queued", "no-worker"):
            raise ValueError(f"only tasks that are queued or in state no-worker can be sent, and {task!r} is not")
        self._begin("send-task-to-worker", now)
        self.send_to(task, worker)
        self._end()

    # What events are made of

    def _begin(self, stimulus: str, now: float) -> None:
        self.stimulus = stimulus
        self.now = now
        self.shown = now + self.shift

    def look_around(self, stimulus: str, now: float) -> None:
        """The shell does something of its own accord: what it does is recorded as of now."""
        self._begin(stimulus, now)

    def show_times(self, shift: float) -> None:
        """The time of day is so many seconds ahead of `now`, from now on."""
        self.shift = shift

    def settle(self, recommendations: Recommendations) -> None:
        """Run transitions until no recommendation is left."""
        if recommendations:
            run_transitions(self, recommendations)

    def send_to(self, task: TaskState, worker: WorkerState) -> None:
        """Move a task to processing on a worker that has been chosen already."""
        self.chosen[task] = worker
        run_transitions(self, {task: "processing"})

    def _end(self, recommendations: Recommendations | None = None) -> None:
        """Finish an event: settle, give queued tasks to workers that have room now, check invariants if asked for."""
        if recommendations:
            run_transitions(self, recommendations)
        if self.queued.count and self.open_workers:
            placement.fill_all(self)
        if self.validate:
            invariants.check(self)

    def move(self, task: TaskState, finish: str) -> None:
        """Change a task's state and account for it; called by transition functions only."""
        start = task.state
        task.state = finish
        group = task.group
        group.left[start] += 1
        group.entered[finish] += 1
        self.transition_counter += 1
        self.transition_log.append((task.key, start, finish, self.stimulus, self.shown))
        if self.observers:
            for observer in self.observers:
                observer(task, start, finish, self.shown)

    def send(self, receiver: WorkerState | ClientState, message: Message) -> None:
        """Put a message in the outbox of a worker or client."""
        outbox = receiver.outbox
        if not outbox:
            self.dirty.append(receiver)
        outbox.append(message)

    def set_slow(self, client: ClientState, slow: bool) -> None:
        """A client does, or does not, read more slowly than it is sent to; see `ClientState.slow`."""
        client.slow = slow

    def free(self, worker: WorkerState, key: Key) -> None:
        """Tell a worker to drop a key; neighbours share a message, so that order with other messages stays."""
        outbox, scatters = worker.outbox, self.scatters
        known = scatters.known(key, self.now) if scatters.under_way else scatters.latest
        if outbox and type(outbox[-1]) is FreeKeys and outbox[-1].scattering == known:
            outbox[-1].keys.append(key)
        else:
            self.send(worker, FreeKeys([key], known))

    def story(self, *keys_or_stimuli: Key | TaskState) -> list[StoryLine]:
        """The logged transitions of these keys (or with these stimuli), oldest first."""
        wanted = {key.key if isinstance(key, TaskState) else key for key in keys_or_stimuli}
        return [line for line in self.transition_log if line[0] in wanted or line[3] in wanted]
