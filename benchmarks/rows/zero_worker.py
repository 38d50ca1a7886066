"""The scheduler's decisions alone, with workers that answer at once: what a task costs, and what is kept of it.

Drives headrace's state machine as its shell does, batch by batch and with real messages, without sockets. Only the
state's own time counts. The cost must not depend on the number of tasks or of workers.
"""

from __future__ import annotations

import gc
import time
from typing import Any

import psutil

#: (tasks, workers). The memory of the first is reported: later ones reuse what it gave back.
CASES = ((1_000_000, 2), (1_000_000, 1_000), (100_000, 2), (100_000, 1_000), (10_000, 2), (10_000, 1_000))
#: Tasks per message, as the client sends them.
SLICE = 2_000


def run(session: Any) -> dict[str, float]:
    cases = [(max(1_000, tasks // 100), workers) for tasks, workers in CASES] if session.quick else CASES
    _drive(2_000, 2)  # warm
    figures: dict[str, float] = {}
    costs = []
    for tasks, workers in cases:
        # short runs are repeated: one garbage collection or interruption must not decide
        best = min((_drive(tasks, workers) for _ in range(max(1, min(5, 200_000 // tasks)))), key=lambda pair: pair[0])
        costs.append(best[0])
        figures.setdefault("bytes_per_task", best[1])
    figures["microseconds"] = sum(costs) / len(costs)
    figures["spread"] = max(costs) / min(costs)
    for (tasks, workers), cost in zip(CASES, costs, strict=True):
        figures[f"microseconds_{tasks}_{workers}"] = cost
    return figures


def _drive(tasks: int, workers: int) -> tuple[float, float]:
    """Microseconds and bytes kept per task of a map, with as many workers of one thread."""
    from headrace.cli.process_life import GC_THRESHOLDS
    from headrace.messages.client import SubmitGraph
    from headrace.scheduler.server import state_options
    from headrace.scheduler.state.core import SchedulerCore
    from headrace.scheduler.state.records.workers import WorkerState

    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    state = SchedulerCore(state_options(None, None))  # settings as a scheduler has them
    client = state.add_client("client", None, 0.0)
    for number in range(workers):
        state.add_worker(WorkerState(f"tcp://127.0.0.1:{number}", name=number), {}, 0.0)
    memory = psutil.Process().memory_info().rss
    clock, spent = time.perf_counter, 0.0
    arguments = b"\x80\x05K\x01\x85}\x86."
    for start in range(0, tasks, SLICE):
        keys: list[Any] = [f"no_op-{position:032x}" for position in range(start, min(start + SLICE, tasks))]
        message = SubmitGraph(
            1, functions=[b"no_op"], keys=keys, arguments=[arguments] * len(keys), more=start + SLICE < tasks
        )
        begin = clock()
        state.handle(client, message, begin)
        spent += clock() - begin
        spent += _answer_all(state, client)
    kept = (psutil.Process().memory_info().rss - memory) / tasks
    assert len(state.tasks) == tasks
    assert all(task.state == "memory" for task in state.tasks.values())
    state.remove_client("client", 0.0)
    return spent / tasks * 1e6, kept


def _answer_all(state: Any, client: Any) -> float:
    """Let the workers answer until the scheduler has nothing more to send; seconds spent by the scheduler."""
    from headrace.messages.worker import ComputeTask, TaskFinished

    clock, spent = time.perf_counter, 0.0
    while state.dirty:
        dirty, state.dirty = state.dirty, []
        for receiver in dirty:
            outbox, receiver.outbox = receiver.outbox, []
            if receiver is client:
                continue
            answers = [
                TaskFinished(message.key, message.attempt, 28, "int", 0.0, 1e-5)
                for message in outbox
                if type(message) is ComputeTask
            ]
            if answers:
                begin = clock()
                state.handle_batch(receiver, answers, begin)
                spent += clock() - begin
    return spent
