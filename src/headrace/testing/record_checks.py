"""Checks that the records of servers hold together, and that no worker reported that its own do not."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from headrace import Scheduler


def validate_state(*servers: object) -> None:
    """Check the records of schedulers and workers; those of nannies are in other processes.

    Raises:
        AssertionError: they contradict each other.
    """
    for server in servers:
        validate = getattr(server, "validate_state", None)
        if validate is not None and getattr(server, "validate", True):
            validate()


def _check_no_events(s: Scheduler, topic: str, what: str) -> None:
    events = [event for _, event in s.shell.events.get(topic, ())]
    assert not events, f"workers reported {what}: " + "; ".join(str(event) for event in events)


def check_invalid_worker_transitions(s: Scheduler) -> None:
    """Fail if a worker has told the scheduler of a transition of a task that must not be."""
    _check_no_events(s, "invalid-worker-transition", "transitions that must not be")


def check_invalid_task_states(s: Scheduler) -> None:
    """Fail if a worker has told the scheduler of a task in a state that contradicts the rest."""
    _check_no_events(s, "invalid-worker-task-state", "tasks whose records contradict each other")


def check_worker_fail_hard(s: Scheduler) -> None:
    """Fail if a worker has told the scheduler that it closed because of a failure of its own."""
    _check_no_events(s, "worker-fail-hard", "failures of their own")
