"""Which data are fetched next, from whom, and how much at a time.

Every task in `fetch` is in the queue of each of its holders, and in the common queue unless all its holders were
occupied when it surfaced there: then the first holder that is done brings its queue's first task back, to stand for all
that wait for that holder. One request is open to a peer at a time.
"""

from __future__ import annotations

from collections.abc import Iterable
from heapq import heappop, heappush
from typing import TYPE_CHECKING

from headrace.common.keys import Key

from .effects import GatherData
from .tasks import TaskState

if TYPE_CHECKING:
    from .core import WorkerState


def add_holders(state: WorkerState, task: TaskState, addresses: Iterable[str]) -> list[str]:
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


def remove_holder(state: WorkerState, task: TaskState, address: str) -> None:
    """A peer does not hold it (any more)."""
    if address in task.who_has:
        task.who_has.discard(address)
        holds = state.has_what[address]
        holds.discard(task)
        if not holds:
            del state.has_what[address]
        if task.state == "fetch" and task.who_has:  # it may have been waiting for this very peer
            requeue(state, task)


def clear_holders(state: WorkerState, task: TaskState) -> None:
    """Nothing is to be fetched for this task."""
    for address in list(task.who_has):
        remove_holder(state, task, address)


def set_holders(state: WorkerState, task: TaskState, addresses: list[str]) -> list[str]:
    """Replace what is known; returns those that are news."""
    for address in [known for known in task.who_has if known not in addresses]:
        remove_holder(state, task, address)
    return add_holders(state, task, addresses)


def queue(state: WorkerState, task: TaskState, addresses: Iterable[str]) -> None:
    """Put a task that is to be fetched into the common queue and into those of the given holders."""
    state.counter += 1
    entry = (task.priority, state.counter, task)
    heappush(state.fetch_queue, (*entry, None))
    for address in addresses:
        heappush(state.data_needed.setdefault(address, []), entry)


def requeue(state: WorkerState, task: TaskState) -> None:
    """Have a task that is to be fetched considered again."""
    state.counter += 1
    heappush(state.fetch_queue, (task.priority, state.counter, task, None))


def ensure_communicating(state: WorkerState) -> None:
    """Ask peers for the most urgent data, within the limits."""
    heap = state.fetch_queue
    while heap and len(state.in_flight_workers) < state.transfer_incoming_count_limit:
        _, _, task, stands_for = heap[0]
        if task.state != "fetch":
            heappop(heap)
            if stands_for is not None:
                reopen(state, stands_for)
            continue
        incoming = state.transfer_incoming_bytes
        if incoming and incoming + task.get_nbytes() > state.transfer_incoming_bytes_limit:
            return
        heappop(heap)
        free = free_holders(state, task)
        if free:
            gather_from(state, choose_holder(state, free))
            if task.state == "fetch":  # others were more urgent there
                requeue(state, task)
        if stands_for is not None:
            reopen(state, stands_for)


def free_holders(state: WorkerState, task: TaskState) -> list[str]:
    """The holders that can be asked now."""
    occupied, busy = state.in_flight_workers, state.busy_workers
    return [address for address in task.who_has if address not in occupied and address not in busy]


def choose_holder(state: WorkerState, free: list[str]) -> str:
    """A peer to ask, on this host if possible, then one from which least is wanted."""
    if len(free) == 1:
        return free[0]
    host = host_of(state.address)
    near = [address for address in free if host_of(address) == host] or free
    least = min(len(state.data_needed.get(address, ())) for address in near)
    equal = sorted(address for address in near if len(state.data_needed.get(address, ())) == least)
    state.seed += 1
    return equal[state.seed % len(equal)]


def host_of(address: str) -> str:
    """The part of an address before the port."""
    return address.rpartition(":")[0]


def gather_from(state: WorkerState, address: str) -> None:
    """Ask one peer for as much of what it holds as one message may carry."""
    heap = state.data_needed.get(address, [])
    keys: list[Key] = []
    total = 0
    limit = min(state.transfer_message_bytes_limit, state.transfer_incoming_bytes_limit - state.transfer_incoming_bytes)
    while heap:
        task = heap[0][2]
        if task.state != "fetch" or address not in task.who_has:
            heappop(heap)
            continue
        nbytes = task.get_nbytes()
        if keys and total + nbytes > limit:
            break
        heappop(heap)
        total += nbytes
        task.state = "flight"
        task.coming_from = address
        state.in_flight_tasks.add(task)
        state.log.append((task.key, "fetch", "flight", "flight", state.stimulus, state.now))
        if state.watched:
            state.outbox.transitions.append((task.key, "fetch", "flight"))
        keys.append(task.key)
    if not heap:
        state.data_needed.pop(address, None)
    if keys:
        state.in_flight_workers[address] = set(keys)
        state.in_flight_bytes[address] = total
        state.transfer_incoming_bytes += total
        state.transfer_incoming_count_total += 1
        state.outbox.gather.append(GatherData(address, keys, total))


def close_request(state: WorkerState, address: str) -> list[TaskState]:
    """A request has been answered, one way or another; returns its tasks, none of which is in flight any more."""
    keys = state.in_flight_workers.pop(address, set())
    state.transfer_incoming_bytes -= state.in_flight_bytes.pop(address, 0)
    tasks = [state.tasks[key] for key in keys]
    for task in tasks:
        task.coming_from = None
        state.in_flight_tasks.discard(task)
    return tasks


def reopen(state: WorkerState, address: str) -> None:
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
