"""The public `Nanny`: the production nanny with all documented members."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable
from typing import Any

from headrace.compat.core.server_members import DocumentedServer, given_as_they_ask
from headrace.nanny.server import NannyServer
from headrace.rpc.server import Operation


class Nanny(NannyServer, DocumentedServer):
    __doc__ = NannyServer.__doc__

    def _operations(self) -> dict[str, Operation]:
        return given_as_they_ask(self, super()._operations())

    def run(self, comm: object, *args: Any, **kwargs: Any) -> Awaitable[Any]:
        """Call a (pickled) function in the nanny's process, as `run(comm, function, args, kwargs, wait)`."""
        return self._run(*args, **kwargs)

    def log_event(self, topic: str | Iterable[str], msg: object) -> None:
        """Publish a message on a topic, or several, by way of the scheduler."""
        topics = [topic] if isinstance(topic, str) else list(topic)
        self.run_in_background(self.rpc(self.scheduler_address).log_event(topic=topics, msg=msg))

    @property
    def memory_terminate_fraction(self) -> float | bool:
        """Share of the limit above which the worker is killed; False for never."""
        return self.memory_manager.memory_terminate_fraction

    def memory_monitor(self) -> None:
        """Look now how much memory the worker takes; kill it if it is too much."""
        self.memory_manager.look()

    @property
    def worker_dir(self) -> str | None:
        """The worker's local directory."""
        return self.process.worker_dir if self.process is not None else None

    @property
    def local_dir(self) -> str | None:
        """The worker's directory, by the name that a Worker has for it."""
        return self.worker_dir
