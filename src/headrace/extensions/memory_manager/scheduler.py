"""The clock, the configuration and the requests of the active memory manager (`headrace.scheduler.state`)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from typing import Any

from headrace import config
from headrace.common.callables import import_term
from headrace.containment import log_raised
from headrace.rpc.loops.periodic import PeriodicCallback
from headrace.scheduler.extension_operations import register_operations
from headrace.scheduler.memory_settings import MEASURES
from headrace.scheduler.shell import HasShell, Shell, shell_of
from headrace.scheduler.state.data.memory_manager import ActiveMemoryManagerPolicy, MemoryManager

PREFIX = "distributed.scheduler.active-memory-manager"

logger = logging.getLogger("distributed.scheduler")


class ActiveMemoryManagerExtension(MemoryManager):
    """Runs policies every so often: by default `ReduceReplicas` every two seconds.

    What is not given comes from `distributed.scheduler.active-memory-manager`.

    Args:
        scheduler: the scheduler of the workers.
        policies: the policies to run.
        measure: which memory of a worker counts when workers are compared.
        register: whether the scheduler's `amm_handler` and `retire_workers` use this manager.
        start: whether it runs from the scheduler's start on.
        interval: time between runs, in seconds or as text.

    Raises:
        ValueError: there is no such measure.
        ImportError, AttributeError: a configured policy's class does not exist.
    """

    def __init__(
        self,
        scheduler: HasShell | Shell,
        policies: Iterable[ActiveMemoryManagerPolicy] | None = None,
        measure: str | None = None,
        register: bool = True,
        start: bool | None = None,
        interval: float | str | None = None,
    ) -> None:
        measure = measure or str(config.get(f"{PREFIX}.measure", "optimistic"))
        if measure not in MEASURES:
            raise ValueError(f"the memory manager's measure must be one of {', '.join(MEASURES)}, not {measure!r}")
        chosen = configured_policies() if policies is None else policies
        self._shell = shell_of(scheduler)
        super().__init__(self._shell.core, chosen, measure, self._shell.facade)
        self.interval = config.parse_seconds(config.get(f"{PREFIX}.interval", "2s") if interval is None else interval)
        self._wanted = config.truth(f"{PREFIX}.start") if start is None else start
        self._callback = PeriodicCallback(self.run_once, self.interval * 1000)
        if register:
            self._shell.extensions["amm"] = self
            register_operations(scheduler, "amm", {"amm_handler": self.amm_handler})
            self._shell.periodic_callbacks["active-memory-manager"] = self._callback
        if self._wanted and asyncio._get_running_loop() is not None and self._shell.is_running:
            self._callback.start()

    def scheduler_started(self) -> None:
        """The scheduler has started: start as well if the configuration or the constructor says so."""
        if self._wanted:
            self.start()

    def start(self) -> None:
        """Run every interval from now on."""
        self._callback.start()

    def stop(self) -> None:
        """Run no more by itself."""
        self._callback.stop()

    @property
    def running(self) -> bool:
        """True from `start` to `stop`, while policies run every interval."""
        return self._callback.is_running()

    def run_once(self) -> None:
        """Run all policies now."""
        if self.policies:
            self.run_policies()
            self._shell.flush()

    def policy_failed(self, policy: ActiveMemoryManagerPolicy, raised: BaseException) -> None:
        """A policy raised: that is logged, and the others run."""
        log_raised(logger, raised, "The memory manager's policy %r failed", policy)

    def amm_handler(self, method: str) -> Any:
        """Answer `Client.amm`, which asks for "start", "stop", "run_once" or "running".

        Raises:
            ValueError: the method is another one.
        """
        match method:
            case "start" | "stop" | "run_once":
                return getattr(self, method)()
            case "running":
                return self.running
        raise ValueError(f"the memory manager knows start, stop, run_once and running, not {method!r}")


def configured_policies() -> list[ActiveMemoryManagerPolicy]:
    """The policies that the configuration lists, each a `class` with its keywords."""
    found = []
    for entry in config.get(f"{PREFIX}.policies", []):
        keywords = dict(entry)
        policy = import_term(str(keywords.pop("class")))
        found.append(policy(**keywords))
    return found
