"""Documented methods of a Worker that are requests to it, and those that subclasses override for tests and plugins.

`get_data`, `gather_dep` and `execute` are called by the worker itself, so that what a subclass does in them happens.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Collection, Iterable
from typing import Any

from headrace.comm import Comm
from headrace.common.keys import Key, to_wire
from headrace.common.status import Status
from headrace.compat.core.server_members import given_as_they_ask
from headrace.containment import contained
from headrace.protocol import Serialize
from headrace.rpc.run_function import error_reply
from headrace.rpc.server import Operation
from headrace.worker.state.effects import GatherData, TaskRun
from headrace.worker.state.events import BusyOver
from headrace.worker.transfer import BUSY_PAUSE

from .live_events import take_documented
from .profile_methods import ProfileMethods
from .views import WorkerViews

logger = logging.getLogger("distributed.worker")


class WorkerMethods(WorkerViews, ProfileMethods):
    """The documented methods of a `Worker`."""

    def _operations(self) -> dict[str, Operation]:
        methods = {
            "get_data": Operation(self.get_data),
            "identity": Operation(self.identity),
            "keys": Operation(self.keys),
            "profile": Operation(self.get_profile),
            "profile_metadata": Operation(self.get_profile_metadata),
            "benchmark_disk": Operation(self.benchmark_disk),
            "benchmark_memory": Operation(self.benchmark_memory),
            "benchmark_network": Operation(self.benchmark_network),
            "monitor_info": Operation(self.get_monitor_info),
        }
        return given_as_they_ask(self, {**super()._operations(), **methods})

    def begin_runs(self, runs: list[TaskRun]) -> None:
        """Run tasks, one by one by `execute` where a subclass overrides that."""
        if type(self).execute is WorkerMethods.execute:
            super().begin_runs(runs)
            return
        self.task_executor.hold(runs)
        for run in runs:
            self.run_in_background(self.execute(run.key, stimulus_id="execute"))

    def begin_fetch(self, request: GatherData) -> None:
        """Fetch by `gather_dep`, which a subclass may override."""
        work = self.gather_dep(request.worker, request.keys, request.nbytes, stimulus_id="gather-dep")
        self.run_in_background(work)

    # Called by the worker itself

    async def execute(self, key: Key, *, stimulus_id: str) -> None:
        """Run a task that was decided to run; returns when it has ended and the worker's state knows.

        Called only where a subclass overrides it; otherwise tasks go to the threads many at a time.

        Raises:
            KeyError: that was not decided, or the task was given to the threads already.
        """
        await self.task_executor.run_held(key)

    async def gather_dep(
        self, worker: str, to_gather: Collection[Key], total_nbytes: int, *, stimulus_id: str = ""
    ) -> None:
        """Fetch values from a peer and keep them; returns when the worker's state knows what came.

        Args:
            worker: the peer's address.
            to_gather: keys.
            total_nbytes: what they are believed to weigh.
        """
        await self.transfers.fetch(GatherData(worker, [to_wire(key) for key in to_gather], total_nbytes))

    async def get_data(self, comm: Comm, keys: Collection[Key], who: str | None = None, serializers: Any = None) -> Any:
        """Answer a request for values; keys that are not here are left out. Peers (`who`) may be told to come later."""
        return await self.transfers.get_data(comm, list(keys), who, serializers)

    async def retry_busy_worker_later(self, worker: str) -> None:
        """Let a busy peer be asked again after a pause."""
        await asyncio.sleep(BUSY_PAUSE)
        if self.is_running:
            self.take(BusyOver(worker))

    def find_missing(self) -> None:
        """Ask the scheduler now for who holds what is needed and was nowhere to be found."""
        self.session.find_missing()

    def handle_stimulus(self, *stims: Any) -> None:
        """Give events to the state, and do what it decides. On the loop.

        Args:
            stims: documented events (`distributed.worker_state_machine`), or the core's own; without any, the state
                looks again at what it may begin.

        Raises:
            TypeError: one is no event, or malformed; the worker, and the events before it, are not affected.
            ValueError: one says how a task or a transfer has ended: this worker's own parts report that.
        """
        for event in stims:
            take_documented(self, event)
        if not stims:
            self.handle_events(())

    def batched_send(self, msg: Any) -> None:
        """Send a stream message to the scheduler; while there is no connection it is dropped."""
        if self.batched_stream is not None and not self.batched_stream.closed:
            self.batched_stream.send(msg)

    async def handle_scheduler(self, comm: Comm) -> None:
        """Take the scheduler's messages from a connection, in place of the one there is, and wait until it closes."""
        ended = asyncio.Event()
        self.session.open_stream(comm, ended.set)
        await ended.wait()

    def handle_worker_status_change(self, status: str, stimulus_id: str) -> None:
        """Pause, go on, or begin to close, as somebody else wants it.

        Raises:
            KeyError: there is no such status.
        """
        wanted = Status[status]
        if wanted is Status.closing_gracefully:
            self.run_detached(self.close_gracefully(reason=stimulus_id))
        else:
            self.set_status(wanted)

    def send_to_worker(self, address: str, msg: dict[str, Any]) -> None:
        """Send a request (`{"op": …}` with its keywords) to another worker, and wait for no answer."""
        request = dict(msg)
        self.run_in_background(self.rpc(address).call(request.pop("op"), reply=False, **request))

    async def heartbeat(self) -> None:
        """Tell the scheduler that this worker is alive, how it is and what it has done; returns when it knows."""
        if self.batched_stream is None:
            return
        if self.measured.custom:
            await self.measured.read_awaited()
        news = self.session.news()
        try:
            await self.scheduler.heartbeat_worker(
                address=self.address,
                now=news.now,
                metrics=news.metrics,
                executing=news.executing,
                extensions=news.extensions,
            )
        except OSError as error:  # the stream breaks as well, and it registers anew
            logger.info("The scheduler could not be told that %s lives: %s", self.address, error)

    # Requests

    async def gather(self, who_has: dict[Key, list[str]]) -> dict[str, Any]:
        """Fetch copies, trying each holder in turn.

        Returns `{"status": "OK"}`, or `"partial-fail"` with the `keys` that nobody had.
        """
        return await self.transfers.gather({to_wire(key): list(holders) for key, holders in who_has.items()})

    def update_data(self, data: dict[Key, Any], stimulus_id: str | None = None) -> dict[str, Any]:
        """Keep values that a client scattered."""
        return self.operations.update_data({to_wire(key): value for key, value in data.items()})

    def run(
        self, comm: Comm | None, function: Any, args: Any = (), wait: bool = True, kwargs: Any = None
    ) -> Awaitable[dict[str, Any] | None]:
        """Call a (pickled) function on the worker's loop; it gets `dask_worker` if it takes that."""
        return self.operations.run(function, args, kwargs, wait)

    def run_coroutine(
        self, comm: Comm | None, function: Any, args: Any = (), kwargs: Any = None, wait: bool = True
    ) -> Awaitable[dict[str, Any] | None]:
        """Call a (pickled) function; see `run`."""
        return self.operations.run(function, args, kwargs, wait)

    def get_call_stack(self, keys: Collection[Key] | None = None) -> dict[Key, list[str]]:
        """The stacks of the threads that run tasks: formatted frames by key, outermost first."""
        return self.operations.call_stack(None if keys is None else [to_wire(key) for key in keys])

    async def get_story(self, keys_or_stimuli: Iterable[Key]) -> list[tuple[Any, ...]]:
        """The stories of these keys here; see `story`."""
        return self.story(*keys_or_stimuli)

    async def plugin_add(self, plugin: Any, name: str | None = None, catch_errors: bool = True) -> dict[str, Any]:
        """Install a plugin, replacing one of the same name; with `catch_errors` its failure is the answer."""
        return await self.operations.plugin_add(plugin, name, catch_errors)

    async def plugin_remove(self, name: str) -> dict[str, Any]:
        """Remove a plugin."""
        return await self.operations.plugin_remove(name)

    def actor_attribute(self, actor: Key | None = None, attribute: str | None = None) -> dict[str, Any]:
        """An attribute of the actor with this key: `{"status": "OK", "result": …}`, or the error it raises."""
        try:
            value = getattr(self.actor_host.instances[to_wire(actor)], str(attribute))
        except BaseException as raised:
            return error_reply(contained(raised))
        return {"status": "OK", "result": Serialize(value)}

    async def actor_execute(
        self,
        actor: Key | None = None,
        function: str | None = None,
        args: Iterable[Any] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """The return value of an actor's method: `{"status": "OK", "result": …}`, or the error it raises."""
        key = to_wire(actor)
        try:
            future = self.actor_host.call_here(self.actor_host.instances[key], key, str(function), (args, kwargs or {}))
            result = await future
        except BaseException as raised:
            return error_reply(contained(raised, awaited=True))
        return {"status": "OK", "result": Serialize(result)}

    # Measurements

    async def get_metrics(self) -> dict[str, Any]:
        """The metrics of a heartbeat."""
        return await self.measured.read_awaited()

    async def get_startup_information(self) -> dict[str, Any]:
        """The values of the functions in `startup_information`."""
        return await self.session.startup_information()

    def get_monitor_info(self, recent: bool = False, start: int = 0) -> dict[str, Any]:
        """Readings of processor and memory at the heartbeats so far.

        Args:
            recent: only the latest.
            start: leave out so many, counted from the worker's start: the `count` of an earlier answer.

        Returns:
            `{"range_query": {name: readings}, "count": how many there were, "last_time": seconds}`
        """
        return self.measured.recorded(recent, start)

    async def benchmark_disk(self) -> dict[str, float]:
        """Bytes per second written to the local directory, by size of the file."""
        return await self.operations.benchmark_disk()

    async def benchmark_memory(self) -> dict[str, float]:
        """Bytes per second copied in memory, by size."""
        return await self.operations.benchmark_memory()

    async def benchmark_network(self, address: str) -> dict[str, float]:
        """Bytes per second to another server and back, by size."""
        return await self.operations.benchmark_network(address)
