"""Workers that are forgotten: sent away, dropped because they died, or leaving on their own account."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from headrace.common.keys import Key, from_wire
from headrace.messages.worker import CloseWorker
from headrace.rpc.server import Operation
from headrace.scheduler.shell import Shell, logger, stimulus
from headrace.scheduler.state.records.workers import WorkerState
from headrace.scheduler.worker_directory import WorkerDirectory

from .fatal_results import FatalResults
from .heart_rates import HeartRates


class WorkerRemoval:
    """Takes workers off the record.

    Args:
        directory: finds workers by name.
        fatal_results: remembers the deaths of workers that alone held results.
        heart_rates: adapts to the number of workers how often they say that they live.
    """

    def __init__(
        self, shell: Shell, directory: WorkerDirectory, fatal_results: FatalResults, heart_rates: HeartRates
    ) -> None:
        self.shell = shell
        self.core = shell.core
        self.directory = directory
        self.fatal_results = fatal_results
        self.heart_rates = heart_rates
        #: coroutines of plugins that were told of a worker's end, with its address
        self._hooks: dict[asyncio.Task[None], str] = {}

    def operations(self) -> dict[str, Operation]:
        """The requests that this topic answers."""
        return {"unregister": Operation(self.unregister)}

    async def remove_worker(
        self,
        address: str,
        *,
        stimulus_id: str = "",
        expected: bool = False,
        close: bool = True,
        reason: str = "removed",
    ) -> str:
        """Forget a worker, and wait until plugins have been told; see `drop_worker`."""
        answer = self.drop_worker(address, stimulus_id, expected, close, reason)
        await self.plugins_told(self.directory.coerce_address(address, resolve=False))
        return answer

    async def plugins_told(self, address: str) -> None:
        """Wait for the end of plugins' coroutines that were told that a worker is gone."""
        hooks = [hook for hook, worker in self._hooks.items() if worker == address]
        if hooks:
            await asyncio.wait(hooks)

    def drop_worker(
        self,
        address: str,
        stimulus_id: str = "",
        expected: bool = False,
        close: bool = True,
        reason: str = "removed",
        blamed: Iterable[Key] = (),
    ) -> str:
        """Forget a worker, and with `close` tell it to shut down; its work is done elsewhere. Returns "OK".

        Args:
            expected: whether it leaves in good order; else it has died, and what ran there is suspected.
            blamed: keys of the tasks that are known to be to blame for its death.
        """
        address = self.directory.coerce_address(address, resolve=False)
        worker = self.core.workers.get(address)
        if worker is None:
            return "already-removed"
        stimulus_id = stimulus_id or stimulus("remove-worker")
        event = {"action": "remove-worker", **_left_behind(worker), "stimulus_id": stimulus_id}
        stream = self.shell.worker_streams.pop(address, None)
        if stream is not None and not stream.closed and close:
            stream.send(CloseWorker(reason))
            closing = {"action": "closing-worker", "reason": reason}  # it would say so, and is not heard any more
            asyncio.get_running_loop().call_soon(self.shell.log_event, address, closing)
        if not expected:
            self.fatal_results.note_death(worker, reason)
        lost = self.core.remove_worker(address, reason, self.shell.now(), expected=expected, blamed=blamed)
        if stream is not None:
            self.shell.run_in_background(stream.close())
        self.heart_rates.follow()
        if lost:
            logger.warning(
                "Worker %s left (%s) with the only copy of %d scattered results: %s",
                address,
                reason,
                len(lost),
                lost[:5],
            )
        event |= {"expected": expected, "reason": reason}
        self.shell.log_event(address, event)
        self.shell.log_event("all", {**event, "worker": address})
        self.shell.departed.add(address)
        for hook in self.shell.notify_plugins(
            "remove_worker", scheduler=self.shell.facade, worker=address, stimulus_id=stimulus_id
        ):
            self._hooks[hook] = address
            hook.add_done_callback(self._hooks.pop)
        self.shell.flush()
        return "OK"

    def close_worker(self, worker: str) -> None:
        """Tell a worker to shut down."""
        self.drop_worker(worker, expected=True, reason="closed by the scheduler")

    def unregister(self, address: str, safe: bool = True) -> dict[str, str]:
        """A worker leaves on its own account."""
        self.drop_worker(address, expected=safe, close=False, reason="it left")
        return {"status": "OK"}


def _left_behind(worker: WorkerState) -> dict[str, Any]:
    """Keys of the tasks that are to be run elsewhere, and of those that are lost, once this worker has gone."""
    alone = [task for task in worker.has_what if task.state == "memory" and len(task.who_has) == 1]
    return {
        "processing-tasks": {from_wire(task.key) for task in worker.processing},
        "lost-computed-tasks": {from_wire(task.key) for task in alone if task.function is not None},
        "lost-scattered-tasks": {from_wire(task.key) for task in alone if task.function is None},
    }
