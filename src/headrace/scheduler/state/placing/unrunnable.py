"""Tasks that no worker may run (no-worker): they run when one comes that may, or err when they waited too long."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from headrace.common.display.units import bytes_in_words
from headrace.common.keys import from_wire

from .restrictions import runs_somewhere

if TYPE_CHECKING:
    from headrace.scheduler.state.core import SchedulerCore
    from headrace.scheduler.state.records.tasks import TaskState
    from headrace.scheduler.state.records.workers import WorkerState
    from headrace.scheduler.state.transitions.engine import Recommendations


def run_unrunnable(state: SchedulerCore) -> Recommendations:
    """Tasks that no worker could run, and that one of those here now may."""
    recommendations: Recommendations = {}
    if state.running:
        for task in sorted(state.unrunnable):
            if runs_somewhere(state, task):
                recommendations[task] = "processing"
    return recommendations


def expire(state: SchedulerCore, timeout: float) -> Recommendations:
    """Tasks that have waited for a worker for over `timeout` seconds, and err."""
    recommendations: Recommendations = {}
    for task, since in state.unrunnable.items():
        if state.now - since < timeout:
            continue
        rare = task.rare
        rare.exception_blame = task
        rare.exception_text = text_of(state, task, timeout)
        if state.options.unrunnable_payload is not None:
            rare.exception = state.options.unrunnable_payload(task, timeout, bool(state.running))
        recommendations[task] = "erred"
    return recommendations


def note_too_large(state: SchedulerCore, task: TaskState, workers: Iterable[WorkerState]) -> None:
    """Record why a task errs that no worker has memory for: what it needs is larger than their limits."""
    largest = max(worker.memory_limit for worker in workers)
    rare = task.rare
    rare.exception_blame = task
    rare.exception_text = (
        f"Task {from_wire(task.key)!r} has {bytes_in_words(task.get_nbytes_deps())} worth of input dependencies, but "
        f"no worker that may run it has a memory_limit over {bytes_in_words(largest)}. It may be the end of a "
        "computation whose whole result is asked for: reduce it first, or write it in parts"
    )
    if state.options.too_large_payload is not None:
        rare.exception = state.options.too_large_payload(rare.exception_text)


def text_of(state: SchedulerCore, task: TaskState, timeout: float) -> str:
    """Text for a user who cannot load the exception."""
    if not state.running:
        return f"task {task.key!r} waited {timeout:g} s, and no worker was running"
    options = task.options
    return (
        f"task {task.key!r} waited {timeout:g} s for a worker that may run it: workers={options.workers}, "
        f"resources={options.resources}"
    )


def restrictions_of(state: SchedulerCore, task: TaskState) -> tuple[set[str], set[str], dict[str, float]]:
    """Restrictions of a task, as hosts, workers' addresses, and resources."""
    addresses = {name for name in task.options.workers if "://" in name}
    named = {state.aliases[name] for name in task.options.workers if name in state.aliases}
    hosts = {name for name in task.options.workers if "://" not in name and name not in state.aliases}
    return hosts, addresses | named, dict(task.options.resources)
