"""The known holders of data, and the queues of what is to be fetched from each peer. `gathering` decides what is next.

Every task in `fetch` is in the queue of each of its holders, and in the common queue unless all its holders were
occupied when it surfaced there: then the first holder that is done brings its queue's first task back, to stand for all
that wait for that holder.
"""

from __future__ import annotations

from collections.abc import Iterable
from heapq import heappop, heappush
from typing import TYPE_CHECKING

from .tasks import TaskState

if TYPE_CHECKING:
    from .core import WorkerCore


def add_holders(state: WorkerCore, task: TaskState, addresses: Iterable[str]) -> list[str]:
    """Note peers that hold a task's data; returns those that are news."""
    news = [address for address in addresses if address != state.address and address not in task.who_has]
    if news:
        if not task.who_has:
            task.who_has = set()
        for address in news:
            task.who_has.add(address)
            holds = state.has_what.get(address)
            if holds is None:
                state.has_what[address] = {task}
            else:
                holds.add(task)
    return news


def remove_holder(state: WorkerCore, task: TaskState, address: str) -> None:
    """A peer does not hold it (any more)."""
    if address in task.who_has:
        task.who_has.discard(address)
        holds = state.has_what[address]
        holds.discard(task)
        if not holds:
            del state.has_what[address]
        if task.state == "fetch" and task.who_has:  # it may have been waiting for this very peer
            requeue(state, task)


def clear_holders(state: WorkerCore, task: TaskState) -> None:
    """Nothing is to be fetched for this task."""
    for address in list(task.who_has):
        remove_holder(state, task, address)


def set_holders(state: WorkerCore, task: TaskState, addresses: list[str]) -> list[str]:
    """Replace what is known; returns those that are news."""
    for address in [known for known in task.who_has if known not in addresses]:
        remove_holder(state, task, address)
    return add_holders(state, task, addresses)


def queue(state: WorkerCore, task: TaskState, addresses: Iterable[str]) -> None:
    """Put a task that is to be fetched into the common queue and into those of the given holders."""
    state.counter += 1
    entry = (task.priority, state.counter, task)
    heappush(state.fetch_queue, (*entry, None))
    for address in addresses:
        heappush(state.data_needed.setdefault(address, []), entry)


def requeue(state: WorkerCore, task: TaskState) -> None:
    """Have a task that is to be fetched considered again."""
    state.counter += 1
    heappush(state.fetch_queue, (task.priority, state.counter, task, None))


def close_request(state: WorkerCore, address: str) -> list[TaskState]:
    """A request has been answered, one way or another; returns its tasks, none of which is in flight any more."""
    keys = state.in_flight_workers.pop(address, set())
    state.transfer_incoming_bytes -= state.in_flight_bytes.pop(address, 0)
    tasks = [state.tasks[key] for key in keys]
    for task in tasks:
        task.coming_from = None
        state.in_flight_tasks.discard(task)
    return tasks


def reopen(state: WorkerCore, address: str) -> None:
    """A peer may be free: have the first task that waits for it stand in the common queue for all that do."""
    if address in state.in_flight_workers or address in state.busy_workers:
        return
    heap = state.data_needed.get(address)
    while heap:
        task = heap[0][2]
        if task.state == "fetch" and address in task.who_has:
            state.counter += 1
            heappush(state.fetch_queue, (task.priority, state.counter, task, address))
            return
        heappop(heap)
    state.data_needed.pop(address, None)
