"""Data in the cluster: where it is, bringing it to clients, putting it on workers, copying it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from itertools import cycle
from typing import Any

from headrace import clock
from headrace.scheduler.base import SchedulerBase
from headrace.scheduler.shell import Operations, logger
from headrace.scheduler.state.records.workers import WorkerState


class DataHandlers(SchedulerBase):
    """Gather, scatter, replicate, and questions about data."""

    addresses_of: Callable[..., list[str]]
    present_addresses: Callable[[Iterable[str]], list[str]]

    def data_operations(self) -> Operations:
        return {
            "gather": self.gather,
            "scatter": self.scatter,
            "begin_scatter": self._begin_scatter,
            "update_data": self.update_data,
            "who_has": self.get_who_has,
            "has_what": self.get_has_what,
            "nbytes": self.get_nbytes,
            "ncores": self.get_ncores,
            "ncores_running": self.get_ncores_running,
            "processing": self.get_processing,
        }

    async def gather(self, keys: Iterable[Any], serializers: Any = None) -> dict[str, Any]:
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
                task = self.tasks.get(key)
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
                            self.state.on_missing_data(key, address, clock.now())
            self.flush()
        if missing:
            return {"status": "error", "keys": list(missing), "data": data}
        return {"status": "OK", "data": data}

    async def _get_data(self, address: str, keys: list[Any], serializers: Any = None) -> dict[Any, Any]:
        """Ask a worker for results; one that is busy is asked again."""
        pause = 0.02
        while True:
            answer = await self.patient_calls.call(address, "get_data", keys=keys, who=None, serializers=serializers)
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
        number = self.state.begin_scatter(data, client or self.id, clock.now())
        try:
            answers = await asyncio.gather(
                *[
                    self.worker_rpc(address).update_data(data=part, scattering=number)
                    for address, part in by_worker.items()
                ]
            )
        except BaseException:
            self.state.scatters.end(number)
            raise
        nbytes = {key: size for answer in answers for key, size in answer["nbytes"].items()}
        self.update_data(who_has=who_has, nbytes=nbytes, client=client, scattering=number)
        return list(data)

    def _begin_scatter(self, keys: Iterable[Any], client: str, workers: Iterable[str] | None = None) -> dict[str, Any]:
        """A client is about to send data to workers, of which there may be none: their threads, and its number."""
        threads = {worker.address: worker.nthreads for worker in self._targets(workers)}
        return {"threads": threads, "scattering": self.state.begin_scatter(keys, client, clock.now()) if threads else 0}

    def _targets(self, workers: Iterable[str] | None) -> list[WorkerState]:
        """Workers that run, of those that are named if any are.

        Raises:
            UnknownWorkerError: there are workers, and none has a name that is asked for.
        """
        if workers is None or not self.workers:
            return list(self.state.running)
        addresses = self.present_addresses(workers)
        return [worker for worker in self.state.running if worker.address in addresses]

    def coerce_address(self, addr: Any, resolve: bool = True) -> str:
        """The address that a worker's name, address, or (host, port) means."""
        from headrace.comm.addressing import normalize_address, resolve_address, unparse_host_port

        if addr in self.aliases:
            return self.aliases[addr]
        if isinstance(addr, tuple):
            addr = unparse_host_port(*addr)
        if not isinstance(addr, str):
            raise TypeError(f"a worker's address must be text or (host, port), not {addr!r}")
        address = normalize_address(addr)
        if not resolve or address in self.workers:
            return address
        try:
            return resolve_address(address)
        except OSError:  # no such host: then it is no worker's either, and whoever asks says so
            return address

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
        now = clock.now()
        if any(holder not in self.workers for holders in who_has.values() for holder in holders):
            who_has = {
                key: [self.coerce_address(holder, resolve=False) for holder in holders]
                for key, holders in who_has.items()
            }
        if client:
            self.state.add_data_of(client, who_has, nbytes, types or {}, now, scattering=scattering)
        else:
            self.state.add_data(None, who_has, nbytes, types or {}, now, scattering=scattering)
        self.flush()
        return {"status": "OK"}

    def get_who_has(self, keys: Iterable[Any] | None = None) -> dict[Any, list[str]]:
        """{key: addresses that hold it}"""
        if keys is None:
            return {key: [worker.address for worker in task.who_has] for key, task in self.tasks.items()}
        found = {}
        for key in keys:
            task = self.tasks.get(key)
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
        tasks = [self.tasks[key] for key in keys] if keys is not None else self.tasks.values()
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
            if worker is not None and worker in self.state.running
        }

    def get_processing(self, workers: Iterable[str] | None = None) -> dict[str, list[Any]]:
        """{address: keys sent to it and not done}"""
        found = {}
        for worker, name in self._named(workers):
            found[name] = [task.key for task in worker.processing] if worker is not None else []
        return found

    def _named(self, workers: Iterable[str] | None) -> list[tuple[WorkerState | None, str]]:
        return [(self.workers.get(address), address) for address in self.addresses_of(workers)]
