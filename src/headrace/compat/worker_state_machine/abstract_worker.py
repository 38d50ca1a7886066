"""A shell for the documented state machine: it does what the state decides, by methods that subclasses give."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Collection
from typing import Any

from headrace.common.keys import Key

from .documented_machine import WorkerState
from .instructions import Execute, GatherDep, Instruction, RetryBusyWorkerLater, SendMessageToScheduler
from .state_events import StateMachineEvent


class BaseWorker(ABC):
    """Runs a `WorkerState` on the event loop.

    Args:
        state: what decides.
    """

    def __init__(self, state: WorkerState) -> None:
        self.state = state
        self._tasks: set[asyncio.Task[None]] = set()

    def handle_stimulus(self, *stims: StateMachineEvent) -> None:
        """Take events, and begin what the state decides because of them."""
        for instruction in self.state.handle_stimulus(*stims):
            if isinstance(instruction, SendMessageToScheduler):
                self.batched_send(instruction.to_dict())
            else:
                task = asyncio.ensure_future(self._follow(self._begun(instruction)))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    def _begun(self, instruction: Instruction) -> Awaitable[StateMachineEvent]:
        match instruction:
            case GatherDep(stimulus_id, worker, keys, nbytes):
                return self.gather_dep(worker, keys, nbytes, stimulus_id=stimulus_id)
            case Execute(stimulus_id, key):
                return self.execute(key, stimulus_id=stimulus_id)
            case RetryBusyWorkerLater(_, worker):
                return self.retry_busy_worker_later(worker)
        raise TypeError(f"nobody knows what to do with {instruction!r}")

    async def _follow(self, outcome: Awaitable[StateMachineEvent]) -> None:
        self.handle_stimulus(await outcome)

    async def close(self, timeout: float = 30) -> None:
        """Stop what is under way; after `timeout` seconds it is left alone."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=timeout)

    @abstractmethod
    def batched_send(self, msg: dict[str, Any]) -> None:
        """Send a message to the scheduler, without waiting."""

    @abstractmethod
    async def gather_dep(
        self, worker: str, to_gather: Collection[Key], total_nbytes: int, *, stimulus_id: str
    ) -> StateMachineEvent:
        """Fetch values from a peer; returns how that ended."""

    @abstractmethod
    async def execute(self, key: Key, *, stimulus_id: str) -> StateMachineEvent:
        """Run a task; returns how that ended."""

    @abstractmethod
    async def retry_busy_worker_later(self, worker: str) -> StateMachineEvent:
        """Wait for a moment; returns that the peer may be asked again."""

    @abstractmethod
    def digest_metric(self, name: Any, value: float) -> None:
        """Take a measurement."""
