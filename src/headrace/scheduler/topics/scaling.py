"""Fewer and more workers: how many are needed, which can go, and their going without a result being lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

from headrace import config
from headrace.common.status import Status
from headrace.exceptions import BadRequestError
from headrace.messages.worker import Retired
from headrace.rpc.server import Operation
from headrace.scheduler.connections.lifetime_departures import LifetimeDepartures
from headrace.scheduler.connections.worker_removal import WorkerRemoval
from headrace.scheduler.shell import Shell, logger, stimulus
from headrace.scheduler.state.balance.scaling import plan_closing, target_workers
from headrace.scheduler.state.data.memory_manager import MemoryManager, RetireWorker
from headrace.scheduler.state.records.tasks import TaskState
from headrace.scheduler.state.records.workers import WorkerState
from headrace.scheduler.worker_directory import WorkerDirectory

#: Seconds between looks at whether a worker that leaves has given everything away: at first, and at most.
FIRST_LOOK = 0.005
LAST_LOOK = 0.1
#: Seconds after which what is still missing is asked for again.
ASK_AGAIN = 1.0
#: A worker stays when nothing has moved for so many seconds, and so many more for each byte of the next result.
STALLED = 60.0
STALLED_PER_BYTE = 1e-7


class Scaling:
    """The scheduler's side of adaptive deployments, and of workers that are sent away.

    Args:
        directory: finds workers by name.
        removal: takes workers off the record.
        departures: knows the workers that will leave soon of their own accord.
    """

    def __init__(
        self, shell: Shell, directory: WorkerDirectory, removal: WorkerRemoval, departures: LifetimeDepartures
    ) -> None:
        self.shell = shell
        self.core = shell.core
        self.directory = directory
        self.removal = removal
        self.departures = departures

    def operations(self) -> dict[str, Operation]:
        """The requests that this topic answers."""
        return {
            "retire_workers": Operation(self.retire_workers),
            "workers_to_close": Operation(self._workers_to_close_request),
            "adaptive_target": Operation(self.adaptive_target),
        }

    def adaptive_target(self, target_duration: float | str | None = None) -> int:
        """The number of workers that the work there is now calls for.

        Args:
            target_duration: seconds (or text such as "5s") in which that work should be done; by default what the
                configuration says under `distributed.adaptive.target-duration`.

        Raises:
            ValueError: the duration is not positive.
        """
        chosen = (
            config.get("distributed.adaptive.target-duration", "5s") if target_duration is None else target_duration
        )
        seconds = config.parse_seconds(chosen)
        if seconds <= 0:
            raise BadRequestError(f"target_duration must be a positive time such as '5s', not {chosen!r}")
        return target_workers(self.core, seconds)

    def workers_to_close(
        self,
        memory_ratio: float | None = None,
        n: int | None = None,
        key: Callable[[WorkerState], Any] | None = None,
        minimum: int | None = None,
        target: int | None = None,
        attribute: str = "address",
    ) -> list[Any]:
        """Workers that can be closed at little cost, the cheapest first: without work, and with the least data.

        Args:
            memory_ratio: memory to keep, as a multiple of the data held (2 if no number is given).
            n, target, minimum: how many to close, to have afterwards, or to keep at least.
            key: workers for which this has the same value go together; a function, or its pickle.
            attribute: what of each worker to return.
        """
        chosen = plan_closing(
            self.core,
            memory_ratio=memory_ratio,
            n=n,
            key=self.shell.open_sent(key) if isinstance(key, bytes) else key,
            minimum=minimum,
            target=target,
            allowed=self.shell.plugin_registry.valid_downscaling(self.core.workers.values())
            if self.shell.plugins
            else None,
        )
        return [getattr(worker, attribute) for worker in chosen]

    def _workers_to_close_request(self, key: object = None, **options: Any) -> list[Any]:
        return self.workers_to_close(key=self.shell.open_sent(key), **options)

    async def retire_workers(
        self,
        /,
        workers: Iterable[str] | None = None,
        names: Iterable[Any] | None = None,
        close_workers: bool = False,
        remove: bool = True,
        stimulus_id: str | None = None,
        **kwargs: Any,
    ) -> dict[str, dict[str, Any]]:
        """Send workers away once what only they hold has been copied to others.

        Tasks that they have not started are run elsewhere at once; those that run there go on, and what they compute
        until the worker leaves is kept. A worker whose data nobody can take stays and goes on working.

        Args:
            workers: addresses, names or hosts.
            names: names, instead of `workers`; 7 and "7" are the same.
            close_workers: whether to shut the workers down.
            remove: whether to forget them (otherwise they stay, closing gracefully: they are given nothing).
            kwargs: for `workers_to_close`, which chooses if neither `workers` nor `names` is given.

        Returns:
            {address: what `identity` says of it} of those that went.

        Raises:
            TypeError: more than one of `workers`, `names` and `kwargs` was given.
        """
        chosen = self._chosen_to_retire(workers, names, kwargs)
        logger.info("Retire workers: %s", [worker.address for worker in chosen])
        stimulus_id = stimulus_id or stimulus("retire-workers")
        before = {}
        for worker in chosen:
            before[worker] = worker.status
            self.shell.change_worker_status(worker, Status.closing_gracefully.name, stimulus_id=stimulus_id)
        self.shell.flush()
        manager = self._retirement_manager()
        # All are marked before any moves data, so that none gives its data to another that leaves.
        removed = close_workers or remove
        answers = await asyncio.gather(*[self._retire(worker, manager, removed, stimulus_id) for worker in chosen])
        retired = {worker.address: answer for worker, answer in zip(chosen, answers, strict=True) if answer is not None}
        # Only now do those that stay run on: the data of all others would have gone to the first of them.
        for worker, status in before.items():
            if worker.address not in retired and worker.status is Status.closing_gracefully:
                again = status if status is Status.paused else Status.running
                self.shell.change_worker_status(worker, again.name, stimulus_id=stimulus_id)
        self.shell.flush()
        if not removed:
            for address in retired:
                self.shell.worker_send(address, Retired())
        for address in retired:
            await self.removal.plugins_told(address)
        requested = [worker.address for worker in chosen]
        event = {
            "action": "retire-workers",
            "retired": list(retired),
            "could-not-retire": [address for address in requested if address not in retired],
            "requested": requested,
            "stimulus_id": stimulus_id,
        }
        self.shell.log_event("all", event)
        return retired

    async def _retire(
        self, worker: WorkerState, manager: MemoryManager, remove: bool, stimulus_id: str
    ) -> dict[str, Any] | None:
        """Send one worker away; what `identity` says of it if it went."""
        moved = await self._move_data_away(worker, manager)
        if not moved or self.core.workers.get(worker.address) is not worker:
            return None  # it stays, or left on its own account meanwhile
        # Nothing is awaited since the last look at its data, so that no result can come in between and be lost.
        identity = worker.identity()
        if remove:
            self.removal.drop_worker(worker.address, stimulus_id, expected=True, close=True, reason="retired")
        self.shell.log_event(worker.address, {"action": "retired", "stimulus_id": stimulus_id})
        return identity

    def _chosen_to_retire(
        self, workers: Iterable[str] | None, names: Iterable[Any] | None, options: dict[str, Any]
    ) -> list[WorkerState]:
        if names is not None and workers is not None:
            raise TypeError("name the workers to retire by addresses (workers) or by names, not both")
        if options and not (names is None and workers is None):
            how = ", ".join(sorted(options))
            raise TypeError(f"name the workers to retire (workers, names), or say how to choose them ({how}), not both")
        if names is not None:
            wanted = {str(name) for name in names}
            addresses = [address for name, address in self.core.aliases.items() if str(name) in wanted]
        elif workers is not None:
            named = list(workers)
            addresses = self.directory.workers_list(named) + [self.directory.coerce_address(name) for name in named]
        else:
            addresses = self._workers_to_close_request(**options)
        return list(dict.fromkeys(self.core.workers[address] for address in addresses if address in self.core.workers))

    def _retirement_manager(self) -> MemoryManager:
        """The active memory manager, or one for this occasion."""
        manager = self.shell.extensions.get("amm")
        return manager if isinstance(manager, MemoryManager) else MemoryManager(self.core, scheduler=self.shell.facade)

    async def _move_data_away(self, worker: WorkerState, manager: MemoryManager) -> bool:
        """Have others copy what only this worker holds; whether that is done, so that it can go."""
        policy = RetireWorker(worker.address, avoid=self.departures.about_to_leave)
        manager.add_policy(policy)
        loop = asyncio.get_running_loop()
        pause, asked, moved = FIRST_LOOK, 0.0, loop.time()
        endangered: TaskState | None = None
        try:
            while not policy.done():
                now = loop.time()
                first = next(iter(policy.endangered(worker)), None)
                if first is not endangered:
                    endangered, moved = first, now
                if now - moved > STALLED + STALLED_PER_BYTE * (first.get_nbytes() if first is not None else 0):
                    logger.warning("Cannot retire worker %s: nobody has taken %s for too long", worker.address, first)
                    return False
                if now - asked >= ASK_AGAIN or not asked:
                    manager.run_policies([policy])
                    self.shell.flush()
                    asked = now
                    if policy.no_recipients:
                        logger.warning("Cannot retire worker %s: %s", worker.address, policy.reason)
                        return False
                if worker.status is not Status.closing_gracefully:
                    return False  # someone has changed their mind, or it has gone
                await asyncio.sleep(pause)
                pause = min(LAST_LOOK, pause * 1.5)
        finally:
            manager.policies.discard(policy)
        return True
