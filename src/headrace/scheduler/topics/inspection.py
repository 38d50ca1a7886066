"""Questions about tasks and workers: their story, states, failures, call stacks and logs; and erred tasks' retry."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from headrace.common.keys import Key
from headrace.rpc.server import Operation
from headrace.scheduler.shell import Shell
from headrace.scheduler.state.checks.story import Transition, transitions
from headrace.scheduler.state.records.tasks import TaskState

from .cluster_requests import ClusterRequests


class Inspection:
    """Questions about the past and present of tasks.

    Args:
        cluster: asks the workers.
    """

    def __init__(self, shell: Shell, cluster: ClusterRequests) -> None:
        self.shell = shell
        self.core = shell.core
        self.cluster = cluster

    def operations(self) -> dict[str, Operation]:
        """The requests that this topic answers."""
        return {
            "get_story": Operation(self.get_story, repeatable=True),
            "worker_logs": Operation(self.get_worker_logs, repeatable=True),
            "get_task_status": Operation(self.get_task_status),
            "get_task_prefix_states": Operation(self.get_task_prefix_states),
            "count_running": Operation(self.shell.count_running),
            "call_stack": Operation(self.get_call_stack, repeatable=True),
            "retry": Operation(self.stimulus_retry),
        }

    def story(self, *keys_or_tasks_or_stimuli: Key | TaskState) -> list[Transition]:
        """The logged transitions of these tasks, or with these stimuli, oldest first."""
        return transitions(self.core.story(*keys_or_tasks_or_stimuli))

    async def get_story(self, keys_or_stimuli: Iterable[Any]) -> list[tuple[Any, ...]]:
        """The same as `story`, in plain tuples."""
        return [tuple(line) for line in self.story(*keys_or_stimuli)]

    async def get_worker_logs(
        self, n: int | None = None, workers: Iterable[str] | None = None, nanny: bool = False
    ) -> dict[str, Any]:
        """The latest lines of the logs of workers (with `nanny`, of their nannies), by the worker's address.

        Raises:
            UnknownWorkerError: there is no such worker.
        """
        request = {"op": "get_logs", "n": n}
        return await self.cluster.ask(request, workers, nanny)

    def get_task_status(self, keys: Iterable[Any]) -> dict[Any, str | None]:
        """{key: state}, `None` where the key is unknown."""
        return {key: task.state if (task := self.core.tasks.get(key)) is not None else None for key in keys}

    def get_task_prefix_states(self) -> dict[str, dict[str, int]]:
        """{prefix: {state: tasks now}} for the states below, of the prefixes with tasks in any of these."""
        found = {}
        for name, prefix in self.core.tasks.prefixes.items():
            states = prefix.states
            counts = {state: states[state] for state in ("memory", "erred", "released", "processing", "waiting")}
            if any(counts.values()):
                found[name] = counts
        return found

    async def get_call_stack(self, keys: Iterable[Any] | None = None) -> dict[str, Any]:
        """The call stacks of running tasks (all, or these), by worker."""
        if keys is None:
            workers = [address for address, worker in self.core.workers.items() if worker.processing]
            stacks = await self.cluster.broadcast(
                {"op": "call_stack", "keys": None}, workers=workers, on_error="ignore"
            )
            return {address: stack for address, stack in stacks.items() if stack}
        by_worker: dict[str, list[Any]] = {}
        for key in keys:
            task = self.core.tasks.get(key)
            if task is not None and task.processing_on is not None:
                by_worker.setdefault(task.processing_on.address, []).append(key)
        found = {}
        for address, wanted in by_worker.items():
            stacks = await self.cluster.broadcast(
                {"op": "call_stack", "keys": wanted}, workers=[address], on_error="ignore"
            )
            found.update({address: stack for address, stack in stacks.items() if stack})
        return found

    def stimulus_retry(self, keys: Iterable[Any], client: str | None = None) -> list[Any]:
        """Run erred tasks again; returns the keys that were erred."""
        retried = self.core.retry(keys, self.shell.now())
        self.shell.flush()
        return retried
