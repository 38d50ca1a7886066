"""The public Scheduler: SchedulerServer with the documented keywords and members.

Its members are events of the core, looks at it, or members of the scheduler's parts, listed one by one below.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

from headrace.comm import get_address_host, get_address_host_port
from headrace.common.display.cluster_html import SHOWN, render_scheduler
from headrace.common.display.html import badge
from headrace.common.keys import Key, to_wire
from headrace.common.status import Status
from headrace.compat.core.server_members import given_as_they_ask
from headrace.messages import FromWorker
from headrace.messages.base import NO_OPTIONS, Payload, TaskOptions
from headrace.messages.client import CancelKeys, DesireKeys, ReleaseKeys, SubmitGraph
from headrace.messages.worker import (
    LongRunning,
    ReleasedData,
    RequestWhoHas,
    RescheduleTask,
    TaskFailed,
    TaskFinished,
)
from headrace.preloading import PreloadManager
from headrace.rpc import Stream
from headrace.scheduler.connections.clients import ClientConnections
from headrace.scheduler.connections.silence import Silence
from headrace.scheduler.connections.worker_removal import WorkerRemoval
from headrace.scheduler.connections.workers import WorkerConnections
from headrace.scheduler.server import EXTENSIONS
from headrace.scheduler.shell import Shell
from headrace.scheduler.state.checks.story import Transition
from headrace.scheduler.state.records.tasks import TaskState
from headrace.scheduler.topics.cluster_requests import ClusterRequests
from headrace.scheduler.topics.data_requests import DataRequests
from headrace.scheduler.topics.event_requests import EventRequests
from headrace.scheduler.topics.inspection import Inspection
from headrace.scheduler.topics.lifecycle import Lifecycle
from headrace.scheduler.topics.observation import Observation
from headrace.scheduler.topics.plugins import PluginRequests
from headrace.scheduler.topics.profiles import Profiles
from headrace.scheduler.topics.rebalancing import Rebalancing
from headrace.scheduler.topics.restarts import Restarts
from headrace.scheduler.topics.scaling import Scaling
from headrace.scheduler.topics.sent_functions import SentFunctions
from headrace.scheduler.topics.shared_metadata import SharedMetadata
from headrace.scheduler.topics.state_dump import StateDump
from headrace.scheduler.topics.worker_watch import WorkerWatch
from headrace.scheduler.worker_directory import WorkerDirectory
from headrace.security import Security

from . import record_questions
from .forwarding import HeldBy, destination_of, forwarded, forwarded_methods, overridden
from .scheduler_state import SchedulerState


class Scheduler(SchedulerState):
    """Dynamic distributed task scheduler.

    Await it, or use it in `async with`, to start it; `await scheduler.finished()` waits until it has closed.

    Args:
        host, port, protocol, interface: where to listen; port 0 takes any free one. `protocol` is "tcp", "tls",
            "ws", "wss" or "inproc".
        contact_address: the address that workers and clients are told, if not the one listened on;
            `distributed.scheduler.contact-address` by default.
        validate: check the state's invariants after every event (slow; for tests).
        allowed_failures: how many workers may die under a task before it errs.
        worker_ttl: seconds (or text) of silence after which a worker is dropped, and restarted by its nanny if it has
            one; `distributed.scheduler.worker-ttl` by default, 0 for never.
        scheduler_file: where to write how to reach this scheduler, as JSON; removed when it closes.
        idle_timeout: seconds, or text such as "1 hour", without work after which this closes; None for never.
        preload, preload_argv: code to run as this starts and ends (see `headrace.preloading`).
        security: certificates for TLS.
        plugins: scheduler plugins to start with.
        blocked_handlers: operations that are refused, whoever asks; by default those of the configuration.
        timeout: seconds (or text) to connect to workers; `distributed.comm.timeouts.connect` by default.
        extensions: {name: class}; each is made with the scheduler as its argument. By default those in `EXTENSIONS`.

    Raises:
        OSError: when started, if the address cannot be had.
        TypeError: a keyword is unknown.
    """

    extension_paths: ClassVar[Mapping[str, str]] = {**EXTENSIONS, "stealing": "headrace.compat.stealing:WorkStealing"}

    # Members of the scheduler's parts

    add_client = forwarded(ClientConnections.add_client, "client_connections")
    remove_client = forwarded(ClientConnections.remove_client, "client_connections")
    add_worker = forwarded(WorkerConnections.add_worker, "worker_connections")
    handle_worker = forwarded(WorkerConnections.handle_worker, "worker_connections")
    heartbeat_worker = forwarded(WorkerConnections.heartbeat_worker, "worker_connections")
    check_worker_ttl = forwarded(Silence.check_worker_ttl, "silence")
    remove_worker = forwarded(WorkerRemoval.remove_worker, "removal")
    close_worker = forwarded(WorkerRemoval.close_worker, "removal")
    unregister = forwarded(WorkerRemoval.unregister, "removal")
    coerce_address = forwarded(WorkerDirectory.coerce_address, "directory")
    workers_list = forwarded(WorkerDirectory.workers_list, "directory")
    identity = forwarded(ClusterRequests.identity, "cluster_requests")
    broadcast = forwarded(ClusterRequests.broadcast, "cluster_requests")
    proxy = forwarded(ClusterRequests.proxy, "cluster_requests")
    gather = forwarded(DataRequests.gather, "data_requests")
    scatter = forwarded(DataRequests.scatter, "data_requests")
    update_data = forwarded(DataRequests.update_data, "data_requests")
    get_who_has = forwarded(DataRequests.get_who_has, "data_requests")
    get_has_what = forwarded(DataRequests.get_has_what, "data_requests")
    get_nbytes = forwarded(DataRequests.get_nbytes, "data_requests")
    get_ncores = forwarded(DataRequests.get_ncores, "data_requests")
    get_ncores_running = forwarded(DataRequests.get_ncores_running, "data_requests")
    get_processing = forwarded(DataRequests.get_processing, "data_requests")
    replicate = forwarded(Rebalancing.replicate, "rebalancing")
    rebalance = forwarded(Rebalancing.rebalance, "rebalancing")
    add_keys = forwarded(Rebalancing.add_keys, "rebalancing")
    gather_on_worker = forwarded(Rebalancing.gather_on_worker, "rebalancing")
    delete_worker_data = forwarded(Rebalancing.delete_worker_data, "rebalancing")
    request_acquire_replicas = forwarded(Rebalancing.request_acquire_replicas, "rebalancing")
    request_remove_replicas = forwarded(Rebalancing.request_remove_replicas, "rebalancing")
    reevaluate_occupancy = forwarded(Rebalancing.reevaluate_occupancy, "rebalancing")
    adaptive_target = forwarded(Scaling.adaptive_target, "scaling")
    workers_to_close = forwarded(Scaling.workers_to_close, "scaling")
    retire_workers = forwarded(Scaling.retire_workers, "scaling")
    restart = forwarded(Restarts.restart, "restarts")
    restart_workers = forwarded(Restarts.restart_workers, "restarts")
    get_story = forwarded(Inspection.get_story, "inspection")
    get_worker_logs = forwarded(Inspection.get_worker_logs, "inspection")
    get_task_status = forwarded(Inspection.get_task_status, "inspection")
    get_task_prefix_states = forwarded(Inspection.get_task_prefix_states, "inspection")
    get_call_stack = forwarded(Inspection.get_call_stack, "inspection")
    stimulus_retry = forwarded(Inspection.stimulus_retry, "inspection")
    get_events = forwarded(EventRequests.get_events, "event_requests")
    subscribe_topic = forwarded(EventRequests.subscribe_topic, "event_requests")
    unsubscribe_topic = forwarded(EventRequests.unsubscribe_topic, "event_requests")
    get_metadata = forwarded(SharedMetadata.get_metadata, "metadata")
    set_metadata = forwarded(SharedMetadata.set_metadata, "metadata")
    run_function = forwarded(SentFunctions.run_function, "sent_functions")
    feed = forwarded(SentFunctions.feed, "sent_functions")
    get_profile = forwarded(Profiles.get_profile, "profiles")
    get_profile_metadata = forwarded(Profiles.get_profile_metadata, "profiles")
    dump_state = forwarded(StateDump.dump_state, "state_dump")
    get_cluster_state = forwarded(StateDump.get_cluster_state, "state_dump")
    dump_cluster_state_to_url = forwarded(StateDump.dump_cluster_state_to_url, "state_dump")
    get_task_stream = forwarded(Observation.get_task_stream, "observation")
    get_task_stream_index = forwarded(Observation.get_task_stream_index, "observation")
    start_task_metadata = forwarded(Observation.start_task_metadata, "observation")
    stop_task_metadata = forwarded(Observation.stop_task_metadata, "observation")
    performance_report = forwarded(Observation.performance_report, "observation")
    benchmark_hardware = forwarded(Observation.benchmark_hardware, "observation")
    get_task_logs = forwarded(Observation.get_task_logs, "observation")
    register_scheduler_plugin = forwarded(PluginRequests.register_scheduler_plugin, "plugin_requests")
    unregister_scheduler_plugin = forwarded(PluginRequests.unregister_scheduler_plugin, "plugin_requests")
    register_worker_plugin = forwarded(PluginRequests.register_worker_plugin, "plugin_requests")
    unregister_worker_plugin = forwarded(PluginRequests.unregister_worker_plugin, "plugin_requests")
    register_nanny_plugin = forwarded(PluginRequests.register_nanny_plugin, "plugin_requests")
    unregister_nanny_plugin = forwarded(PluginRequests.unregister_nanny_plugin, "plugin_requests")
    register_nanny = forwarded(PluginRequests.register_nanny, "plugin_requests")
    add_nanny = forwarded(WorkerWatch.add_nanny, "worker_watch")
    get_worker_monitor_info = forwarded(WorkerWatch.get_worker_monitor_info, "worker_watch")
    subscribe_worker_status = forwarded(WorkerWatch.subscribe_worker_status, "worker_watch")
    log_worker_event = forwarded(WorkerWatch.log_worker_event, "worker_watch")
    handle_uncaught_error = forwarded(WorkerWatch.handle_uncaught_error, "worker_watch")
    check_idle = forwarded(Lifecycle.check_idle, "lifecycle")
    add_resources = forwarded(Lifecycle.add_resources, "lifecycle")
    remove_resources = forwarded(Lifecycle.remove_resources, "lifecycle")
    worker_send = forwarded(Shell.worker_send, "shell")
    client_send = forwarded(Shell.client_send, "shell")
    flush = forwarded(Shell.flush, "shell")
    notify_plugins = forwarded(Shell.notify_plugins, "shell")
    worker_rpc = forwarded(Shell.worker_rpc, "shell")

    time_started: HeldBy[float] = HeldBy("shell", "started")
    client_comms: HeldBy[dict[str, Stream]] = HeldBy("shell", "client_streams")
    stream_comms: HeldBy[dict[str, Stream]] = HeldBy("shell", "worker_streams")
    worker_plugins: HeldBy[dict[str, Any]] = HeldBy("shell", "worker_plugins")
    nanny_plugins: HeldBy[dict[str, Any]] = HeldBy("shell", "nanny_plugins")
    events: HeldBy[dict[str, Any]] = HeldBy("shell", "events")
    event_subscribers: HeldBy[dict[str, set[str]]] = HeldBy("shell", "event_subscribers")
    started: HeldBy[float] = HeldBy("shell", "started")
    worker_ttl: HeldBy[float | None] = HeldBy("silence", "worker_ttl")
    scheduler_file: HeldBy[str | None] = HeldBy("lifecycle", "scheduler_file")
    idle_timeout: HeldBy[float | None] = HeldBy("lifecycle", "idle_timeout")
    idle_since: HeldBy[float | None] = HeldBy("lifecycle", "idle_since")
    no_workers_timeout: HeldBy[float | None] = HeldBy("lifecycle", "no_workers_timeout")
    preloads: HeldBy[PreloadManager] = HeldBy("lifecycle", "preloads")

    def __init__(
        self,
        services: Mapping[Any, Any] | None = None,
        service_kwargs: Mapping[Any, Any] | None = None,
        allowed_failures: int | None = None,
        extensions: dict[str, Any] | None = None,
        validate: bool | None = None,
        scheduler_file: str | None = None,
        security: Security | dict[str, Any] | None = None,
        worker_ttl: str | float | None = None,
        idle_timeout: object = None,
        interface: str | Sequence[str | None] | None = None,
        host: str | Sequence[str | None] | None = None,
        port: int | str | Sequence[int | str | None] | None = 0,
        protocol: str | Sequence[str] | None = None,
        dashboard_address: object = None,
        dashboard: bool | None = None,
        http_prefix: str | None = "/",
        preload: str | Iterable[str] | None = None,
        preload_argv: Iterable[Any] | None = (),
        plugins: Iterable[object] = (),
        contact_address: str | None = None,
        transition_counter_max: int | bool = False,
        jupyter: bool = False,
        loop: object = None,
        delete_interval: object = "500ms",
        synchronize_worker_interval: object = "60s",
        blocked_handlers: list[str] | None = None,
        timeout: str | float | None = None,
        **kwargs: object,
    ) -> None:
        if kwargs:
            raise TypeError(f"Scheduler got an unexpected keyword argument {', '.join(map(repr, sorted(kwargs)))}")
        super().__init__(
            listen={"host": host, "port": port, "protocol": protocol, "interface": interface},
            contact_address=contact_address,
            allowed_failures=allowed_failures,
            extensions=extensions,
            validate=validate,
            scheduler_file=scheduler_file,
            security=security,
            worker_ttl=worker_ttl,
            idle_timeout=idle_timeout,
            preload=preload,
            preload_argv=preload_argv,
            plugins=plugins,
            blocked_handlers=blocked_handlers,
        )
        self.name = self.id
        self.rpc.timeout = timeout
        self.service_specs, self.service_kwargs = dict(services or {}), dict(service_kwargs or {})
        self.shell.service_ports = lambda: self.service_ports
        self.limit_transitions(transition_counter_max)
        self.server.operations.update(given_as_they_ask(self, self.server.operations))

    def _prepare_parts(self) -> None:
        """Have the parts call the methods of a user's subclass in place of their own, also for requests."""
        for name, (part, method) in overridden(type(self), _FORWARDED).items():
            setattr(getattr(self.parts, part), method, getattr(self, name))

    def __setattr__(self, name: str, value: object) -> None:
        """Set an attribute; a method that is replaced on this scheduler (tests do) is replaced for its part as well."""
        super().__setattr__(name, value)
        if name in _FORWARDED and name in self.__dict__:
            part, method = destination_of(_FORWARDED[name])
            setattr(getattr(self.parts, part), method, value)

    def __delattr__(self, name: str) -> None:
        """Take an attribute back; the part gets its own method back, or that of the subclass."""
        super().__delattr__(name)
        if name in _FORWARDED:
            part, method = destination_of(_FORWARDED[name])
            delattr(getattr(self.parts, part), method)
            if getattr(type(self), name) is not _FORWARDED[name]:
                setattr(getattr(self.parts, part), method, getattr(self, name))

    async def _open(self) -> None:
        await super()._open()
        self.start_services(self.default_ip)

    def __repr__(self) -> str:
        where = self.server.address if self.server.listeners else self.status.name
        return (
            f"<Scheduler {where!r}, workers: {len(self.workers)}, cores: {self.total_nthreads}, tasks: {self.n_tasks}>"
        )

    def _repr_html_(self) -> str:
        info = self.parts.cluster_requests.identity(SHOWN)
        more = {"Tasks": f"{self.n_tasks:,}", "Status": badge(self.status.name)}
        return render_scheduler(info, time.time(), more=more)

    @property
    def local_directory(self) -> str:
        """Its directory for files; made when first asked for, and removed when it closes."""
        return self._directory_of_its_own()

    @property
    def ip(self) -> str:
        """Host that it listens at, "0.0.0.0" for all; `host` is one that others can reach."""
        return get_address_host(self.listen_address)

    # Plugins

    def add_plugin(self, plugin: object, idempotent: bool = False, name: str | None = None, **kwargs: object) -> None:
        """Add a scheduler plugin; one of the same name is replaced, with a warning.

        Args:
            idempotent: leave one of the same name in place instead.
        """
        self.shell.plugin_registry.add(plugin, idempotent, name)

    def remove_plugin(self, name: str | None = None) -> None:
        """Remove a scheduler plugin.

        Raises:
            ValueError: there is none of that name.
        """
        self.shell.plugin_registry.remove(name)

    # Work in

    def update_graph(
        self,
        client: str,
        tasks: Mapping[Any, tuple[Payload, Payload]],
        keys: Iterable[Any] | None = None,
        dependencies: Mapping[Any, Iterable[Any]] | None = None,
        options: TaskOptions = NO_OPTIONS,
    ) -> None:
        """Take tasks as a client's submission does.

        Args:
            client: the client's name.
            tasks: by key, the pickled function and the pickled `(args, kwargs)`.
            keys: those whose results the client wants; all by default.
            dependencies: by key, the keys of what it needs, of `tasks` or known already.
            options: for all of them.

        Raises:
            KeyError: there is no such client.
            ValueError: tasks depend on each other in a circle.
        """
        needed = {to_wire(key): [to_wire(each) for each in found] for key, found in (dependencies or {}).items()}
        calls = {to_wire(key): call for key, call in tasks.items()}
        order = record_questions.in_order(calls, needed)
        external = list(dict.fromkeys(each for key in order for each in needed.get(key, ()) if each not in calls))
        position = {key: number for number, key in enumerate([*order, *external])}
        wanted = None if keys is None else [position[to_wire(key)] for key in keys]
        message = SubmitGraph(
            -1,
            [calls[key][0] for key in order],
            order,
            [calls[key][1] for key in order],
            calls=list(range(len(order))),
            dependencies=[[position[each] for each in needed.get(key, ())] for key in order],
            external=external,
            options=[options],
            wanted=wanted,
        )
        self.core.handle(self._client(client), message, self.shell.now())
        self.shell.flush()

    def client_releases_keys(self, keys: Iterable[Any], client: str, stimulus_id: str | None = None) -> None:
        """A client no longer wants results."""
        self.core.handle(self._client(client), ReleaseKeys([to_wire(key) for key in keys]), self.shell.now())
        self.shell.flush()

    def client_heartbeat(self, client: str) -> None:
        """A client lives."""
        self.core.note_client(self._client(client), self.shell.now())

    def stimulus_cancel(
        self,
        keys: Iterable[Any],
        client: str,
        force: bool = False,
        reason: str = "cancelled by the scheduler",
        msg: str | None = None,
    ) -> None:
        """Stop work on tasks, and on what depends on them, for a client, or with `force` for all."""
        message = CancelKeys([to_wire(key) for key in keys], force, reason)
        self.core.handle(self._client(client), message, self.shell.now())
        self.shell.flush()

    def cancel_key(self, key: Key, client: str, force: bool = False) -> None:
        """Stop work on one task; see `stimulus_cancel`."""
        self.stimulus_cancel([key], client, force)

    # Transitions

    def send_task_to_worker(self, worker: object, ts: TaskState | Key) -> None:
        """Send a task that is ready to a worker of the caller's choice.

        Raises:
            ValueError: the task is not ready: in none of the states queued and no-worker.
        """
        self.core.assign(self._task(ts), self._worker(worker), self.shell.now())
        self.shell.flush()

    def transition(
        self, key: TaskState | Key, finish: str, stimulus_id: str = "transition", **kwargs: object
    ) -> dict[Key, str]:
        """Move a task to another state; returns what that recommends, for `transitions`.

        Raises:
            UnknownTransition: the two states are not connected.
        """
        recommendations = self.core.transition(self._task(key), finish, stimulus_id, self.shell.now())
        self.shell.flush()
        return {task.key: state for task, state in recommendations.items()}

    def transitions(self, recommendations: Mapping[Any, str], stimulus_id: str = "transitions") -> None:
        """Move tasks to other states, and as that recommends in turn, until nothing is left.

        Raises:
            UnknownTransition: two states are not connected.
        """
        found = {self._task(key): state for key, state in recommendations.items()}
        self.core.transitions(found, stimulus_id, self.shell.now())
        self.shell.flush()

    def _from_worker(self, worker: object, message: FromWorker) -> None:
        self.core.handle_batch(self._worker(worker), [message], self.shell.now())
        self.shell.flush()

    def stimulus_task_finished(
        self,
        worker: object,
        stimulus_id: str | None,
        key: TaskState | Key,
        run_id: int | None = None,
        metadata: dict[str, Any] | None = None,
        nbytes: int = 0,
        typename: str = "",
        startstops: Iterable[Mapping[str, Any]] = (),
        **kwargs: object,
    ) -> None:
        """A worker has computed a result, and holds it.

        Args:
            run_id: number of the assignment; the latest by default.
            startstops: `{"action", "start", "stop"}` in seconds, with one for "compute".
        """
        task = self._task(key)
        times = [(str(each["action"]), float(each["start"]), float(each["stop"])) for each in startstops]
        start, stop = next((each[1:] for each in times if each[0] == "compute"), (0.0, 0.0))
        others = [each for each in times if each[0] != "compute"]
        attempt = task.attempt if run_id is None else run_id
        message = TaskFinished(task.key, attempt, nbytes, typename, start, stop, startstops=others, metadata=metadata)
        self._from_worker(worker, message)

    def stimulus_task_erred(
        self,
        worker: object,
        stimulus_id: str | None,
        key: TaskState | Key,
        run_id: int | None = None,
        exception: Payload = None,
        traceback: Payload = None,
        exception_text: str = "",
        traceback_text: str = "",
        **kwargs: object,
    ) -> None:
        """A task raised on a worker; `exception` and `traceback` are pickles."""
        task = self._task(key)
        attempt = task.attempt if run_id is None else run_id
        message = TaskFailed(task.key, attempt, exception, traceback, exception_text, traceback_text, 0.0, 0.0)
        self._from_worker(worker, message)

    def stimulus_missing_data(self, key: TaskState | Key, worker: object, **kwargs: object) -> None:
        """A worker does not have a result that it was believed to have; it is computed again if that was the last."""
        self._from_worker(worker, ReleasedData(self._task(key).key))

    def reschedule(self, key: TaskState | Key, worker: object = None, **kwargs: object) -> None:
        """Place a task that has been sent to a worker anew."""
        task = self._task(key)
        where = task.processing_on
        if where is not None and (worker is None or where is self._worker(worker)):
            self._from_worker(where, RescheduleTask(task.key, task.attempt))

    def handle_long_running(
        self,
        key: TaskState | Key,
        worker: object,
        run_id: int | None = None,
        compute_duration: float = 0.0,
        stimulus_id: str | None = None,
    ) -> None:
        """A task has seceded from its worker's threads after so many seconds."""
        task = self._task(key)
        self._from_worker(worker, LongRunning(task.key, task.attempt if run_id is None else run_id, compute_duration))

    # Messages of clients and workers

    def client_desires_keys(self, keys: Iterable[Key], client: str) -> None:
        """A client wants existing tasks."""
        message = DesireKeys([to_wire(key) for key in keys])
        self.core.handle(self._client(client), message, self.shell.now())
        self.shell.flush()

    def report_on_key(
        self, key: Key | None = None, *, ts: TaskState | Key | None = None, client: str | None = None
    ) -> None:
        """Tell a client, or all that want it, how a task stands.

        Raises:
            KeyError: there is no such task or client.
        """
        given = ts if ts is not None else key
        if given is None:
            raise KeyError("name the task, by its key or its record")
        task = self._task(given)
        receivers = [client] if client is not None else [each.client_key for each in task.who_wants if not each.silent]
        for name in receivers:
            self.client_desires_keys([task.key], name)

    def handle_task_finished(self, key: Key, worker: object, stimulus_id: str, **msg: Any) -> None:
        """A worker has computed a result; see `stimulus_task_finished`. Nothing for a worker that is gone."""
        if self.coerce_address(worker) in self.workers:
            self.stimulus_task_finished(worker, stimulus_id, key, **msg)

    def handle_task_erred(self, key: Key, stimulus_id: str, **msg: Any) -> None:
        """A task raised on `msg["worker"]`; see `stimulus_task_erred`."""
        self.stimulus_task_erred(msg.pop("worker"), stimulus_id, key, **msg)

    def handle_request_refresh_who_has(self, keys: Iterable[Key], worker: object, stimulus_id: str) -> None:
        """A worker asks where data is; it is told."""
        self._from_worker(worker, RequestWhoHas([to_wire(key) for key in keys]))

    def release_worker_data(self, key: Key, worker: object, stimulus_id: str) -> None:
        """A worker has dropped a copy."""
        if to_wire(key) in self.tasks and self.coerce_address(worker) in self.workers:
            self._from_worker(worker, ReleasedData(to_wire(key)))

    def handle_worker_status_change(self, status: Status | str, worker: object, stimulus_id: str) -> None:
        """A worker runs, pauses or is about to close, by the status's name."""
        name = status.name if isinstance(status, Status) else status
        self.core.set_worker_status(self._worker(worker), name, self.shell.now())
        self.shell.flush()

    def send_all(self, client_msgs: Mapping[str, Iterable[Any]], worker_msgs: Mapping[str, Iterable[Any]]) -> None:
        """Send stream messages to clients and workers, by name and address; those that are gone are passed over."""
        for client, messages in client_msgs.items():
            for message in messages:
                self.client_send(client, message)
        for worker, messages in worker_msgs.items():
            for message in messages:
                self.worker_send(worker, message)

    # Looking

    def get_worker_service_addr(self, worker: object, service_name: str, protocol: bool = False) -> Any:
        """The place of a worker's service: (host, port), or with `protocol` a whole address; `None` without it.

        Args:
            service_name: such as "dashboard" or "nanny".
        """
        record = self._worker(worker)
        if service_name == "nanny":
            if not record.nanny or protocol:
                return record.nanny
            return get_address_host_port(record.nanny)
        port = record.services.get(service_name)
        if port is None:
            return None
        scheme = record.address.partition("://")[0]
        return f"{scheme}://{record.host}:{port}" if protocol else (record.host, port)

    def report(self, msg: Any, ts: TaskState | Key | None = None, client: str | None = None) -> None:
        """Send a stream message to clients: to one, to those that want a task, or to all."""
        if client is not None:
            receivers = [client]
        elif ts is not None:
            receivers = [each.client_key for each in self._task(ts).who_wants if not each.silent]
        else:
            receivers = list(self.clients)
        for name in receivers:
            self.client_send(name, msg)

    def transition_story(self, *keys_or_tasks_or_stimuli: Key | TaskState) -> list[Transition]:
        """The same as `story`."""
        return self.parts.inspection.story(*keys_or_tasks_or_stimuli)


#: As defined, before anybody patches the class.
_FORWARDED = forwarded_methods(Scheduler)
