"""The scheduler's half of running tasks again: how a task is called, and which task a failure is to be blamed on."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from headrace.common.keys import to_wire


class ReplayTaskScheduler:
    """Answers what `ReplayTaskClient` asks."""

    def __init__(self, scheduler: Any) -> None:
        self.scheduler = scheduler
        scheduler.server.handlers.update(get_runspec=self.get_runspec, get_error_cause=self.get_error_cause)

    def get_error_cause(self, *args: Any, keys: Iterable[Any] = (), **kwargs: Any) -> Any:
        """The key of the task whose failure the first failed one of these shares; None if none has failed."""
        for key in keys:
            task = self.scheduler.tasks.get(to_wire(key))
            if task is not None and task.exception_blame is not None:
                return task.exception_blame.key
        return None

    def get_runspec(self, *args: Any, key: Any = None, **kwargs: Any) -> dict[str, Any]:
        """How a task is called: {"function", "arguments": pickles, "dependencies": keys}.

        Raises:
            KeyError: there is no such task (any more).
            ValueError: it is data that no task computes.
        """
        task = self.scheduler.tasks.get(to_wire(key))
        if task is None:
            raise KeyError(f"the scheduler does not know the task {key!r} (any more)")
        if task.function is None:
            raise ValueError(f"{key!r} is data that was scattered: no task computes it")
        return {
            "function": task.function.pickled,
            "arguments": task.arguments,
            "dependencies": [dependency.key for dependency in task._dependencies],
        }
