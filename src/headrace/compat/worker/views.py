"""Documented attributes of a Worker: views of its state, its options and its executor. Nothing is decided here."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from functools import partial
from typing import Any, TypeVar

from headrace.common.keys import Key, from_wire
from headrace.compat.worker_state_machine.documented_machine import WorkerState
from headrace.preloading import PreloadManager
from headrace.worker.operations import StoryLine
from headrace.worker.state import TaskState

from .measurements import Measurements

T = TypeVar("T")

_FROM_STATE = frozenset(
    {
        "data_needed",
        "ready",
        "constrained",
        "executing",
        "long_running",
        "has_what",
        "in_flight_tasks",
        "in_flight_workers",
        "log",
        "total_resources",
        "available_resources",
    }
)


class WorkerViews(Measurements):
    """The documented attributes of a `Worker`.

    Attributes:
        state: the documented state machine; its `core` is this worker's.
    """

    state: WorkerState

    @property
    def lifetime(self) -> float | None:
        """Seconds that it lives once it has started; None for as long as it likes."""
        return self.life.seconds

    @property
    def lifetime_restart(self) -> bool:
        """Whether its nanny starts another worker at the end of its lifetime; may be changed."""
        return self.life.restart

    @lifetime_restart.setter
    def lifetime_restart(self, restart: bool) -> None:
        self.life.restart = bool(restart)

    @property
    def preloads(self) -> PreloadManager:
        """Its preloads; empty before it starts."""
        return self.life.preloads if self.life.preloads is not None else PreloadManager(())

    @property
    def active_keys(self) -> set[Key]:
        """Keys of the tasks that run now."""
        return {from_wire(key) for key in self.task_executor.executing(0)}

    @property
    def execution_state(self) -> dict[str, Any]:
        """The scheduler's address, the loop and this worker, for whoever runs calls for it."""
        return {"scheduler": self.scheduler_address, "ioloop": self.loop, "worker": self}

    @property
    def actors(self) -> dict[Key, Any]:
        """The actors that live here, by key."""
        return self.actor_host.instances

    @property
    def worker_address(self) -> str:
        """The address; so that Worker and Nanny can be used alike."""
        return self.address

    @property
    def local_dir(self) -> str:
        """The local directory; likewise."""
        return self.local_directory

    @property
    def low_level_profiler(self) -> bool:
        """Whether frames of C are sampled, too: they never are."""
        return False

    @property
    def executor(self) -> Executor:
        """The executor in which tasks run by default."""
        return self.task_executor.executors["default"]

    @property
    def executors(self) -> dict[str, Executor]:
        """The executors in which tasks run, by name; more may be put in."""
        return self.task_executor.all_executors()

    @property
    def client(self) -> Any:
        """See `get_client`."""
        return self.get_client()

    @property
    def tasks(self) -> dict[Key, TaskState]:
        """Records of all tasks and data that concern this worker."""
        return self.state.tasks

    @property
    def task_state(self) -> dict[Key, str]:
        """State of every task."""
        return {key: task.state for key, task in self.state.tasks.items()}

    @property
    def nbytes(self) -> dict[Key, int]:
        """Size in bytes of each value here."""
        return {key: task.nbytes for key, task in self.state.tasks.items() if task.state == "memory"}

    @property
    def active_threads(self) -> dict[int, Key]:
        """Key of the task that runs in each thread."""
        return self.task_executor.active_threads()

    @property
    def threads(self) -> dict[Key, int]:
        """Thread in which each running task runs."""
        return {key: thread for thread, key in self.active_threads.items()}

    @property
    def executed_count(self) -> int:
        """Tasks that have run here."""
        return self.state.executed_count

    @property
    def executing_count(self) -> int:
        """Tasks handed to threads now."""
        return self.state.executing_count

    @property
    def waiting_for_data_count(self) -> int:
        """Tasks that wait for data."""
        return len(self.state.waiting)

    @property
    def total_out_connections(self) -> int:
        """Peers that are asked for data at a time."""
        return self.options.outgoing

    @property
    def total_in_connections(self) -> int:
        """Peers that are served at a time."""
        return self.options.incoming

    @property
    def total_comm_nbytes(self) -> int:
        """Bytes that one peer is asked for at a time."""
        return self.options.message_bytes

    @property
    def pending_data_per_worker(self) -> dict[str, list[Key]]:
        """Keys that are still to be fetched, by the peer that has them, the most urgent first."""
        return {address: [task.key for _, _, task in sorted(heap)] for address, heap in self.state.data_needed.items()}

    async def executor_submit(self, key: Key, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Call a function in a free thread of the default executor, beside the tasks, and return its value.

        Args:
            key: accepted for compatibility.
        """
        call = partial(function, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self.executor, call)

    async def memory_monitor(self) -> None:
        """Look at the memory now, beside the regular looks: spill and pause if it is too full."""
        await self.memory_manager.memory_monitor(self)

    @property
    def comm_bytes(self) -> int:
        """Bytes on their way here."""
        return self.state.transfer_incoming_bytes

    def __getattr__(self, name: str) -> Any:
        if name in _FROM_STATE:
            return getattr(self.state, name)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def keys(self) -> list[Key]:
        """Keys of the values here."""
        return list(self.data)

    def stateof(self, key: Key) -> dict[str, Any]:
        """Whether a task runs, waits for data, or is queued, and whether its value is here."""
        task = self.state.tasks[key]
        return {
            "executing": task.state == "executing",
            "waiting_for_data": bool(task.waiting_for_data),
            "heap": task.state in ("ready", "constrained"),
            "data": key in self.data,
        }

    def story(self, *keys: object) -> list[StoryLine]:
        """The moves of these keys (or tasks) here, oldest first; for the lines see `Operations.story`."""
        return self.operations.story(*keys)

    def validate_state(self) -> None:
        """Check the state's invariants."""
        self.state.validate_state()


__all__ = ["WorkerViews"]
