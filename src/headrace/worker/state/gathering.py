"""The choice of the data that are fetched next, and of the peer. A peer has one open request at a time."""

from __future__ import annotations

from heapq import heappop
from typing import TYPE_CHECKING

from headrace.common.keys import Key

from .effects import GatherData
from .fetch_queues import reopen, requeue
from .mover import transition
from .tasks import TaskState

if TYPE_CHECKING:
    from .core import WorkerCore


def ensure_communicating(state: WorkerCore) -> None:
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
            if task.state == "fetch":  # the message was filled with data that are more urgent
                requeue(state, task)
        if stands_for is not None:
            reopen(state, stands_for)


def free_holders(state: WorkerCore, task: TaskState) -> list[str]:
    """The holders that can be asked now."""
    occupied, busy = state.in_flight_workers, state.busy_workers
    return [address for address in task.who_has if address not in occupied and address not in busy]


def choose_holder(state: WorkerCore, free: list[str]) -> str:
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
    """The part of an address before the port and what follows."""
    return address.rpartition(":")[0]


def gather_from(state: WorkerCore, address: str) -> None:
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
        if keys and total + nbytes > limit:  # a single value may be larger than the limit: it must come somehow
            break
        heappop(heap)
        total += nbytes
        task.coming_from = address
        transition(state, task, "flight")
        keys.append(task.key)
    if not heap:
        state.data_needed.pop(address, None)
    if keys:
        state.in_flight_workers[address] = set(keys)
        state.in_flight_bytes[address] = total
        state.transfer_incoming_bytes += total
        state.transfer_incoming_count_total += 1
        state.outbox.gather.append(GatherData(address, keys, total))
