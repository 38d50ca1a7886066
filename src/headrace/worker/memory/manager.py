"""Chooses where a worker keeps results, and looks every now and then how much memory its process takes.

On the loop only what is quick: reading two numbers, pausing and resuming. The rest is done in threads.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
from collections.abc import Callable, Collection, Iterable, MutableMapping
from functools import partial
from typing import TYPE_CHECKING, Any

from headrace.comm.frame_memory import bound_kept, drop_kept
from headrace.common.display.units import bytes_in_words
from headrace.common.keys import Key
from headrace.common.status import Status
from headrace.containment import let_pass, log_raised
from headrace.machine import parse_memory_limit

from .admission import Admission
from .buffer import SpillBuffer, UnreadableError
from .memory_options import MemoryOptions
from .relief import Relief

if TYPE_CHECKING:
    from ..server import WorkerServer

logger = logging.getLogger("distributed.worker")

#: Share of the memory limit that unused frames of connections may take.
KEPT_FRACTION = 0.1
#: Share of the memory limit above which, or when something is on disk, tasks are let in by what they are likely to add
#: (see `admission`), unless the target is less.
NEAR_FRACTION = 0.5


class WorkerMemoryManager:
    """The memory of one worker.

    Args:
        worker: whose.
        nthreads: for its share of the machine's memory.
        memory_limit: as for Worker.
        data: as for Worker.
        options: what is otherwise read from the configuration.
        keywords: the documented keywords, see `options.KEYWORDS`.

    Attributes:
        memory_limit: in bytes; None for no limit. May be changed, like the fractions, if there was one first.
        memory_target_fraction: share of the limit that results may take; it is read at the start.
        memory_spill_fraction, memory_pause_fraction: shares of the limit that the process may take; False for all.
        data: where results are; made by `start`.
        buffer: the same if it spills, else None.
        store: puts a value whose size in bytes is known into `data`: `store(key, value, nbytes)`.
        values_of: values by key for a task; see `SpillBuffer.values_of`.
        admission: lets tasks start while memory is short; None if there is nothing to decide.

    Raises:
        ValueError: a limit or a fraction makes no sense, or `data` is a mapping that is not empty.
    """

    def __init__(
        self,
        worker: WorkerServer,
        nthreads: int,
        memory_limit: str | float | None = "auto",
        data: Any = None,
        *,
        options: MemoryOptions | None = None,
        **keywords: Any,
    ) -> None:
        self._worker = worker
        self.options = options = options or MemoryOptions.from_config(keywords)
        self.memory_limit = parse_memory_limit(memory_limit, nthreads)
        self.memory_target_fraction = options.target
        self.memory_spill_fraction = options.spill
        self.memory_pause_fraction = options.pause
        self.max_spill = options.max_spill
        self.memory_monitor_interval = options.monitor_interval
        self._source = _empty(data) if isinstance(data, MutableMapping) else data
        self.data: MutableMapping[Key, Any] = {}
        self.buffer: SpillBuffer | None = None
        self.store: Callable[[Key, Any, int], None] = self._store_plainly
        self.values_of: Callable[[Iterable[Key]], dict[Key, Any]] = self._values_of
        self.admission: Admission | None = None
        self._relief: Relief | None = None
        self._paused = False
        self._background: asyncio.Future[None] | None = None
        #: by key, what was loaded for the calls whose results refer to it weakly
        self._calls: dict[Key, object] = {}
        #: what could not be read back once
        self._lost: set[Key] = set()

    def start(self, directory: str) -> None:
        """Make the place for results.

        Args:
            directory: the worker's; spilled results go to `storage` in it.

        Raises:
            TypeError: the user's `data` is no mapping.
            ValueError: it is not empty.
        """
        limit, options = self.memory_limit, self.options
        if self._source is not None:
            self.data = _made(self._source, directory)
        elif limit and (options.target or options.spill):
            target = limit * options.target if options.target else float("inf")
            between = limit * (options.spill - options.target) if options.target and options.spill else limit * 0.1
            self.data = self.buffer = SpillBuffer(
                os.path.join(directory, "storage"),
                target,
                options.max_spill,
                options.compression,
                slack=max(0.0, between / 2),
            )
            self.buffer.on_spill = partial(self._worker.activities.add_all, "memory-monitor")
            self.store = self.buffer.store
            self.values_of = self.buffer.values_of
        if not limit:
            return
        bound_kept(int(KEPT_FRACTION * limit))
        fraction = self.memory_spill_fraction or self.memory_pause_fraction
        if fraction:
            self._relief = Relief(limit, fraction * limit, self.buffer, self.process_memory)
            if self.buffer is not None:
                self.buffer.watch_evictions(self._relief.before_eviction, self._relief.after_eviction)
                ceiling = min(limit * (options.pause or 1.0), limit * (options.spill or 1.0) + 0.1 * limit)
                self.admission = Admission(ceiling, self.buffer, self._relief, self.process_memory)

    @property
    def monitored(self) -> bool:
        """Whether the process's memory has to be looked at."""
        return bool(self.memory_limit and (self.memory_spill_fraction or self.memory_pause_fraction))

    def process_memory(self) -> int:
        """Bytes that the process takes now, by the worker's monitor."""
        return self._worker.monitor.get_process_memory()

    def _store_plainly(self, key: Key, value: object, nbytes: int) -> None:
        self.data[key] = value

    def _values_of(self, keys: Iterable[Key]) -> dict[Key, Any]:
        data = self.data
        return {key: data[key] for key in keys}

    def in_memory(self, keys: Iterable[Key]) -> dict[Key, Any]:
        """Those of these values that are here and need not be read from disk; in any thread."""
        data = self.data if self.buffer is None else self.buffer.memory
        found = {}
        for key in keys:
            try:
                if key in data:
                    found[key] = data[key]
            except Exception as raised:  # dropped meanwhile, or the user's mapping fails: it is fetched, or that told
                let_pass(raised)
        return found

    def drop(self, keys: Collection[Key]) -> None:
        """Drop values; those that are not there are no matter."""
        if self._calls:
            for key in keys:
                self._calls.pop(key, None)
        if self.buffer is not None:
            self.buffer.drop_all(keys)
            return
        data = self.data
        for key in keys:  # not `pop`, which would have some mappings read it from disk
            try:
                if key in data:
                    del data[key]
            except BaseException as raised:  # the user's mapping fails; the worker goes on
                log_raised(logger, raised, "The value of %r could not be dropped", key)

    def keep_call(self, key: Key, call: object) -> None:
        """Keep what a task was called with until its result is dropped, which refers to it weakly. In any thread."""
        self._calls[key] = call

    def give_up(self, error: UnreadableError) -> list[Key] | None:
        """Drop a value that cannot be read back, so that it is had anew. On the loop.

        Returns:
            the keys that the state has to be told of: none if the value has gone, or come anew, meanwhile. None if the
            same has happened to this key before: then the error stands, and the value stays on record.
        """
        assert self.buffer is not None
        key = error.key
        if not self.buffer.has_file(key, error.stored):
            return []
        if key in self._lost:
            return None
        self._lost.add(key)
        self.buffer.drop_all((key,))
        logger.warning("A result is lost and has to be computed again: %s", error)
        return [key]

    def spilled(self) -> dict[str, int]:
        """Bytes of spilled values: what they took in `memory` and take on `disk`; for the heartbeat."""
        total = getattr(self.data, "spilled_total", None)
        return {"memory": getattr(total, "memory", 0), "disk": getattr(total, "disk", 0)}

    async def memory_monitor(self, worker: object = None) -> None:
        """Look at the memory now; the documented name of `look`."""
        self.look()

    def look(self) -> None:
        """Compare the memory of the process with the limits, and have done what they ask for. On the loop."""
        limit, target = self.memory_limit, self.memory_target_fraction
        fraction = self.memory_spill_fraction or self.memory_pause_fraction
        if not limit or not fraction or self._relief is None:
            if limit and self._paused:  # pausing has been switched off
                self._pause_or_resume(self.process_memory(), limit)
            return
        self._relief.threshold = fraction * limit
        process = self.process_memory()
        if process > limit * (target or fraction):
            drop_kept()
        if self.buffer is not None:
            near = process > limit * min(NEAR_FRACTION, target or fraction)
            self.buffer.tighten(near or self.buffer.spilled_total.memory > 0)
        if process > self._relief.threshold:
            self._relieve(process)
        elif self.buffer is not None and self.buffer.pressed and self._relief.reached(process):
            self.buffer.press(False)
        if self.memory_pause_fraction or self._paused:
            self._pause_or_resume(process, limit)

    def wait_for_room(self, dependencies: Iterable[Key] | None) -> int:
        """Wait, in a thread, until a task may start; returns a number for `release`, or 0."""
        if self.admission is not None:
            return self.admission.wait(dependencies)
        assert self.buffer is not None
        self.buffer.wait_for_room()
        return 0

    def release(self, number: int) -> None:
        """A task that was let in has ended."""
        if self.admission is not None:
            self.admission.release(number)

    def _relieve(self, process: int) -> None:
        assert self._relief is not None
        buffer = self.buffer
        spills = self.memory_spill_fraction
        if buffer is not None and spills and buffer.evictable_bytes:
            self._relief.aim(process, self._relief.threshold)
        elif self._background is None or self._background.done():
            evict = getattr(self.data, "evict", None) if buffer is None and spills else None
            work = self._evict_from(evict, self._relief) if callable(evict) else self._relief.reclaim
            self._background = asyncio.get_running_loop().run_in_executor(None, work)

    def _pause_or_resume(self, process: int, limit: int) -> None:
        worker, share = self._worker, process / limit
        pause = self.memory_pause_fraction
        if pause and share > pause:
            if worker.status is Status.running:
                logger.warning(
                    "Worker is at %.0f%% memory usage. Pausing worker.  Process memory: %s -- Worker memory limit: %s",
                    100 * share,
                    bytes_in_words(process),
                    bytes_in_words(limit),
                )
                self._paused = True
                worker.set_status(Status.paused)
        elif self._paused:
            self._paused = False
            if worker.status is Status.paused:
                logger.warning(
                    "Worker is at %.0f%% memory usage. Resuming worker. Process memory: %s -- Worker memory limit: %s",
                    100 * share,
                    bytes_in_words(process),
                    bytes_in_words(limit),
                )
                worker.set_status(Status.running)

    def _evict_from(self, evict: Callable[[], Any], relief: Relief) -> Callable[[], None]:
        """Evicting from a user's mapping that offers it, until the process is small enough."""

        def work() -> None:
            while self.process_memory() > relief.threshold:
                freed = evict()
                if not isinstance(freed, (int, float)) or freed < 0:
                    relief.reclaim()
                    return

        return work

    async def close(self) -> None:
        """Drop all values; waits for what is being written."""
        if self._background is not None:
            await asyncio.wait([self._background])
        self._calls.clear()
        if self.buffer is not None:
            await off_the_loop(self.buffer.close)
        else:
            self.data.clear()


