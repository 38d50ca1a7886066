"""Data in the cluster: where it is, bringing it to clients, putting it on workers, copying it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from itertools import cycle
from typing import Any

from headrace.rpc.server import Operation
from headrace.scheduler.shell import Shell, logger
from headrace.scheduler.state.records.workers import WorkerState
from headrace.scheduler.worker_directory import WorkerDirectory


class DataRequests:
    """Gather, scatter, and questions about data.

    Args:
        directory: finds workers by name.
    """

    def __init__(self, shell: Shell, directory: WorkerDirectory) -> None:
        self.shell = shell
        self.core = shell.core
        self.directory = directory

    def operations(self) -> dict[str, Operation]:
        """The requests that this topic answers."""
        return {
            "gather": Operation(self.gather, repeatable=True, takes_serializers=True),
            "scatter": Operation(self.scatter),
            "begin_scatter": Operation(self._begin_scatter),
            "update_data": Operation(self.update_data),
            "who_has": Operation(self.get_who_has, repeatable=True),
            "has_what": Operation(self.get_has_what, repeatable=True),
            "nbytes": Operation(self.get_nbytes, repeatable=True),
            "ncores": Operation(self.get_ncores, repeatable=True),
            "ncores_running": Operation(self.get_ncores_running, repeatable=True),
            "processing": Operation(self.get_processing, repeatable=True),
        }

    async def gather(self, keys: Iterable[Any], serializers: list[str] | None = None) -> dict[str, Any]:
        """Results from the workers that hold them.

        Args:
            serializers: names of the families by which they are to be serialized.

        Returns:
            `{"status": "OK", "data": {key: pickled result}}`, or with status "error" the `keys` that nobody could give.
        """
        data: dict[Any, Any] = {}
        missing = set(keys)
        tried: set[str] = set()
        while missing:
            by_worker: dict[str, list[Any]] = {}
            for key in missing:
                task = self.core.tasks.get(key)
                holders = [worker.address for worker in task.who_has] if task is not None else []
                address = next((address for address in holders if address not in tried), None)
                if address is not None:
                    by_worker.setdefault(address, []).append(key)
            if not by_worker:
                break
            answers = await asyncio.gather(
                *[self._get_data(address, wanted, serializers) for address, wanted in by_worker.items()],
                return_exceptions=True,
            )
            for address, answer in zip(by_worker, answers, strict=True):
                tried.add(address)
                if isinstance(answer, OSError):
                    logger.info("Could not gather from worker %s: %s", address, answer)
                elif isinstance(answer, BaseException):
                    raise answer
                else:
                    data.update(answer)
                    missing.difference_update(answer)
                    for key in by_worker[address]:
                        if key not in answer:
                            self.core.on_missing_data(key, address, self.shell.now())
            self.shell.flush()
        if missing:
            return {"status": "error", "keys": list(missing), "data": data}
        return {"status": "OK", "data": data}

    async def _get_data(self, address: str, keys: list[Any], serializers: list[str] | None = None) -> dict[Any, Any]:
        """Ask a worker for results; one that is busy is asked again."""
        pause = 0.02
        while True:
            answer = await self.shell.patient_calls.call(
                address, "get_data", keys=keys, who=None, serializers=serializers
            )
            if answer["status"] != "busy":
                return dict(answer["data"])
            await asyncio.sleep(pause)
            pause = min(1.0, pause * 2)

    async def scatter(
        self,
        data: dict[Any, Any],
        workers: Iterable[str] | None = None,
        client: str | None = None,
        broadcast: bool | int = False,
        timeout: float = 2,
    ) -> list[Any]:
        """Put values on workers in turn (on all, or so many, with `broadcast`); returns the keys.

        Raises:
            TimeoutError: no worker came within `timeout` seconds.
        """
        deadline = time.monotonic() + timeout
        while not (targets := self._targets(workers)):
            if time.monotonic() > deadline:
                raise TimeoutError(f"no worker to scatter to after {timeout} s; are workers connected?")
            await asyncio.sleep(0.02)
        copies = len(targets) if broadcast is True else min(int(broadcast) or 1, len(targets))
        by_worker: dict[str, dict[Any, Any]] = {}
        who_has: dict[Any, list[str]] = {}
        turn = cycle(range(len(targets)))
        for key, value in data.items():
            first = next(turn)
            who_has[key] = [targets[(first + step) % len(targets)].address for step in range(copies)]
            for address in who_has[key]:
                by_worker.setdefault(address, {})[key] = value
        number = self.core.begin_scatter(data, client or self.shell.id, self.shell.now())
        self._log_scatter(client, len(data))
        try:
            answers = await asyncio.gather(
                *[
                    self.shell.worker_rpc(address).update_data(data=part, scattering=number)
                    for address, part in by_worker.items()
                ]
            )
        except BaseException:
            self.core.scatters.end(number)
            raise
        nbytes = {key: size for answer in answers for key, size in answer["nbytes"].items()}
        self.update_data(who_has=who_has, nbytes=nbytes, client=client, scattering=number)
        return list(data)

    def _log_scatter(self, client: str | None, count: int) -> None:
        event = {"action": "scatter", "client": client, "count": count}
        self.shell.log_event(["all", client] if client else "all", event)

    def _begin_scatter(self, keys: Iterable[Any], client: str, workers: Iterable[str] | None = None) -> dict[str, Any]:
        """A client is about to send data to workers, of which there may be none: their threads, and its number."""
        threads = {worker.address: worker.nthreads for worker in self._targets(workers)}
        if not threads:
            return {"threads": threads, "scattering": 0}
        keys = list(keys)
        self._log_scatter(client, len(keys))
        return {"threads": threads, "scattering": self.core.begin_scatter(keys, client, self.shell.now())}

    def _targets(self, workers: Iterable[str] | None) -> list[WorkerState]:
        """Workers that run, of those that are named if any are.

        Raises:
            UnknownWorkerError: there are workers, and none has a name that is asked for.
        """
        if workers is None or not self.core.workers:
            return list(self.core.running)
        addresses = self.directory.present_addresses(workers)
        return [worker for worker in self.core.running if worker.address in addresses]

    def update_data(
        self,
        *,
        who_has: dict[Any, list[str]],
        nbytes: dict[Any, int],
        client: str | None = None,
        types: dict[Any, str] | None = None,
        scattering: int = 0,
    ) -> dict[str, str]:
        """Learn of results that somebody put on workers; `scattering` is the number that was given for that, if any."""
        now = self.shell.now()
        if any(holder not in self.core.workers for holders in who_has.values() for holder in holders):
            who_has = {
                key: [self.directory.coerce_address(holder, resolve=False) for holder in holders]
                for key, holders in who_has.items()
            }
        if client:
            self.core.add_data_of(client, who_has, nbytes, types or {}, now, scattering=scattering)
        else:
            self.core.add_data(None, who_has, nbytes, types or {}, now, scattering=scattering)
        self.shell.flush()
        return {"status": "OK"}

    def get_who_has(self, keys: Iterable[Any] | None = None) -> dict[Any, list[str]]:
        """{key: addresses that hold it}"""
        if keys is None:
            return {key: [worker.address for worker in task.who_has] for key, task in self.core.tasks.items()}
        found = {}
        for key in keys:
            task = self.core.tasks.get(key)
            found[key] = [worker.address for worker in task.who_has] if task is not None else []
        return found

    def get_has_what(self, workers: Iterable[str] | None = None) -> dict[str, list[Any]]:
        """{address: keys that it holds}"""
        found = {}
        for worker, name in self._named(workers):
            found[name] = [task.key for task in worker.has_what] if worker is not None else []
        return found

    def get_nbytes(self, keys: Iterable[Any] | None = None, summary: bool = True) -> dict[Any, int]:
        """Sizes in bytes, by key, or summed over those of the same prefix."""
        tasks = [self.core.tasks[key] for key in keys] if keys is not None else self.core.tasks.values()
        sizes: dict[Any, int] = {}
        for task in tasks:
            if task.nbytes >= 0:
                name = task.prefix.name if summary else task.key
                sizes[name] = sizes.get(name, 0) + task.nbytes
        return sizes

    def get_ncores(self, workers: Iterable[str] | None = None) -> dict[str, int]:
        """{address: threads}"""
        return {name: worker.nthreads for worker, name in self._named(workers) if worker is not None}

    def get_ncores_running(self, workers: Iterable[str] | None = None) -> dict[str, int]:
        """{address: threads} of the workers that may be given tasks."""
        return {
            name: worker.nthreads
            for worker, name in self._named(workers)
            if worker is not None and worker in self.core.running
        }

    def get_processing(self, workers: Iterable[str] | None = None) -> dict[str, list[Any]]:
        """{address: keys sent to it and not done}"""
        found = {}
        for worker, name in self._named(workers):
            found[name] = [task.key for task in worker.processing] if worker is not None else []
        return found

    def _named(self, workers: Iterable[str] | None) -> list[tuple[WorkerState | None, str]]:
        return [(self.core.workers.get(address), address) for address in self.directory.addresses_of(workers)]
