"""The cluster as a whole: the workers that are there, and requests to all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from headrace.exceptions import UnknownWorkerError
from headrace.protocol import Serialized, dumps_exception
from headrace.rpc.server import Operation
from headrace.scheduler.shell import Shell
from headrace.scheduler.worker_directory import WorkerDirectory

#: What `broadcast` can do about a worker that cannot be asked.
ON_ERROR = ("raise", "return", "return_pickle", "ignore")


class ClusterRequests:
    """Identity of the cluster, and requests that are passed on to its workers.

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
            "identity": Operation(self.identity, repeatable=True),
            "broadcast": Operation(self._answer_broadcast, takes_serializers=True),
            "proxy": Operation(self.proxy, takes_serializers=True),
        }

    def identity(self, n_workers: int = -1) -> dict[str, Any]:
        """The scheduler's identity and its workers, as `Client.scheduler_info` shows them.

        Args:
            n_workers: how many workers are listed at most; all by default.
        """
        workers = list(self.core.workers.items())
        listed = workers if n_workers < 0 else workers[:n_workers]
        return {
            "type": "Scheduler",
            "id": self.shell.id,
            "address": self.shell.address if self.shell.server.listeners else "",
            "services": self.shell.service_ports(),
            "started": self.shell.started,
            "n_workers": len(workers),
            "total_threads": self.core.total_nthreads,
            "total_memory": self.shell.total_memory,
            "security": self.shell.security.in_force("scheduler"),
            "workers": {address: worker.identity() for address, worker in listed},
        }

    async def broadcast(
        self,
        msg: dict[str, Any],
        workers: Iterable[str] | None = None,
        hosts: Iterable[str] | None = None,
        nanny: bool = False,
        serializers: list[str] | None = None,
        on_error: str = "raise",
    ) -> dict[str, Any]:
        """Send a request to workers (all by default) and return the replies by the workers' addresses.

        Args:
            nanny: send it to the workers' nannies instead; workers without one are left out.
            serializers: names of the families by which they are to answer.
            on_error: what to do where a worker cannot be reached: "raise", "return" the error, return it pickled
                ("return_pickle"), or "ignore" the worker. A name that is nobody's is in place of the address then.

        Raises:
            ValueError: `on_error` is something else.
            UnknownWorkerError: there is no such worker, with `on_error="raise"`.
            OSError: one cannot be reached, likewise.
        """
        if on_error not in ON_ERROR:
            raise ValueError(f"on_error must be 'raise', 'return', 'return_pickle', or 'ignore'; got {on_error!r}")
        found: dict[str, Any] = {}
        addresses: list[str] = []
        if workers is None:
            addresses = list(self.core.workers) if hosts is None else []
        else:
            for name in workers:
                try:
                    addresses += self.directory.addresses_of([name], connected=nanny)
                except UnknownWorkerError as error:
                    found[str(name)] = error
        for host in hosts or ():
            addresses += [address for address, worker in self.core.workers.items() if worker.host == host]
        servers = {address: address for address in addresses}
        if nanny:
            servers = {address: own for address in addresses if (own := self.core.workers[address].nanny)}
        request = dict(msg)
        op = request.pop("op")
        request.pop("reply", None)
        if serializers is not None:
            request["serializers"] = serializers

        async def ask(address: str) -> Any:
            return await self.shell.worker_rpc(address).call(op, **request)

        if on_error == "raise":
            for unknown in found.values():
                raise unknown
        answers = await asyncio.gather(*[ask(server) for server in servers.values()], return_exceptions=True)
        found.update(zip(servers, answers, strict=True))
        failures = {name: answer for name, answer in found.items() if isinstance(answer, BaseException)}
        for name, failure in failures.items():
            if on_error == "raise":
                raise failure
            if on_error == "ignore":
                del found[name]
            elif on_error == "return_pickle":
                found[name] = dumps_exception(failure).exception
        return found

    async def ask(self, request: dict[str, Any], workers: Iterable[str] | None, nanny: bool = False) -> dict[str, Any]:
        """Answers of the workers that can be reached, of these or of all, by address; see `broadcast`.

        Raises:
            UnknownWorkerError: there is no such worker.
        """
        if workers is not None:
            workers = self.directory.addresses_of(workers)
        return await self.broadcast(request, workers=workers, nanny=nanny, on_error="ignore")

    async def _answer_broadcast(self, **request: Any) -> dict[str, Any]:
        """`broadcast` for somebody elsewhere, whom exceptions reach as payloads that can always be opened."""
        found = await self.broadcast(**request)
        for name, answer in found.items():
            if isinstance(answer, BaseException):
                found[name] = Serialized.of(dumps_exception(answer).exception)
        return found

    async def proxy(self, msg: dict[str, Any], worker: str, serializers: list[str] | None = None) -> Any:
        """Pass a request on to a worker and return its reply."""
        replies = await self.broadcast(msg, [worker], serializers=serializers)
        return next(iter(replies.values()))
