"""The scheduler's half of progress: counts the tasks that clients watch, and pushes the counts at a bounded rate.

While nobody watches nothing is called. A watcher that reads slowly is sent fewer counts, not more memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Any

from headrace.comm import Comm
from headrace.common.keys import from_wire
from headrace.exceptions import CommClosedError
from headrace.messages.base import Payload
from headrace.rpc.server import Operation
from headrace.scheduler.shell import HasShell, Shell, shell_of
from headrace.scheduler.state.records.groups import TaskGroup
from headrace.scheduler.state.records.tasks import TaskState

from .tally import GroupOf, Tally

#: Seconds between two messages, at least.
SHORTEST_INTERVAL = 0.02
#: Tasks that are looked at before the clock is, and seconds that one look may take in all.
LOOK_TASKS, LOOK_SECONDS = 500, 0.01
NO_SPAN = "default"


class ProgressExtension:
    """Answers "watch_progress", see `ProgressExtension.watch`."""

    def __init__(self, scheduler: HasShell | Shell) -> None:
        self._shell = shell_of(scheduler)
        self.comms: set[Comm] = set()
        self._shell.add_operations("progress", {"watch_progress": Operation(self.watch, takes_over=True)})

    async def watch(
        self, comm: Comm, group_by: str | Payload = "prefix", complete: bool = True, interval: float = 0.1, **_: object
    ) -> None:
        """Send counts until all that is wanted has ended, or the other side closes.

        The first reply is `{"status": "OK"}`. Then the other side sends `{"keys": [...]}` any number of times, and
        `{"last": True}` once all of these must be known to the scheduler.

        Args:
            group_by: "prefix", "spans", or a function of a key that gives the group's name.
            complete: whether to count tasks that are done already.
            interval: seconds between two messages.

        Raises:
            ValueError: there is no such grouping.
        """
        group_of = grouping(self._shell, group_by)
        changed, ended = asyncio.Event(), asyncio.Event()

        def on_change() -> None:
            if not changed.is_set():
                changed.set()
            if tally.finished:
                ended.set()

        tally = Tally(group_of, complete, on_change)
        await comm.write({"status": "OK"})
        self._shell.plugin_registry.watch_transitions(tally.observe)
        self.comms.add(comm)
        reader = asyncio.ensure_future(self._read(comm, tally, on_change))
        try:
            await self._push(comm, tally, changed, ended, max(interval, SHORTEST_INTERVAL))
        finally:
            self._shell.plugin_registry.unwatch_transitions(tally.observe)
            self.comms.discard(comm)
            reader.cancel()
            await comm.close()

    async def _read(self, comm: Comm, tally: Tally, on_change: Callable[[], None]) -> None:
        """Take the keys that are wanted, until the other side closes."""
        try:
            while True:
                message = await comm.read()
                tally.want(message.get("keys", ()), self._shell.core.tasks)
                if message.get("last"):
                    tally.give_up_coming()
                on_change()
        except (CommClosedError, OSError):
            on_change()

    async def _push(
        self, comm: Comm, tally: Tally, changed: asyncio.Event, ended: asyncio.Event, interval: float
    ) -> None:
        while True:
            await changed.wait()
            changed.clear()
            while _look(tally):
                await asyncio.sleep(0)
            if comm.closed():
                return
            snapshot = tally.snapshot(self._shell.count_running())
            await comm.write(snapshot)
            if snapshot["finished"]:
                return
            ended.clear()
            with contextlib.suppress(TimeoutError):  # the end is worth a message at once
                async with asyncio.timeout(interval):
                    await ended.wait()

    def scheduler_closing(self) -> None:
        """The scheduler closes: close all connections of watchers."""
        for comm in self.comms:
            comm.abort()


def _look(tally: Tally) -> bool:
    """Look at tasks for a slice of time; returns whether there are more."""
    deadline = time.perf_counter() + LOOK_SECONDS
    while tally.take_arrived(LOOK_TASKS):
        if time.perf_counter() > deadline:
            return True
    return False


def grouping(scheduler: HasShell | Shell, group_by: str | Payload) -> GroupOf:
    """The function that names the group of a task.

    Raises:
        ValueError: `group_by` is neither "prefix", nor "spans", nor a function.
    """
    shell = shell_of(scheduler)
    if group_by == "prefix":
        return _prefix_of
    if group_by == "spans":
        return _span_naming(shell)
    function = shell.open_sent(group_by)
    if not callable(function):
        raise ValueError(f"group_by must be 'prefix', 'spans' or a function of a key, not {group_by!r}")
    return _named_by(function)


def _prefix_of(task: TaskState) -> str:
    return task.group.prefix.name


def _named_by(function: Callable[[Any], Any]) -> GroupOf:
    def group_of(task: TaskState) -> str:
        try:
            return str(function(from_wire(task.key)))
        except Exception as error:  # it runs amid the scheduler's work, which must not stop for it
            return f"({type(error).__name__}: {error})"[:100]

    return group_of


def _span_naming(shell: Shell) -> GroupOf:
    names: dict[TaskGroup, str] = {}

    def group_of(task: TaskState) -> str:
        group = task.group
        name = names.get(group)
        if name is None:
            spans = getattr(shell.extensions.get("spans"), "spans", {})
            tags = getattr(spans.get(group.span_id), "name", None)
            name = names[group] = " › ".join(map(str, tags)) if tags else NO_SPAN
        return name

    return group_of
