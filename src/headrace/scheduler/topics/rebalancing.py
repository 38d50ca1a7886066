"""Data spread over workers: copied, evened out, and moved one by one; and how busy workers are, looked at again."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import psutil

from headrace.common.keys import Key
from headrace.exceptions import BadRequestError
from headrace.messages.worker import AddKeys
from headrace.rpc.loops.periodic import PeriodicCallback
from headrace.rpc.server import Operation
from headrace.scheduler.shell import Shell, logger
from headrace.scheduler.state.data import replica_plans, replicas
from headrace.scheduler.state.placing.occupancy import reevaluate_some
from headrace.scheduler.state.records.tasks import TaskState
from headrace.scheduler.state.records.workers import WorkerState
from headrace.scheduler.worker_directory import WorkerDirectory

#: Seconds between second looks at workers' occupancy, the tasks that one look goes through, and the percentage of a
#: processor above which this process is too busy for it.
REEVALUATE_SECONDS = 0.5
REEVALUATE_TASKS = 5000
LOADED_PERCENT = 50.0


class Rebalancing:
    """Replicate, rebalance, and occupancy.

    Args:
        directory: finds workers by name.
    """

    def __init__(self, shell: Shell, directory: WorkerDirectory) -> None:
        self.shell = shell
        self.core = shell.core
        self.directory = directory
        self._next_worker = 0
        self._process = psutil.Process()
        shell.periodic_callbacks["reevaluate-occupancy"] = PeriodicCallback(
            self._reevaluate_unless_loaded, REEVALUATE_SECONDS * 1000
        )

    def operations(self) -> dict[str, Operation]:
        """The requests that this topic answers."""
        return {
            "replicate": Operation(self.replicate),
            "rebalance": Operation(self.rebalance),
            "add_keys": Operation(self.add_keys),
        }

    def start(self) -> None:
        """The scheduler runs: look at the workers' occupancy from now on."""
        self.shell.periodic_callbacks["reevaluate-occupancy"].start()

    async def replicate(
        self,
        keys: Iterable[Key],
        n: int | None = None,
        workers: Iterable[str] | None = None,
        branching_factor: int = 2,
        delete: bool = True,
        stimulus_id: str | None = None,
    ) -> dict[str, Any]:
        """Copy results to `n` of the workers (all by default), as a tree.

        Args:
            workers: addresses, names or hosts to choose from; all by default.
            branching_factor: to how many others a holder gives a result at a time.
            delete: whether copies beyond `n` are dropped.

        Returns:
            `{"status": "OK"}`, or with status "partial-fail" the `keys` that could not be copied.

        Raises:
            ValueError: `n` or `branching_factor` is below one.
            UnknownWorkerError: there is no such worker.
        """
        if branching_factor < 1:
            raise BadRequestError(f"branching_factor must be at least 1, not {branching_factor}")
        if n is not None and n < 1:
            raise BadRequestError("cannot keep fewer than one copy; release the futures to drop data")
        keys = list(keys)
        targets = self._running_among(workers)
        if not targets or not keys:
            return {"status": "OK"}
        wanted = len(targets) if n is None else min(int(n), len(targets))
        found = {key: task for key in keys if (task := self.core.tasks.get(key)) is not None and task.who_has}
        failed = {key for key in keys if key not in found}
        while True:
            tasks = [task for key, task in found.items() if task.who_has and key not in failed]
            targets = [worker for worker in targets if worker in self.core.running]
            plan = replica_plans.plan_replicas(tasks, targets, min(wanted, len(targets)), branching_factor)
            if not plan:
                break
            failed |= await self._copy(plan)
        if delete:
            self._remove(replica_plans.plan_surplus(found.values(), targets, wanted))
        failed |= {key for key, task in found.items() if not task.who_has}
        self.shell.log_event(
            "all", {"action": "replicate", "workers": [w.address for w in targets], "keys-count": len(keys)}
        )
        if failed:
            return {"status": "partial-fail", "keys": list(failed)}
        return {"status": "OK"}

    async def rebalance(
        self, keys: Iterable[Key] | None = None, workers: Iterable[str] | None = None, stimulus_id: str | None = None
    ) -> dict[str, Any]:
        """Move results so that workers have about as much of their memory in use; best while nothing runs.

        The thresholds are the shell's `memory_settings` (a Scheduler's `MEMORY_REBALANCE_…`), at first those of the
        configuration under `distributed.worker.memory.rebalance`. See `replica_plans.plan_rebalance` for the policy.

        Args:
            keys: what may be moved; all results by default.
            workers: addresses, names or hosts that take part; all by default.

        Returns:
            `{"status": "OK"}`, or with status "partial-fail" the `keys` that are not in memory or could not be moved.

        Raises:
            UnknownWorkerError: there is no such worker.
        """
        tasks: list[TaskState] | None = None
        if keys is not None:
            wanted = list(keys)
            missing = [key for key in wanted if (task := self.core.tasks.get(key)) is None or not task.who_has]
            if missing:
                return {"status": "partial-fail", "keys": missing}
            tasks = [self.core.tasks[key] for key in wanted]
        chosen = [self.core.workers[address] for address in self.directory.addresses_of(workers, connected=True)]
        settings = self.shell.memory_settings
        options = replica_plans.RebalanceOptions(
            measure=settings.measure,
            sender_min=settings.sender_min,
            recipient_max=settings.recipient_max,
            gap=2 * settings.half_gap,
        )
        moves = replica_plans.plan_rebalance(self.core, tasks, chosen, options)
        if not moves:
            return {"status": "OK"}
        plan: dict[WorkerState, list[TaskState]] = {}
        for _, recipient, task in moves:
            plan.setdefault(recipient, []).append(task)
        failed = await self._copy(plan)
        moved: dict[WorkerState, list[TaskState]] = {}
        for sender, recipient, task in moves:
            if task.key not in failed and recipient in task.who_has:
                moved.setdefault(sender, []).append(task)
        self._remove(moved)
        self.shell.log_event("all", {"action": "rebalance", "moved-keys": len(moves) - len(failed)})
        if failed:
            return {"status": "partial-fail", "keys": list(failed)}
        return {"status": "OK"}

    async def _copy(self, plan: dict[WorkerState, list[TaskState]]) -> set[Key]:
        """Have workers fetch copies, and wait for them; returns the keys that some worker could not get."""
        requests = {
            worker: {task.key: [holder.address for holder in task.who_has] for task in tasks}
            for worker, tasks in plan.items()
        }
        absent = await asyncio.gather(*[self._bring(worker, part) for worker, part in requests.items()])
        return set().union(*absent)

    async def _bring(self, worker: WorkerState, who_has: dict[Key, list[str]]) -> set[Key]:
        """Have a worker fetch copies, and put them on record; returns the keys that it could not get."""
        failed = await self._fetch(worker.address, who_has)
        if self.core.workers.get(worker.address) is not worker:
            return set(who_has)
        replicas.note_replicas(self.core, worker, [key for key in who_has if key not in failed])
        return failed

    async def _fetch(self, address: str, who_has: dict[Key, list[str]]) -> set[Key]:
        """Ask a worker to fetch copies; returns the keys that it could not get."""
        try:
            answer = await self.shell.worker_rpc(address).gather(who_has=who_has)
        except OSError as error:
            logger.warning("Could not copy %d results to worker %s: %s", len(who_has), address, error)
            return set(who_has)
        return set() if answer["status"] == "OK" else set(answer["keys"])

    def _remove(self, plan: dict[WorkerState, list[TaskState]]) -> None:
        for worker, tasks in plan.items():
            if self.core.workers.get(worker.address) is worker:
                replicas.remove(self.core, worker, tasks)
        self.shell.flush()

    def add_keys(self, worker: str, keys: Iterable[Key] = (), stimulus_id: str | None = None) -> str:
        """Learn that a worker holds copies of results; "OK", or "not found" for a worker that is not known."""
        record = self.core.workers.get(self.directory.coerce_address(worker))
        if record is None:
            return "not found"
        self.core.handle_batch(record, [AddKeys(list(keys))], self.shell.now())
        self.shell.flush()
        return "OK"

    async def gather_on_worker(self, worker_address: str, who_has: dict[Key, list[str]]) -> set[Key]:
        """Have a worker fetch results from the given holders; returns the keys that it could not get."""
        worker = self.core.workers.get(worker_address)
        return set(who_has) if worker is None else await self._bring(worker, who_has)

    async def delete_worker_data(
        self, worker_address: str, keys: Iterable[Key], stimulus_id: str | None = None
    ) -> None:
        """Have a worker drop its copies of results that others hold too."""
        worker = self.core.workers.get(worker_address)
        if worker is not None:
            self._remove({worker: self._known(keys)})

    def request_acquire_replicas(self, addr: str, keys: Iterable[Key], *, stimulus_id: str = "") -> None:
        """Have a worker fetch copies, without waiting for them."""
        replicas.acquire(self.core, self.core.workers[addr], self._known(keys))
        self.shell.flush()

    def request_remove_replicas(self, addr: str, keys: Iterable[Key], *, stimulus_id: str = "") -> None:
        """Have a worker drop copies that others hold too and that nothing there needs, without waiting for it."""
        self._remove({self.core.workers[addr]: self._known(keys)})

    def _known(self, keys: Iterable[Key]) -> list[TaskState]:
        return [task for key in keys if (task := self.core.tasks.get(key)) is not None]

    def _running_among(self, workers: Iterable[str] | None) -> list[WorkerState]:
        addresses = self.core.workers if workers is None else self.directory.present_addresses(workers)
        return [worker for address in addresses if (worker := self.core.workers[address]) in self.core.running]

    # Occupancy

    def reevaluate_occupancy(self, worker_index: int = 0) -> int:
        """Bring workers' occupancy in line with what is known by now of how long tasks take, some workers at a time.

        Args:
            worker_index: position of the worker to begin with.

        Returns:
            The position to go on with.
        """
        return reevaluate_some(self.core, worker_index, REEVALUATE_TASKS)

    def _reevaluate_unless_loaded(self) -> None:
        if self.core.total_occupancy > 0 and self._process.cpu_percent() < LOADED_PERCENT:
            self._next_worker = self.reevaluate_occupancy(self._next_worker)
            self.shell.flush()
