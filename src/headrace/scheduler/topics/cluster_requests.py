"""The cluster as a whole: who is there, messages to all workers, and workers that are sent away."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

from headrace import clock
from headrace.common.keys import Key
from headrace.exceptions import UnknownWorkerError
from headrace.messages.worker import CloseWorker
from headrace.scheduler.base import SchedulerBase
from headrace.scheduler.shell import Operations, logger
from headrace.scheduler.state.records.workers import WorkerState


class ClusterHandlers(SchedulerBase):
    """Identity, broadcast, and the coming and going of workers."""

    coerce_address: Callable[..., str]
    note_death: Callable[[WorkerState, str], None]

    def cluster_operations(self) -> Operations:
        return {
            "identity": self.identity,
            "broadcast": self.broadcast,
            "proxy": self.proxy,
            "unregister": self.unregister,
            "echo": self.echo,
        }

    def identity(self, n_workers: int = -1) -> dict[str, Any]:
        """What `Client.scheduler_info` shows; `n_workers` bounds how many workers are listed."""
        workers = list(self.workers.items())
        listed = workers if n_workers < 0 else workers[:n_workers]
        return {
            "type": "Scheduler",
            "id": self.id,
            "address": self.address if self.server.listeners else "",
            "services": self.service_ports,
            "started": getattr(self, "started", 0.0),
            "n_workers": len(workers),
            "total_threads": self.state.total_nthreads,
            "total_memory": self.total_memory,
            "workers": {address: worker.identity() for address, worker in listed},
        }

    async def broadcast(
        self,
        msg: dict[str, Any],
        workers: Iterable[str] | None = None,
        hosts: Iterable[str] | None = None,
        nanny: bool = False,
        serializers: Any = None,
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
        addresses = [] if workers is None and hosts is not None else self.addresses_of(workers)
        for host in hosts or ():
            addresses += [address for address, worker in self.workers.items() if worker.host == host]
        servers = {address: address for address in addresses}
        if nanny:
            chosen = self.addresses_of(addresses, connected=True)
            servers = {address: own for address in chosen if (own := self.workers[address].nanny)}
        request = dict(msg)
        op = request.pop("op")
        request.pop("reply", None)
        if serializers is not None:
            request["serializers"] = serializers

        async def ask(address: str) -> Any:
            return await self.worker_rpc(address).call(op, **request)

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

    async def proxy(self, msg: dict[str, Any], worker: str, serializers: Any = None) -> Any:
        """Pass a request on to a worker and return its reply."""
        replies = await self.broadcast(msg, [worker], serializers=serializers)
        return next(iter(replies.values()))

    def workers_list(self, workers: Iterable[str] | None) -> list[str]:
        """Addresses of the workers that names, addresses or hosts mean; of all by default."""
        from headrace.scheduler.state.placing.restrictions import workers_named

        if workers is None:
            return list(self.workers)
        found: dict[str, None] = {}
        for name in workers:
            found.update(dict.fromkeys(worker.address for worker in workers_named(self.state, name)))
        return list(found)

    def addresses_of(self, workers: Iterable[Any] | None, *, connected: bool = False) -> list[str]:
        """Addresses of the workers that names, addresses or hosts mean; of all by default.

        Args:
            connected: whether an address counts only while a worker is there: others may have left a moment ago.

        Raises:
            UnknownWorkerError: there is no such worker.
        """
        found: dict[str, None] = dict.fromkeys(self.workers if workers is None else ())
        for name in workers or ():
            addresses = self.workers_list([name])
            if not addresses and (isinstance(name, tuple) or ":" in str(name)):
                address = self.coerce_address(name)
                addresses = [address] if address in self.workers or not connected else []
            if not addresses:
                known = sorted(self.workers)
                listed = f"there are {', '.join(known[:10])}" if known else "there are none"
                more = f" and {len(known) - 10} more" if known[10:] else ""
                raise UnknownWorkerError(f"no worker is called {name!r}; {listed}{more}")
            found.update(dict.fromkeys(addresses))
        return list(found)

    def present_addresses(self, workers: Iterable[Any]) -> list[str]:
        """As `addresses_of`, of those that are connected, and there must be one (if any were named)."""
        named = list(workers)
        found = [address for address in self.addresses_of(named) if address in self.workers]
        return found or self.addresses_of(named, connected=True)

    async def remove_worker(
        self,
        address: str,
        *,
        stimulus_id: str = "",
        expected: bool = False,
        close: bool = True,
        reason: str = "removed",
    ) -> str:
        """As `drop_worker`."""
        return self.drop_worker(address, stimulus_id, expected, close, reason)

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
        address = self.coerce_address(address, resolve=False)
        worker = self.workers.get(address)
        if worker is None:
            return "already-removed"
        stream = self.stream_comms.pop(address, None)
        if stream is not None and not stream.closed and close:
            stream.send(CloseWorker(reason))
        if not expected:
            self.note_death(worker, reason)
        lost = self.state.remove_worker(address, reason, clock.now(), expected=expected, blamed=blamed)
        if stream is not None:
            self.run_in_background(stream.close())
        if lost:
            logger.warning(
                "Worker %s left (%s) with the only copy of %d scattered results: %s",
                address,
                reason,
                len(lost),
                lost[:5],
            )
        self.log_event("all", {"action": "remove-worker", "worker": address})
        self.departed.add(address)
        self.notify_plugins("remove_worker", self, address, stimulus_id=stimulus_id)
        self.flush()
        return "OK"

    def close_worker(self, worker: str) -> None:
        """Tell a worker to shut down."""
        self.drop_worker(worker, expected=True, reason="closed by the scheduler")

    def unregister(self, address: str, safe: bool = True) -> dict[str, str]:
        """A worker leaves on its own account."""
        self.drop_worker(address, expected=safe, close=False, reason="it left")
        return {"status": "OK"}
