"""The worker: the shell around the core. It passes messages and outcomes to the core, and does what the core decides.

It never assigns a field of the core's records. Fetching and serving data is `transfer`'s, running tasks `executor`'s,
and other requests are answered in `operations`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
import time
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from concurrent.futures import Executor
from typing import TYPE_CHECKING, Any

from headrace.comm import get_address_host
from headrace.comm.addressing import addresses_from_user_args, facing_address, full_contact_address, parse_address
from headrace.common.hooks import hook_of
from headrace.common.importing import import_late
from headrace.common.keys import Key, from_wire
from headrace.common.status import Status
from headrace.config import seconds_of
from headrace.containment import log_raised
from headrace.directories import WorkDir, WorkSpace, scratch_directory
from headrace.exceptions import UnknownMessage
from headrace.machine import cpu_count
from headrace.messages.base import HandlerMessage
from headrace.messages.worker import HeartbeatInterval, Retired, WorkerEvent, WorkerStatus
from headrace.rpc import PooledRPCCall, Stream
from headrace.rpc.scheduler_file import wait_for_scheduler_file
from headrace.rpc.server import Operation
from headrace.rpc.server_life import Node, scheduler_address_of
from headrace.rpc.server_logs import silence
from headrace.rpc.slow_waits import WAITS, say_if_slow
from headrace.system_monitor import SystemMonitor

from . import context, memory
from .activity_totals import ActivityTotals
from .actors import ActorHost
from .execution import task_logs
from .execution.executor import TaskExecutor
from .execution.profiler import Profiler
from .heartbeat_metrics import DEFAULT_METRICS, Metrics
from .lifetime import Lifetime
from .operations import Operations
from .scattered import Scattered
from .session import SchedulerSession
from .state.core import WorkerCore
from .state.effects import GatherData, TaskRun
from .state.events import Pause, SetResources, Unpause
from .task_clients import TaskClients
from .transfer import Transfers
from .worker_card import worker_html
from .worker_options import (
    HEARTBEAT,
    IGNORED,
    NO_READINGS,
    Readings,
    WorkerOptions,
    executors_of,
    with_server_name,
)

if TYPE_CHECKING:
    from headrace.security import Security

logger = logging.getLogger("distributed.worker")

#: Between these a worker may be switched by an assignment. In the last one, too, it starts no task, and gets none.
_GOES_ON = (Status.running, Status.paused)
_SWITCHES = (*_GOES_ON, Status.closing_gracefully)


class WorkerServer(Node):
    """Computes tasks and keeps their results.

    Await it, or use it in `async with`, to start it; `await worker.finished()` waits until it has closed.

    Args:
        scheduler_ip: the scheduler's address, or its host if `scheduler_port` is given; or a cluster.
        scheduler_file: JSON file in which the scheduler wrote its address, instead.
        nthreads: tasks that run at a time; by default the processors there are.
        local_directory: where to make a directory for this worker; removed when it closes.
        name: what others call it; by default its address.
        executor: where tasks run: an `Executor`, or several by name (a task chooses by the annotation `executor`; the
            others run in "default").
        resources: amounts of abstract resources by name.
        death_timeout: seconds to be registered within, at the start and when the connection broke (then 30 by default).
        reconnect: whether to register again, with the results it holds, when the connection to the scheduler breaks.
        lifetime: seconds, or text, after which this closes gracefully; `lifetime_stagger` is a random part of it, more
            or less, and with `lifetime_restart` its nanny starts another.
        preload, preload_argv: code to run as this starts and ends (see `headrace.preloading`).
        extensions: {name: class}; each is made with the worker as its argument, and its `close` called at the end.
        memory_limit: bytes, text such as "5 GB", "auto" for its share of the machine, 0 for no limit.
        data: mapping to keep results in, a function that makes one, or `(function, keywords)`.
        memory_target_fraction, memory_spill_fraction, memory_pause_fraction, max_spill, memory_monitor_interval: as in
            the configuration under `distributed.worker.memory`.
        host, port, interface, protocol: where to listen; `port` may be a range "9000:9010".
        contact_address: the address that others are told, if not the one listened on.
        nanny: address of its nanny.
        plugins: worker plugins to start with.
        metrics, startup_information: functions by name, called with the worker; the scheduler is told what they return.
        validate: check the state's invariants after each event (slow; for tests).
        profile_cycle_interval: seconds, or text, that share an entry of the profile's history.
        services: what else is to listen, for the public `Worker`, which starts it.
        heartbeat_interval: seconds, or text, between two heartbeats; the default leaves it to the scheduler.
        transition_counter_max: fail after so many transitions of tasks (for tests that look for endless ones).
        scheduler_sni: name that a TLS scheduler is expected under.
        WorkerStateClass: class of the documented state machine, for the public Worker.
        serializers, deserializers: names of the families by which values from other workers are to come, in order of
            preference, and of those that are taken; by default all are.
        dashboard_address: where to serve HTTP (health, metrics): a port, ":8788", "host:8788"; None for not at all.
        dashboard: serve HTTP also if no address is given.
        http_prefix: path before those of HTTP.
        low_level_profiler: accepted for compatibility.
        security: certificates for TLS.
        options: what is otherwise read from the configuration.

    Raises:
        ValueError: no scheduler is named, and there is no preload that could do so; or a family is not known here.
        TypeError: a keyword is unknown, or a value has the wrong type.
        TimeoutError: when started, if the scheduler cannot be reached.
        RuntimeError: when started, for whatever else prevents that, such as a port that cannot be had: its cause.
    """

    _status = Status.created
    _starts_paused = False

    def __init__(
        self,
        scheduler_ip: object = None,
        scheduler_port: int | str | None = None,
        scheduler_file: str | None = None,
        nthreads: int | None = None,
        local_directory: str | None = None,
        services: Mapping[Any, Any] | None = None,
        name: object = None,
        executor: Executor | Mapping[str, Executor] | str | None = None,
        resources: Mapping[str, float] | None = None,
        silence_logs: int | None = None,
        death_timeout: float | str | None = None,
        preload: object = None,
        preload_argv: object = None,
        security: Security | Mapping[str, Any] | None = None,
        contact_address: str | None = None,
        heartbeat_interval: float | str | None = HEARTBEAT,
        extensions: Mapping[str, Callable[[Any], Any]] | None = None,
        metrics: Readings = NO_READINGS,
        startup_information: Readings = NO_READINGS,
        interface: str | None = None,
        host: str | None = None,
        port: int | str | Iterable[int] | None = None,
        protocol: str | None = None,
        dashboard_address: object = None,
        dashboard: bool = False,
        http_prefix: str = "/",
        nanny: str | None = None,
        plugins: Iterable[Any] = (),
        low_level_profiler: bool | None = None,
        validate: bool | None = None,
        profile_cycle_interval: float | str | None = None,
        lifetime: float | str | None = None,
        lifetime_stagger: float | str | None = None,
        lifetime_restart: bool | None = None,
        transition_counter_max: int | bool = False,
        memory_limit: str | float | None = "auto",
        data: Any = None,
        scheduler_sni: str | None = None,
        WorkerStateClass: type | None = None,
        ncores: int | None = None,
        local_dir: str | None = None,
        reconnect: bool = True,
        options: WorkerOptions | None = None,
        **ignored: Any,
    ) -> None:
        life = {
            "lifetime": lifetime,
            "lifetime_stagger": lifetime_stagger,
            "lifetime_restart": lifetime_restart,
            "preload": preload,
            "preload_argv": preload_argv,
        }
        families = ignored.pop("serializers", None), ignored.pop("deserializers", None)
        memory_keywords = {name: ignored.pop(name) for name in memory.KEYWORDS if name in ignored}
        unknown = sorted(ignored.keys() - IGNORED)
        if unknown:
            raise TypeError(f"Worker got an unexpected keyword argument {', '.join(map(repr, unknown))}")
        options = options or WorkerOptions.from_config()
        follows = bool(preload or options.life.get("preload"))
        self.scheduler_address = scheduler_address_of(scheduler_ip, scheduler_port, scheduler_file, follows)
        self.scheduler_file = scheduler_file
        super().__init__("Worker", {}, security, "distributed.worker")
        self._learn_token_from(scheduler_file)
        self.scheduler_connection_args = with_server_name(self.connection_args, scheduler_sni)
        self.options = options
        self.nthreads = int(nthreads or ncores or cpu_count())
        if self.nthreads < 1:
            raise ValueError(f"nthreads must be at least 1, not {nthreads}")
        self.name = name
        self.nanny = nanny
        self.memory_manager = memory.WorkerMemoryManager(
            self, nthreads=self.nthreads, memory_limit=memory_limit, data=data, **memory_keywords
        )
        self.memory_limit = self.memory_manager.memory_limit
        self.contact_address = contact_address
        self._http: dict[str, Any] = {"address": dashboard_address, "pages": bool(dashboard), "prefix": http_prefix}
        self.death_timeout = seconds_of(death_timeout)
        self.heartbeat_interval = None if heartbeat_interval == HEARTBEAT else seconds_of(heartbeat_interval)
        self.service_specs = dict(services or {})
        silence(logger, silence_logs)
        self.local_directory = local_directory or local_dir or ""
        self._directory: WorkDir | None = None
        self._listen = {"host": host, "port": port, "interface": interface, "protocol": protocol}
        self._executors = executors_of(executor)
        limit = self.memory_limit
        fraction = options.incoming_fraction
        self.core = self._make_core(
            WorkerStateClass,
            nthreads=self.nthreads,
            resources={**(options.resources or {}), **(resources or {})},
            validate=options.validate if validate is None else validate,
            outgoing_limit=options.outgoing,
            message_bytes_limit=options.message_bytes,
            incoming_bytes_limit=limit * fraction if limit and fraction else float("inf"),
            seed=hash(self.id),
            log_length=options.log_length,
            transition_counter_max=transition_counter_max,
        )
        self._profile_cycle = profile_cycle_interval
        self.profiler: Profiler | None = None
        self._keep_results_in(self.memory_manager.data)
        self.plugins: dict[str, Any] = {}
        self._start_plugins = list(plugins)
        self.task_logs = task_logs.TaskLogs.from_config()
        self.activities = ActivityTotals()
        self.transfers = Transfers(self, options.incoming)
        self.transfers.choose_families(*families)
        self.actor_host = ActorHost(self)
        self.monitor = SystemMonitor()
        self.measured = Metrics(self, {**DEFAULT_METRICS, **metrics})
        self.operations = Operations(self)
        self.server.add_operations("WorkerServer", self._operations())
        self.startup_information = dict(startup_information)
        self.batched_stream: Stream | None = None
        self.session = SchedulerSession(self, reconnect)
        self.scattered = Scattered(self)
        self.task_clients = TaskClients(self)
        self.close_reason = ""
        #: what it dies of, if it closes although nobody who may ask for that has
        self.death_cause = ""
        self.blamed: list[Key] = []
        #: whether its nanny, if it has one, is to start another worker once this one has closed
        self.nanny_restarts = False
        #: why it leaves, once it does so gracefully; the scheduler, which lets it go, knows less
        self._leaving = ""
        self.life = Lifetime(self, options, life)
        self.extensions: dict[str, Any] = {name: make(self) for name, make in (extensions or {}).items()}

    def __repr__(self) -> str:
        name = f", name: {self.name}" if self.name is not None and self.name != self.address_safe else ""
        state = self.core
        return (
            f"<Worker {self.address_safe!r}{name}, status: {self.status.name}, stored: {len(self.data)}, "
            f"running: {state.executing_count}/{self.nthreads}, ready: {len(state.ready)}, "
            f"comm: {state.transfer_incoming_count}, waiting: {len(state.waiting)}>"
        )

    def _repr_html_(self) -> str:
        return worker_html(self)

    # Where the public Worker (`headrace.compat.worker`) puts what its subclasses override

    def _make_core(self, state_class: type | None, **options: Any) -> WorkerCore:
        """The core of this worker; options as of `WorkerCore`."""
        return WorkerCore(**options)

    def _keep_results_in(self, data: MutableMapping[Key, object]) -> None:
        self.data = data

    def _operations(self) -> dict[str, Operation]:
        """The operations that others may ask for."""
        return self.operations.table()

    def begin_runs(self, runs: list[TaskRun]) -> None:
        """Run tasks that the core has decided to run."""
        self.task_executor.submit(runs)

    def begin_fetch(self, request: GatherData) -> None:
        """Ask a peer for data that the core has decided to fetch."""
        self.run_in_background(self.transfers.fetch(request))

    def note_received(self, who: str, sizes: dict[Key, int], nbytes: int, start: float, seconds: float) -> None:
        """Data have come from a peer.

        Args:
            who: its address.
            sizes, nbytes: bytes of each value, and of all.
            start, seconds: when it began (seconds since the epoch), and how long it took.
        """

    def note_sent(
        self, who: str | None, keys: list[Key], nbytes: int, start: float, seconds: float, travelled: int
    ) -> None:
        """Data have gone out.

        Args:
            who: address of the worker that asked; None for a client.
            nbytes: bytes of the values; `travelled`: of their pickles, compressed if they were.
            start, seconds: when it began (seconds since the epoch), and how long it took.
        """

    # Life

    def _now_listens(self) -> None:
        """Called as soon as this server listens, for subclasses that open more."""

    def other_ports(self) -> dict[str, int]:
        """Ports of other services that run beside this worker, by name; a subclass may have some."""
        return {} if self.http_server is None else {"dashboard": self.http_server.port}

    async def _prepare(self) -> None:
        await memory.off_the_loop(self._make_directory)  # may find much that dead workers left
        await self.life.load_preloads()
        if not self.scheduler_address and self.scheduler_file is None:
            self.scheduler_address = scheduler_address_of(None, None, None)

    async def _start(self) -> None:
        timeout = self.death_timeout if self.death_timeout is not None else self.options.connect_timeout
        try:
            async with asyncio.timeout(self.death_timeout):
                if not self.scheduler_address:
                    self.scheduler_address = await wait_for_scheduler_file(str(self.scheduler_file), 0.9 * timeout)
                await self._listen_somewhere()
                self._open_http(**self._http)
                self._now_listens()
                self.memory_manager.start(self.local_directory)
                self._keep_results_in(self.memory_manager.data)
                await self.life.start_preloads()
                grace = self.options.interrupt_grace
                self.task_executor = TaskExecutor(self, self.nthreads, self._take_outcomes, self._executors, grace)
                if self.options.profile_interval:
                    cycle = seconds_of(self._profile_cycle) or self.options.profile_cycle
                    self.profiler = Profiler(self.task_executor, self.options.profile_interval, cycle)
                    self.profiler.start()
                context.workers.add(self)
                task_logs.start(self)
                await self._register(timeout)
        except TimeoutError as error:
            if isinstance(error, OSError) and str(error):
                raise
            raise TimeoutError(
                f"Worker could not register with the scheduler at {self.scheduler_address or self.scheduler_file} "
                f"within {timeout:g} s"
            ) from error
        if "dask._task_spec" in sys.modules:  # else the process imports this when it has nothing to do
            import_late()
        self._status = Status.running
        if self._starts_paused:
            self.set_status(Status.paused)
        self.life.begin()
        logger.info("Worker at %s is registered with the scheduler at %s", self.address, self.scheduler_address)

    async def _listen_somewhere(self) -> None:
        """Listen at the first of the possible addresses that can be had."""
        listen: dict[str, Any] = dict(self._listen)
        if not any(listen.values()) and parse_address(self.scheduler_address)[0] == "inproc":
            listen["protocol"] = "inproc"
        ports = listen.pop("port")

        def addresses(port: int | str | None) -> list[str]:
            return addresses_from_user_args(port=port, peer=self.scheduler_address, security=self.security, **listen)

        await self._listen_at_first(ports, addresses)
        self.contact_address = self.contact_address or facing_address(
            self.server.listen_address, self.scheduler_address
        )
        if self.contact_address:
            self.contact_address = full_contact_address(self.contact_address, self.server.address)
        if self.name is None:
            self.name = self.address
        self.core.address = self.address

    @property
    def scheduler(self) -> PooledRPCCall:
        """Calls the scheduler: `await worker.scheduler.identity()`."""
        return self.rpc(self.scheduler_address)

    def identity(self) -> dict[str, Any]:
        """The answer to `identity`: address, name, size and status."""
        return {
            "type": type(self).__name__,
            "id": self.id,
            "scheduler": self.scheduler_address,
            "nthreads": self.nthreads,
            "memory_limit": self.memory_limit,
            "name": self.name,
            "address": self.address,
            "host": get_address_host(self.address),
            "nanny": self.nanny,
            "local_directory": self.local_directory,
            "status": self.status.name,
            "services": self.other_ports(),
        }

    @property
    def address(self) -> str:
        """The address by which others reach this worker.

        Raises:
            ValueError: it does not listen yet.
        """
        return self.contact_address or self.server.address

    def _make_directory(self) -> None:
        self._directory = WorkDir(WorkSpace(self.local_directory or scratch_directory()), prefix="worker-")
        self.local_directory = self._directory.dir_path
        if self.local_directory not in sys.path:
            sys.path.append(self.local_directory)

    async def _register(self, timeout: float) -> None:
        for plugin in self._start_plugins:
            await self.operations.install(plugin)
        # a little less than what the whole start may take, so that it is this error that is seen, with its cause
        with say_if_slow(logger, WAITS, self.scheduler_address, timeout):
            await self.session.register_within(0.95 * timeout)

    async def close(  # type: ignore[override]
        self,
        timeout: float = 30,
        executor_wait: bool = True,
        nanny: bool = True,
        reason: str = "worker-close",
    ) -> str:
        """Leave the scheduler and stop. Waits for a close under way. Returns "OK".

        Args:
            timeout: seconds to wait for tasks that run.
            executor_wait: whether to wait for them at all.
            nanny: whether the nanny, if there is one, closes as well; else it starts another worker.

        A task that calls this ends its worker: that is a death, as any other end that a task brings about.
        """
        if self.loop is not None and not self.loop.runs_here and self.loop.asyncio_loop.is_running():
            closing = self.close(timeout, executor_wait, nanny, reason)
            return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(closing, self.loop.asyncio_loop))
        if self._asked_by_task():
            executor_wait = False  # it would wait for itself
        self.nanny_restarts = self.nanny_restarts or not nanny
        reason = self._leaving or reason
        return await self._shut(reason, {"timeout": float(timeout), "executor_wait": executor_wait})

    def die_of(self, cause: str, blamed: Iterable[Key] = ()) -> None:
        """Have the scheduler and the nanny take the end of this worker, which is near, for a death.

        Nobody who may ask for its end has asked.

        Args:
            cause: in words for people.
            blamed: keys of the tasks that brought it about, if they are known.
        """
        if self._closing is None and not self.death_cause:
            self.death_cause = cause
            self.blamed = list(blamed)

    def _asked_by_task(self) -> bool:
        """Whether a task of this worker asks for its end; then it is one to blame."""
        asking = context.asking_task()
        if asking is None or asking[0] is not self:
            return False
        key = asking[1]
        if key is None:
            self.die_of("it was closed from within a task")
        else:
            self.die_of(f"task {from_wire(key)!r} closed it", [key])
        return True

    async def _close(self, reason: str = "", timeout: float = 30, executor_wait: bool = True, **_: object) -> None:
        self.close_reason = reason
        logger.info("Stopping worker at %s. Reason: %s", self.address_safe, reason)
        context.workers.discard(self)
        await self.life.end()
        for name in list(self.plugins):
            await self.operations.plugin_remove(name)
        await self.operations.close_extensions()
        self.scattered.close()
        if self.batched_stream is not None:
            self._send_event(WorkerEvent([self.address], {"action": "closing-worker", "reason": reason}))
        await self.session.close()
        await self.task_clients.close()
        await self.actor_host.close()
        await self.transfers.close()
        executor = getattr(self, "task_executor", None)
        if executor is not None:
            if self.profiler is not None:
                self.profiler.close()
            await executor.close(executor_wait, timeout)
        task_logs.stop(self)
        await self.memory_manager.close()
        if self._directory is not None:
            if self.local_directory in sys.path:
                sys.path.remove(self.local_directory)
            await memory.off_the_loop(self._directory.release)  # there may be much in it

    async def close_gracefully(self, restart: bool | None = None, reason: str = "worker-close-gracefully") -> None:
        """Have the scheduler move this worker's data away, then close.

        Args:
            restart: whether the nanny, if there is one, starts another worker; by default as `lifetime_restart` says.
        """
        if self.status in (Status.closing, Status.closed) or self._leaving:
            await self.finished()
            return
        logger.info("Closing worker gracefully: %s. Reason: %s", self.address, reason)
        self._status = Status.closing_gracefully  # the scheduler is asked to let it go, and its tasks end
        self._leaving = reason
        self.nanny_restarts = self.life.restart if restart is None else restart
        remove = not self._asked_by_task()  # else the scheduler is to hear who is to blame
        with contextlib.suppress(OSError):
            await self.scheduler.retire_workers(workers=[self.address], close_workers=False, remove=remove)
        await self.close(reason=reason)

    def close_soon(self, reason: str) -> None:
        """Close, from where one cannot wait for it."""
        if self._closing is None and self.status is not Status.created:
            self.run_detached(self.close(reason=reason))

    # Events in, effects out

    def take(self, event: object) -> None:
        """Give one event to the state, and do what it decides. On the loop."""
        self.handle_events((event,))

    def _take_messages(self, messages: list[Any]) -> None:
        self.handle_events(messages)
        if self.core.close_requested is not None:
            self.close_soon(self.core.close_requested)
        if self.core.notices:
            notices, self.core.notices = self.core.notices, []
            for notice in notices:
                self._take_notice(notice)

    def _take_notice(self, notice: Retired | HeartbeatInterval | HandlerMessage) -> None:
        if isinstance(notice, HandlerMessage):
            self.take_handler_message(notice, self.scheduler_address)
        elif isinstance(notice, HeartbeatInterval):
            self.session.change_heart_rate(notice.seconds)
        elif self._status in _GOES_ON:
            self._status = Status.closing_gracefully

    def _take_outcomes(self, events: list[Any]) -> None:
        self.handle_events(events)

    def handle_events(self, events: Iterable[Any]) -> None:
        """Give events to the state, and do what it decides. On the loop."""
        try:
            self.core.handle_batch(events, time.time())
            self._act()
        except UnknownMessage as error:
            self._act()
            self._drop_connection(error)
        except ValueError as error:
            logger.error("Worker at %s got a message that makes no sense and closes: %s", self.address_safe, error)
            self._fail(f"bad message from the scheduler: {error}")
        except Exception as error:
            logger.exception("Worker at %s failed and closes", self.address_safe)
            if hasattr(error, "to_event"):
                self.log_event(*error.to_event())
            self._fail(f"the worker's state failed: {error}")

    def _drop_connection(self, error: UnknownMessage) -> None:
        """The other end is no scheduler that this worker understands; it is to register anew, or with another one."""
        logger.error("Worker at %s closes the connection to the scheduler: %s", self.address_safe, error)
        self.session.drop(error)

    def _fail(self, reason: str) -> None:
        self.die_of(reason)
        if self.batched_stream is not None:
            self.batched_stream.abort()
        self.close_soon(reason)

    def _act(self) -> None:
        """Do what the state has decided, until it decides no more."""
        state = self.core
        while state.outbox:
            outbox = state.drain()
            if outbox.execute:
                self.begin_runs(outbox.execute)
            answers: list[Any] = [self.task_executor.recall(task.key) for task in outbox.recall]
            for key, force in outbox.interrupt:
                self.task_executor.interrupt(key, force)
            if outbox.free:
                self.memory_manager.drop(outbox.free)
                if self.actor_host.instances:
                    self.actor_host.forget(outbox.free)
            for request in outbox.gather:
                self.begin_fetch(request)
            for address in outbox.retry_later:
                self.transfers.retry_later(address)
            if outbox.messages and self.batched_stream is not None:
                self.batched_stream.send_all(outbox.messages)
            if outbox.transitions:
                self._tell_plugins(outbox.transitions)
            if answers:
                state.handle_batch(answers, time.time())

    def restart_for(self, key: Key) -> None:
        """A task that was cancelled with `force` does not end. On the loop."""
        self.run_in_background(self.session.ask_for_restart(key))

    def watch_transitions(self) -> None:
        """Have the state report transitions if a plugin wants them, and only then."""
        self.core.watched = any(hook_of(plugin, "transition") is not None for plugin in self.plugins.values())

    def _tell_plugins(self, transitions: list[tuple[Key, str, str]]) -> None:
        watching = [plugin for plugin in self.plugins.values() if hook_of(plugin, "transition") is not None]
        for key, start, finish in transitions:
            for plugin in watching:
                try:
                    plugin.transition(from_wire(key), start, finish)
                except BaseException as raised:
                    log_raised(logger, raised, "Plugin %r failed in transition", plugin)

    @property
    def status(self) -> Status:
        """The worker's stage of life.

        Users assign `Status.paused` or `Status.closing_gracefully`, and `Status.running` to go on.
        """
        return self._status

    @status.setter
    def status(self, status: Status) -> None:
        if type(status) is not Status:
            raise TypeError(f"a worker's status is a Status, such as Status.paused, not {status!r:.100}")
        if self._status is Status.starting and status in _GOES_ON:  # a plugin's or a preload's wish
            self._starts_paused = status is Status.paused
        elif status not in _SWITCHES or self._status not in _SWITCHES:
            self._status = status
        elif self._leaving:
            logger.info("Worker %s leaves, and cannot be %s any more", self.address_safe, status.name)
        elif self.loop is None or self.loop.runs_here:
            self.set_status(status)
        else:  # a task assigns it
            self.loop.asyncio_loop.call_soon_threadsafe(self.set_status, status)

    def set_status(self, status: Status) -> None:
        """Pause, go on, or be about to leave, and tell the scheduler. On the loop."""
        if self._status is status or self._status not in _SWITCHES or self._leaving:
            return
        self._status = status
        self.take(Unpause() if status is Status.running else Pause())
        if self.batched_stream is not None:
            self.batched_stream.send(WorkerStatus(status.name))

    async def set_resources(self, **resources: float) -> None:
        """Change the amounts of abstract resources."""
        self.take(SetResources(resources))
        await self.scheduler.add_resources(worker=self.address, resources=resources)

    def send_event(self, topics: list[str], event: object) -> None:
        """Publish something; from any thread."""
        assert self.loop is not None
        self.loop.asyncio_loop.call_soon_threadsafe(self._send_event, WorkerEvent(topics, event))

    def _send_event(self, message: WorkerEvent) -> None:
        if self.batched_stream is not None:
            self.batched_stream.send(message)

    def log_event(self, topic: str | Iterable[str], msg: object) -> None:
        """Publish a message on a topic, or several; from any thread."""
        self.send_event([topic] if isinstance(topic, str) else list(topic), msg)

    # For tasks

    def get_client(self, timeout: float | str | None = None) -> Any:
        """A client of this worker's scheduler on this worker's loop, or one that this process has already.

        Called in a coroutine, it is an asynchronous one.

        Raises:
            OSError: it cannot connect within `timeout`.
        """
        return self.task_clients.get(timeout)

    def get_current_task(self) -> Any:
        """The key of the calling task.

        Raises:
            ValueError: not called from a task.
        """
        return context.get_current_task()


__all__ = ["WorkerServer"]
