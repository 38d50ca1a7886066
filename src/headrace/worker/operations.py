"""Requests of others to a worker, beside those for data: run functions, install plugins and files, report."""

from __future__ import annotations

import asyncio
import inspect
import logging
import traceback
from collections.abc import Iterable
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeAlias

from headrace.common.keys import Key, from_wire, to_wire
from headrace.containment import log_raised
from headrace.profile import create, current_frames
from headrace.protocol import unwrap
from headrace.rpc.files import take_file
from headrace.rpc.run_function import error_reply, opened, run_function
from headrace.rpc.server import Operation

from .benchmarks import benchmark_disk, benchmark_memory, benchmark_network
from .context import running
from .execution.result_sizes import nbytes_of
from .state.events import DataStored
from .state.tasks import TaskState

if TYPE_CHECKING:
    from .server import WorkerServer

logger = logging.getLogger("distributed.worker")


#: `(key, start, asked, reached, {}, name of the stimulus, seconds since the epoch)`
StoryLine: TypeAlias = tuple[Any, str, str, str, dict[str, str], str, float]


class Operations:
    """The request handlers of one worker that are not about its data."""

    def __init__(self, worker: WorkerServer) -> None:
        self._worker = worker
        self._metrics: Any = None

    def table(self) -> dict[str, Operation]:
        """The operations that others may ask for."""
        worker, transfers = self._worker, self._worker.transfers
        return {
            "get_data": Operation(transfers.get_data, takes_comm=True, takes_serializers=True),
            "gather": Operation(transfers.gather),
            "update_data": Operation(self.update_data),
            "free_keys": Operation(self.free_keys),
            "run": Operation(self.run),
            "run_coroutine": Operation(self.run),
            "identity": Operation(worker.identity),
            "keys": Operation(self.keys),
            "ping": Operation(self.ping),
            "echo": Operation(worker.echo),
            "call_stack": Operation(self.call_stack),
            "get_logs": Operation(worker.get_logs),
            "versions": Operation(worker.versions),
            "profile": Operation(self.profile),
            "profile_metadata": Operation(self.profile_metadata),
            "get_story": Operation(self.get_story),
            "get_task_logs": Operation(self.get_task_logs),
            "benchmark_disk": Operation(self.benchmark_disk),
            "benchmark_memory": Operation(self.benchmark_memory),
            "benchmark_network": Operation(self.benchmark_network),
            "dump_state": Operation(self.dump_state),
            "terminate": Operation(self.terminate),
            "plugin_add": Operation(self.plugin_add),
            "plugin_remove": Operation(self.plugin_remove),
            "upload_file": Operation(self.upload_file),
            "plain_metrics": Operation(self.plain_metrics, repeatable=True),
            "monitor_info": Operation(worker.measured.recorded),
            "actor_call": Operation(worker.actor_host.call),
            "actors": Operation(worker.actor_host.serve, takes_over=True),
        }

    def keys(self) -> list[Key]:
        """Keys of the values here."""
        return list(self._worker.data)

    def ping(self) -> bytes:
        """Say that somebody is here."""
        return b"pong"

    def plain_metrics(self) -> list[Any]:
        """The metrics of the worker and its process, for the scheduler; see `WorkerMetrics.plain`."""
        if self._metrics is None:
            stands_above = import_module("headrace.http.metrics.worker_metrics")
            self._metrics = stands_above.WorkerMetrics(self._worker)
        return list(self._metrics.plain())

    def update_data(self, data: dict[Key, Any], scattering: int = 0, **_: object) -> dict[str, Any]:
        """Keep values that a client scattered; `scattering` is the number that the scheduler has given it."""
        nbytes = {}
        for key, value in data.items():
            value = unwrap(value)
            nbytes[key] = nbytes_of(value)
            self._worker.memory_manager.store(key, value, nbytes[key])
        self._worker.take(DataStored(nbytes, scattering))
        self._worker.scattered.note(nbytes)
        return {"status": "OK", "nbytes": nbytes}

    async def keep_own(self, data: dict[Key, Any], scattering: int) -> dict[str, Any]:
        """`update_data` with values of a task that runs here, as they are. To be awaited on any loop."""
        loop = self._worker.loop
        if loop is None or loop.runs_here:
            return self.update_data(data, scattering)

        async def there() -> dict[str, Any]:
            return self.update_data(data, scattering)

        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(there(), loop.asyncio_loop))

    def free_keys(self, keys: list[Key], **_: object) -> dict[str, str]:
        """Drop results."""
        from headrace.messages.worker import FreeKeys

        self._worker.take(FreeKeys(list(keys)))
        return {"status": "OK"}

    async def run(
        self, function: object, args: object = (), kwargs: object = None, wait: bool = True, **_: object
    ) -> dict[str, Any] | None:
        """Call a function on the worker's loop; see `run_function`."""
        running.set((self._worker, None))
        return await run_function(self._worker, function, args, kwargs, wait)

    def call_stack(self, keys: Iterable[Key] | None = None) -> dict[Key, list[str]]:
        """The stacks of the threads that run tasks: formatted frames by key, outermost first."""
        wanted = None if keys is None else set(keys)
        frames = current_frames()
        stacks = {}
        for thread, key in self._worker.task_executor.active_threads().items():
            frame = frames.get(thread)
            if frame is not None and (wanted is None or key in wanted):
                stacks[key] = traceback.format_stack(frame)
        return stacks

    def get_story(self, keys_or_stimuli: Iterable[Key] = (), **_: object) -> list[StoryLine]:
        """The stories of these keys here; see `story`."""
        story = getattr(self._worker, "story", self.story)  # the public class has one, which a user may override
        return story(*map(from_wire, keys_or_stimuli))

    def story(self, *keys: object) -> list[StoryLine]:
        """The moves of these keys (or tasks) here, oldest first.

        Lines are `(key, start, asked, reached, {}, stimulus, time)`: the state it was in, the one that it was to move
        to, the one it reached, the name of what brought it about, and the time in seconds since the epoch. The empty
        dictionary stands where others have the recommendations that followed.
        """
        wire = [key if isinstance(key, TaskState) else to_wire(key) for key in keys]
        return [
            (from_wire(key), start, asked, reached, {}, stimulus.__name__, now)
            for key, start, asked, reached, stimulus, now in self._worker.core.story(*wire)
        ]

    async def profile(
        self, start: float | None = None, stop: float | None = None, key: str | None = None, server: bool = False
    ) -> dict[str, Any]:
        """The profile of this worker's tasks.

        Args:
            start, stop: the span of time, in seconds since the epoch; all by default.
            key: only tasks of this prefix.
            server: of the event loop instead, which is watched from the first call on.
        """
        profiler = self._worker.profiler
        if profiler is None:
            return create()
        read = partial(profiler.read_server, start, stop) if server else partial(profiler.read, start, stop, key)
        return await asyncio.get_running_loop().run_in_executor(None, read)

    async def profile_metadata(self, start: float | None = 0, stop: float | None = None) -> dict[str, Any]:
        """How many samples there are, over time; see `Profiler.metadata`."""
        profiler = self._worker.profiler
        if profiler is None:
            return {"counts": [], "keys": {}}
        return await asyncio.get_running_loop().run_in_executor(None, profiler.metadata, start, stop)

    async def benchmark_disk(self) -> dict[str, float]:
        """Bytes per second written to the local directory, by size of the file."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(None, benchmark_disk, self._worker.local_directory)

    async def benchmark_memory(self) -> dict[str, float]:
        """Bytes per second copied in memory, by size."""
        return await asyncio.get_running_loop().run_in_executor(None, benchmark_memory)

    async def benchmark_network(self, address: str) -> dict[str, float]:
        """Bytes per second to another server and back, by size."""
        return await benchmark_network(address=address, rpc=self._worker.rpc)

    def get_task_logs(self, keys: Iterable[Key]) -> dict[Key, list[tuple[float, str, str, str]]]:
        """Lines that tasks printed and logged here: (time, source, level, text), oldest first."""
        logs = self._worker.task_logs
        return logs.get(keys) if logs is not None else {}

    def dump_state(self, exclude: Iterable[str] = ()) -> dict[str, Any]:
        """The worker's state, for people."""
        from .worker_dump import dump_state

        return dump_state(self._worker, frozenset(exclude))

    def terminate(self, reason: str = "asked to terminate", **options: object) -> dict[str, str]:
        """Close, after the answer has left."""
        options.pop("comm", None)
        self._worker.close_soon(reason)
        return {"status": "OK"}

    async def plugin_add(self, plugin: object, name: str | None = None, catch_errors: bool = True) -> dict[str, Any]:
        """Install a plugin, replacing one of the same name; with `catch_errors` its failure is the answer."""
        try:
            await self.install(opened(plugin), name)
        except BaseException as raised:
            raised = log_raised(logger, raised, "A plugin failed in setup", awaited=True)
            if not catch_errors:
                raise raised from None
            return error_reply(raised)
        return {"status": "OK"}

    async def install(self, plugin: object, name: str | None = None) -> None:
        """Attach a plugin and have it set itself up."""
        worker = self._worker
        name = name or getattr(plugin, "name", None) or f"{type(plugin).__name__}-{id(plugin):x}"
        if name in worker.plugins:
            if getattr(plugin, "idempotent", False):
                return
            await self.plugin_remove(name)
        worker.plugins[name] = plugin
        logger.info("Starting Worker plugin %s", name)
        await _call_hook(plugin, "setup", worker=worker)
        worker.watch_transitions()

    async def plugin_remove(self, name: str) -> dict[str, Any]:
        """Remove a plugin."""
        worker = self._worker
        plugin = worker.plugins.pop(name, None)
        worker.watch_transitions()
        if plugin is not None:
            try:
                await _call_hook(plugin, "teardown", worker=worker)
            except BaseException as raised:
                return error_reply(log_raised(logger, raised, "Plugin %s failed in teardown", name, awaited=True))
        return {"status": "OK"}

    async def close_extensions(self) -> None:
        """Call `close` of the extensions that have it; one that fails is logged and does not stop the others."""
        for name, extension in list(self._worker.extensions.items()):
            try:
                await _call_hook(extension, "close")
            except BaseException as raised:
                log_raised(logger, raised, "The extension %s failed in close", name, awaited=True)

    def upload_file(self, filename: str, data: object, load: bool = True) -> dict[str, Any]:
        """Write a file into the local directory and, with `load`, import it (a module, egg or zip) anew.

        Raises:
            ValueError: the name is not a plain file name.
        """
        return take_file(self._worker.local_directory, filename, data, load)


async def _call_hook(plugin: object, hook: str, **arguments: object) -> None:
    function = getattr(plugin, hook, None)
    if function is not None:
        result = function(**arguments)
        if inspect.isawaitable(result):
            await result
