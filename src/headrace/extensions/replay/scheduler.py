"""The scheduler's half of running tasks again: it tells a task's call, and the task that a failure comes from."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from headrace.common.keys import Key, to_wire
from headrace.scheduler.extension_operations import register_operations
from headrace.scheduler.shell import HasShell, Shell, shell_of


class ReplayTaskScheduler:
    """Answers the requests of `ReplayTaskClient`."""

    def __init__(self, scheduler: HasShell | Shell) -> None:
        self._shell = shell_of(scheduler)
        self.scheduler = self._shell.facade
        register_operations(
            scheduler, "replay-tasks", {"get_runspec": self.get_runspec, "get_error_cause": self.get_error_cause}
        )

    def get_error_cause(self, *args: object, keys: Iterable[object] = (), **kwargs: object) -> Key | None:
        """The key of the task that made the first failed one of these fail; None if none has failed."""
        for key in keys:
            task = self._shell.core.tasks.get(to_wire(key))
            if task is not None and task.exception_blame is not None:
                return task.exception_blame.key
        return None

    def get_runspec(self, *args: object, key: object = None, **kwargs: object) -> dict[str, Any]:
        """The call of a task: {"function", "arguments": pickles, "dependencies": keys}.

        Raises:
            KeyError: there is no such task (any more).
            ValueError: it is data that no task computes.
        """
        task = self._shell.core.tasks.get(to_wire(key))
        if task is None:
            raise KeyError(f"the scheduler does not know the task {key!r} (any more)")
        if task.function is None:
            raise ValueError(f"{key!r} is data that was scattered: no task computes it")
        return {
            "function": task.function.pickled,
            "arguments": task.arguments,
            "dependencies": [dependency.key for dependency in task._dependencies],
        }
