"""Restarts: nannies end and start their workers' processes, and with `restart` all work is forgotten."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable

from headrace.common.keys import Key, from_wire
from headrace.exceptions import BadRequestError, UnknownWorkerError
from headrace.messages.client import ReleaseKeys, Restarted
from headrace.rpc import Stream
from headrace.rpc.server import Operation
from headrace.scheduler.connections.worker_removal import WorkerRemoval
from headrace.scheduler.shell import Shell, logger
from headrace.scheduler.state.records.workers import WorkerState
from headrace.scheduler.worker_directory import WorkerDirectory

#: Seconds between two looks whether workers have come back.
LOOK_SECONDS = 0.02


class Restarts:
    """`restart` and `restart_workers`.

    Args:
        directory: finds workers by name.
        removal: takes workers off the record.
    """

    def __init__(self, shell: Shell, directory: WorkerDirectory, removal: WorkerRemoval) -> None:
        self.shell = shell
        self.core = shell.core
        self.directory = directory
        self.removal = removal

    def operations(self) -> dict[str, Operation]:
        """The requests that this topic answers."""
        return {
            "restart": Operation(self.restart),
            "restart_workers": Operation(self.restart_workers),
            "restart_stuck": Operation(self._restart_stuck),
        }

    def _restart_stuck(self, worker: str, key: Key) -> dict[str, str]:
        """A worker asks to be ended, because a task that was cancelled with force does not end.

        Nobody is to blame: what else is on it is placed anew at once, and results that only it has are computed again.
        """
        worker = self.directory.coerce_address(worker, resolve=False)
        record = self.core.workers.get(worker)
        if record is None or not record.nanny:
            return {"status": "no such worker with a nanny"}
        reason = f"task {from_wire(key)!r} was cancelled with force and did not end"
        logger.warning("Worker %s is restarted: %s", worker, reason)
        self.shell.log_event(
            ["all", worker], {"action": "restart-stuck-worker", "worker": worker, "key": from_wire(key)}
        )
        # Its stream stays open, unheard, until its nanny has ended it: else it would be back in between.
        stream = self.shell.worker_streams.pop(worker, None)
        self.removal.drop_worker(worker, expected=True, close=False, reason=reason)
        self.shell.run_in_background(self._end_stuck(record.nanny, stream, reason))
        return {"status": "OK"}

    async def _end_stuck(self, nanny: str, stream: Stream | None, reason: str) -> None:
        try:
            await self.shell.worker_rpc(nanny).restart(reason=reason)
        except Exception as error:
            logger.warning("The nanny at %s could not be asked to restart its worker: %s", nanny, error)
        finally:
            if stream is not None:
                stream.abort()  # if it lives, it registers again

    async def restart(
        self,
        client: str | None = None,
        timeout: float | None = 30,
        wait_for_workers: bool = True,
        stimulus_id: str = "",
    ) -> None:
        """Forget all work, cancel every client's futures, and restart every worker; see `restart_workers`.

        Raises:
            TimeoutError: workers did not end, or did not come back, in time.
        """
        logger.info("Restarting workers and forgetting all work")
        now = self.shell.now()
        for record in list(self.core.clients.values()):
            keys = [task.key for task in record.wants_what]
            self.core.send(record, Restarted())
            self.core.handle(record, ReleaseKeys(keys), now)
        self.shell.call_extensions("work_forgotten")
        self.shell.flush()
        self.shell.notify_plugins("restart", self.shell.facade)
        self.shell.log_event(["all", client] if client else "all", {"action": "restart", "client": client})
        try:
            await self.restart_workers(client=client, timeout=timeout, wait_for_workers=wait_for_workers)
        finally:
            self.shell.call_extensions("workers_restarted")

    async def restart_workers(
        self,
        workers: Iterable[str] | None = None,
        client: str | None = None,
        timeout: float | None = 30,
        wait_for_workers: bool = True,
        on_error: str = "raise",
        stimulus_id: str = "",
        need_nannies: bool = False,
    ) -> dict[str, str]:
        """Restart workers; those without a nanny are only shut down.

        Args:
            workers: names, addresses or hosts; all by default.
            timeout: seconds for the processes to end, and with `wait_for_workers` for the workers to be back.
            on_error: "raise", or "return" what went wrong with each.
            need_nannies: refuse if one has no nanny, and do nothing.

        Returns:
            By the name given (or address): "OK", "no nanny", "timed out" or an error's text.

        Raises:
            UnknownWorkerError: a name means no worker.
            ValueError: `need_nannies`, and one has none.
            TimeoutError: `on_error` is "raise", and it took longer.
        """
        chosen = self._chosen(workers)
        for worker in chosen.values():
            if need_nannies and not worker.nanny:
                raise BadRequestError(
                    "Restarting workers requires a nanny to be used: "
                    f"the worker {worker.name!r} at {worker.address} has none"
                )
        seconds = float("inf") if timeout is None else timeout
        deadline = time.monotonic() + seconds
        count = len(self.core.workers)
        answers = await asyncio.gather(
            *[self._restart_one(worker, timeout, wait_for_workers) for worker in chosen.values()]
        )
        results = dict(zip(chosen, answers, strict=True))
        addresses = [worker.address for worker in chosen.values()]
        self.shell.log_event("all", {"action": "restart-workers", "workers": addresses, "client": client})
        late = [chosen[name].address for name, answer in results.items() if answer not in ("OK", "no nanny")]
        if late and on_error == "raise":
            raise TimeoutError(
                f"{len(late)}/{len(chosen)} nanny worker(s) did not restart within {timeout} s: {late} "
                f"({', '.join(sorted({answer for answer in answers if answer not in ('OK', 'no nanny')}))})"
            )
        if wait_for_workers:
            await self._await_return(count, list(answers).count("no nanny"), deadline, timeout, on_error)
        return results

    def _chosen(self, workers: Iterable[str] | None) -> dict[str, WorkerState]:
        if workers is None:
            return dict(self.core.workers)
        chosen: dict[str, WorkerState] = {}
        for name in workers:
            addresses = self.directory.workers_list([name])
            if not addresses:
                raise UnknownWorkerError(
                    f"there is no worker {name!r} to restart: {_listed(self.core.workers.values())}"
                )
            if len(addresses) == 1:
                chosen[name] = self.core.workers[addresses[0]]
            else:  # a host's
                chosen.update((address, self.core.workers[address]) for address in addresses)
        return chosen

    async def _restart_one(self, worker: WorkerState, timeout: float | None, wait: bool) -> str:
        if not worker.nanny:
            self.removal.drop_worker(
                worker.address, expected=True, close=True, reason="restart of a worker without nanny"
            )
            return "no nanny"
        request = self.shell.worker_rpc(worker.nanny).restart(
            timeout=timeout, reason="asked to restart by the scheduler", wait=wait
        )
        call = self.shell.run_in_background(request)  # it goes on if it takes longer
        await asyncio.wait([call], timeout=timeout)
        if not call.done():
            return "timed out"
        if call.cancelled():
            return "the scheduler closes"
        if error := call.exception():
            return f"{type(error).__name__}: {error}"
        answer = call.result()
        if answer == "OK" and self.core.workers.get(worker.address) is worker:  # its end has not been noticed yet
            self.removal.drop_worker(worker.address, expected=True, close=False, reason="restarted")
        return str(answer)

    async def _await_return(
        self, count: int, without_nanny: int, deadline: float, timeout: float | None, on_error: str
    ) -> None:
        while len(self.core.workers) < count:
            if time.monotonic() > deadline:
                if on_error != "raise":
                    return
                text = (
                    f"Waited for {count} worker(s) to come back after the restart, but after {timeout} s there are "
                    f"{len(self.core.workers)}: consider a longer timeout, or wait_for_workers=False"
                )
                if without_nanny:
                    text += (
                        f". {without_nanny} of them had no nanny and were only shut down: unless something else starts "
                        "them again they will not come back"
                    )
                raise TimeoutError(text)
            await asyncio.sleep(LOOK_SECONDS)


def _listed(workers: Iterable[WorkerState]) -> str:
    known = [f"{worker.name!r} at {worker.address}" for worker in workers]
    if not known:
        return "no worker is known"
    return f"the known ones are {', '.join(known[:10])}" + (f" and {len(known) - 10} more" if known[10:] else "")
