"""Documented methods of a Scheduler that nothing here calls itself: for plugins, extensions and people.

Each is an event of the state, or a look at it. Workers are given by address, name or record, tasks by key or record.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from headrace import clock
from headrace.comm import Comm, get_address_host
from headrace.common.keys import Key, to_wire
from headrace.config import parse_seconds
from headrace.exceptions import CommClosedError
from headrace.messages.base import NO_OPTIONS, Payload, TaskOptions
from headrace.messages.client import CancelKeys, ReleaseKeys, SubmitGraph
from headrace.messages.worker import LongRunning, ReleasedData, RescheduleTask, TaskFailed, TaskFinished
from headrace.scheduler.shell import SchedulerBase
from headrace.scheduler.state import documented
from headrace.scheduler.state.placing import load
from headrace.scheduler.state.records.clients import ClientState
from headrace.scheduler.state.records.tasks import TaskState
from headrace.scheduler.state.records.workers import WorkerState


class DocumentedMethods(SchedulerBase):
    """The methods that older documents list."""

    coerce_address: Callable[..., str]
    client_send: Callable[[str, Any], None]

    @property
    def ip(self) -> str:
        """Host that it listens at, "0.0.0.0" for all; `host` is one that others can reach."""
        return get_address_host(self.listen_address)

    def _task(self, task: Any) -> TaskState:
        if isinstance(task, TaskState):
            return task
        found = self.tasks.get(to_wire(task))
        if found is None:
            raise KeyError(f"the scheduler does not know the task {task!r}")
        return found

    def _worker(self, worker: Any) -> WorkerState:
        if isinstance(worker, WorkerState):
            return worker
        found = self.workers.get(self.coerce_address(worker))
        if found is None:
            raise KeyError(f"there is no worker {worker!r}")
        return found

    def _client(self, client: Any) -> ClientState:
        if isinstance(client, ClientState):
            return client
        if client not in self.clients:
            raise KeyError(f"there is no client {client!r}")
        return self.clients[client]

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
        order = documented.in_order(calls, needed)
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
        self.state.handle(self._client(client), message, clock.now())
        self.flush()

    def client_releases_keys(self, keys: Iterable[Any], client: str, stimulus_id: str | None = None) -> None:
        """A client no longer wants results."""
        self.state.handle(self._client(client), ReleaseKeys([to_wire(key) for key in keys]), clock.now())
        self.flush()

    def client_heartbeat(self, client: str) -> None:
        """A client lives."""
        self.state.note_client(self._client(client), clock.now())

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
        self.state.handle(self._client(client), message, clock.now())
        self.flush()

    def cancel_key(self, key: Any, client: str, force: bool = False) -> None:
        """As `stimulus_cancel`, of one key."""
        self.stimulus_cancel([key], client, force)

    # Placement

    def decide_worker(self, ts: Any) -> WorkerState | None:
        """The worker that a task would best run on now; `None` if none may run it."""
        return documented.decide_worker(self.state, self._task(ts))

    def worker_objective(self, ts: Any, ws: Any) -> tuple[float, int]:
        """What is minimised in choosing a worker: seconds until the task could start there, then bytes stored there."""
        return documented.worker_objective(self.state, self._task(ts), self._worker(ws))

    def valid_workers(self, ts: Any) -> set[WorkerState] | None:
        """The running workers that may run a task, by its restrictions; `None` when all may."""
        return documented.valid_workers(self.state, self._task(ts))

    def get_comm_cost(self, ts: Any, ws: Any) -> float:
        """Seconds expected for bringing to a worker what a task needs."""
        return load.comm_cost(self.state, self._worker(ws), self._task(ts))

    def get_task_duration(self, ts: Any, default: float | None = None) -> float:
        """Seconds that a task is expected to compute.

        Args:
            default: for tasks of a prefix that has not run; as configured by default.
        """
        average = self._task(ts).prefix.duration_average
        if average >= 0:
            return average
        return self.state.options.unknown_duration if default is None else default

    def send_task_to_worker(self, worker: Any, ts: Any) -> None:
        """Send a task that is ready to a worker of the caller's choice.

        Raises:
            ValueError: the task is not ready: in none of the states queued and no-worker.
        """
        self.state.assign(self._task(ts), self._worker(worker), clock.now())
        self.flush()

    # Transitions

    def transition(self, key: Any, finish: str, stimulus_id: str = "transition", **kwargs: Any) -> dict[Key, str]:
        """Move a task to another state; returns what that recommends, for `transitions`.

        Raises:
            UnknownTransition: the two states are not connected.
        """
        recommendations = self.state.transition(self._task(key), finish, stimulus_id, clock.now())
        self.flush()
        return {task.key: state for task, state in recommendations.items()}

    def transitions(self, recommendations: Mapping[Any, str], stimulus_id: str = "transitions") -> None:
        """Move tasks to other states, and as that recommends in turn, until nothing is left.

        Raises:
            UnknownTransition: two states are not connected.
        """
        found = {self._task(key): state for key, state in recommendations.items()}
        self.state.transitions(found, stimulus_id, clock.now())
        self.flush()

    def _from_worker(self, worker: Any, message: Any) -> None:
        self.state.handle_batch(self._worker(worker), [message], clock.now())
        self.flush()

    def stimulus_task_finished(
        self,
        worker: Any,
        stimulus_id: str | None,
        key: Any,
        run_id: int | None = None,
        metadata: dict[str, Any] | None = None,
        nbytes: int = 0,
        typename: str = "",
        startstops: Iterable[Mapping[str, Any]] = (),
        **kwargs: Any,
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
        worker: Any,
        stimulus_id: str | None,
        key: Any,
        run_id: int | None = None,
        exception: Payload = None,
        traceback: Payload = None,
        exception_text: str = "",
        traceback_text: str = "",
        **kwargs: Any,
    ) -> None:
        """A task raised on a worker; `exception` and `traceback` are pickles."""
        task = self._task(key)
        attempt = task.attempt if run_id is None else run_id
        message = TaskFailed(task.key, attempt, exception, traceback, exception_text, traceback_text, 0.0, 0.0)
        self._from_worker(worker, message)

    def stimulus_missing_data(self, key: Any, worker: Any, **kwargs: Any) -> None:
        """A worker does not have a result that it was believed to have; it is computed again if that was the last."""
        self._from_worker(worker, ReleasedData(self._task(key).key))

    def reschedule(self, key: Any, worker: Any = None, **kwargs: Any) -> None:
        """Place a task that has been sent to a worker anew."""
        task = self._task(key)
        where = task.processing_on
        if where is not None and (worker is None or where is self._worker(worker)):
            self._from_worker(where, RescheduleTask(task.key, task.attempt))

    def handle_long_running(
        self,
        key: Any,
        worker: Any,
        run_id: int | None = None,
        compute_duration: float = 0.0,
        stimulus_id: str | None = None,
    ) -> None:
        """A task has seceded from its worker's threads after so many seconds."""
        task = self._task(key)
        self._from_worker(worker, LongRunning(task.key, task.attempt if run_id is None else run_id, compute_duration))

    # Looking

    def coerce_hostname(self, host: Any) -> str:
        """The host of a worker that is given by name; others stay as they are."""
        address = self.aliases.get(host)
        return self.workers[address].host if address in self.workers else str(host)

    def get_worker_service_addr(self, worker: Any, service_name: str, protocol: bool = False) -> Any:
        """Where a service of a worker is: (host, port), or with `protocol` a whole address; `None` without it.

        Args:
            service_name: such as "dashboard" or "nanny".
        """
        record = self._worker(worker)
        if service_name == "nanny":
            if not record.nanny or protocol:
                return record.nanny
            host, _, number = record.nanny.partition("://")[2].rpartition(":")
            return host, int(number)
        port = record.services.get(service_name)
        if port is None:
            return None
        scheme = record.address.partition("://")[0]
        return f"{scheme}://{record.host}:{port}" if protocol else (record.host, port)

    def report(self, msg: Any, ts: Any = None, client: str | None = None) -> None:
        """Send a stream message to clients: to one, to those that want a task, or to all."""
        if client is not None:
            receivers = [client]
        elif ts is not None:
            receivers = [each.client_key for each in self._task(ts).who_wants if not each.silent]
        else:
            receivers = list(self.clients)
        for name in receivers:
            self.client_send(name, msg)

    async def feed(
        self,
        comm: Comm,
        function: Any = None,
        setup: Any = None,
        teardown: Any = None,
        interval: float | str = "1s",
        **kwargs: Any,
    ) -> None:
        """Send what a function says of this scheduler, again and again, until the other side closes.

        Args:
            function: called as `function(scheduler, state)`.
            setup, teardown: called as `setup(scheduler)`, which makes the `state`, and `teardown(scheduler, state)`.
            interval: seconds, or text, between two calls.
        """
        function, setup, teardown = self.open_sent(function), self.open_sent(setup), self.open_sent(teardown)
        state = setup(self) if setup else None
        pause = parse_seconds(interval)
        try:
            while self.is_running and not comm.closed():
                await comm.write(function(self, state) if state is not None else function(self))
                await asyncio.sleep(pause)
        except (CommClosedError, OSError):
            pass
        finally:
            if teardown:
                teardown(self, state)
