"""Clients that the tasks of a worker use: one of this process that is there, or one on the worker's own loop."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Any

from headrace import config

if TYPE_CHECKING:
    from headrace.client import Client

    from .server import WorkerServer


class TaskClients:
    """Makes clients for tasks when the first of them asks, one for threads and one for coroutines, and closes them."""

    def __init__(self, worker: WorkerServer) -> None:
        self._worker = worker
        self._made: dict[str, Client] = {}
        self._lock = threading.Lock()

    def get(self, timeout: float | str | None = None) -> Any:
        """A client of the worker's scheduler; an asynchronous one for the worker's loop. From any thread.

        Args:
            timeout: seconds, or text such as "5s", to connect; by default as configured.

        Raises:
            OSError: it cannot connect within `timeout`.
        """
        from headrace.client import Client
        from headrace.client.current import global_client

        worker = self._worker
        asynchronous = worker.loop is not None and worker.loop.runs_here
        present = global_client()
        if present is not None and self.serve(present) and present.asynchronous == asynchronous:
            self.log("worker-get-client", present, timeout)
            return present
        kind = "asynchronous" if asynchronous else "synchronous"
        with self._lock:
            client = self._made.get(kind)
            if client is None or client.status in ("closing", "closed"):
                client = self._made[kind] = Client(
                    worker.scheduler_address,
                    loop=worker.loop,
                    security=worker.security,
                    set_as_default=present is None and not asynchronous,
                    asynchronous=asynchronous,
                    direct_to_workers=True,
                    name="worker",
                    **({} if timeout is None else {"timeout": timeout}),
                )
        self.log("worker-get-client", client, timeout)
        return client

    def log(self, topic: str, client: Any, timeout: float | str | None) -> None:
        """Log that a task has asked for a client, and the seconds in which it may connect."""
        given = config.get("distributed.comm.timeouts.connect") if timeout is None else timeout
        self._worker.log_event(topic, {"client": client.id, "timeout": config.parse_seconds(given)})

    def serve(self, client: Client) -> bool:
        """Whether a client is one of the worker's scheduler, which may have several addresses."""
        session, ours = client.session, self._worker.session
        return bool(
            session.address == self._worker.scheduler_address
            or (ours.scheduler_id is not None and session.scheduler_id == ours.scheduler_id)
        )

    async def close(self) -> None:
        """Close those that were made; the worker closes, whatever they raise."""
        clients, self._made = list(self._made.values()), {}
        for client in clients:
            with contextlib.suppress(Exception):
                await client._close()