async def off_the_loop(function: Callable[[], None]) -> None:
    """Call a function in a thread; in this one when the interpreter ends and starts no more threads."""
    try:
        future = asyncio.get_running_loop().run_in_executor(None, function)
    except RuntimeError:
        function()
    else:
        await future


def _made(source: Any, directory: str) -> MutableMapping[Key, Any]:
    """The mapping that a user gave, or what its function makes.

    Raises:
        TypeError: that is no mapping.
        ValueError: there is something in it.
    """
    if callable(source):
        takes_directory = "worker_local_directory" in _parameters(source)
        source = source(worker_local_directory=directory) if takes_directory else source()
    elif isinstance(source, tuple):
        function, keywords = source
        keywords = dict(keywords)
        if "worker_local_directory" in _parameters(function):
            keywords.setdefault("worker_local_directory", directory)
        source = function(**keywords)
    if not isinstance(source, MutableMapping):
        raise TypeError(f"data must be a mutable mapping, or make one, not {type(source).__name__}")
    return _empty(source)


def _empty(data: MutableMapping[Key, Any]) -> MutableMapping[Key, Any]:
    if data:
        raise ValueError(f"data must be empty at first: what is in it ({len(data)} values) would be nobody's")
    return data


def _parameters(function: Any) -> Iterable[str]:
    try:
        return inspect.signature(function).parameters
    except (TypeError, ValueError):
        return ()
