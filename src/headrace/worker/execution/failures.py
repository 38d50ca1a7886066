"""The worker's log line about a task that failed: the only trace of attempts that a retry made good.

Written on the event loop, so that it is no line of the task's own; as information, so that a user who handles the
exception, or sees it, is not shown it twice. Successes never come here.
"""

from __future__ import annotations

import logging

from headrace.common.keys import from_wire
from headrace.containment import let_pass
from headrace.exceptions import TaskCancelled
from headrace.worker.state.effects import TaskRun
from headrace.worker.state.events import ExecuteFailed

logger = logging.getLogger("distributed.worker")


def log_failure(event: ExecuteFailed, run: TaskRun | None) -> None:
    """Say which task failed, of what and where; nothing about one that was told to stop."""
    watch = None if run is None else run.watch
    if watch is None or not isinstance(watch.error, TaskCancelled):
        try:
            logger.info(
                "Compute Failed\nKey:       %s\nException: %s\nTraceback: %r\n",
                from_wire(event.key),
                event.exception_text,
                event.traceback_text,
            )
        except BaseException as raised:  # of a handler or filter of the user's: the task's outcome must get through
            let_pass(raised)
