"""The cluster as a whole: the workers that are there, and requests to all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from headrace.rpc.server import Operation
from headrace.scheduler.shell import Shell
from headrace.scheduler.worker_directory import WorkerDirectory


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
            "broadcast": Operation(self.broadcast, takes_serializers=True),
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
            on_error: what to do where a worker cannot be reached: "raise", "return" the error, or "ignore" the worker.

        Raises:
            UnknownWorkerError: there is no such worker.
        """
        addresses = [] if workers is None and hosts is not None else self.directory.addresses_of(workers)
        for host in hosts or ():
            addresses += [address for address, worker in self.core.workers.items() if worker.host == host]
        servers = {address: address for address in addresses}
        if nanny:
            chosen = self.directory.addresses_of(addresses, connected=True)
            servers = {address: own for address in chosen if (own := self.core.workers[address].nanny)}
        request = dict(msg)
        op = request.pop("op")
        request.pop("reply", None)
        if serializers is not None:
            request["serializers"] = serializers

        async def ask(address: str) -> Any:
            return await self.shell.worker_rpc(address).call(op, **request)

        answers = await asyncio.gather(*[ask(server) for server in servers.values()], return_exceptions=True)
        found: dict[str, Any] = {}
        for address, answer in zip(servers, answers, strict=True):
            if isinstance(answer, BaseException):
                if on_error == "raise":
                    raise answer
                if on_error == "ignore":
                    continue
            found[address] = answer
        return found

    async def proxy(self, msg: dict[str, Any], worker: str, serializers: list[str] | None = None) -> Any:
        """Pass a request on to a worker and return its reply."""
        replies = await self.broadcast(msg, [worker], serializers=serializers)
        return next(iter(replies.values()))
