"""What a run of a seed leaves on the scheduler's records, to be compared with that of the same seed without short ways.

The moves beside the table (see `headrace.scheduler.state.transitions.table`) and those through it are to come to the
same, message by message: so both runs draw the same, and all records are compared, at three moments. Promises stay on
in both: they change what workers are sent and when, and so what may happen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headrace.scheduler.state.core import SchedulerCore

Snapshot = dict[str, Any]


def snapshot(state: SchedulerCore, now: float) -> Snapshot:
    """All that is on record, in terms of keys and addresses; sums of floats are rounded, as their order may differ."""
    return {
        "time": now,
        "transitions": state.transition_counter,
        "tasks": {
            task.key: (
                task.state,
                task.attempt,
                task.nbytes,
                task.type,
                sorted(worker.address for worker in task.who_has),
                sorted(client.client_key for client in task.who_wants),
                task.processing_on.address if task.processing_on is not None else None,
                (task.retries, task.suspicious, task.exception_text),
            )
            for task in state.tasks.values()
        },
        "workers": {
            worker.address: (
                worker.status.name,
                len(worker.has_what),
                worker.nbytes,
                len(worker.processing),
                round(worker.occupancy, 9),
                {name: round(amount, 9) for name, amount in worker.claimed_resources.items()},
            )
            for worker in state.workers.values()
        },
        "groups": {
            name: (group.states, group.count, group.nbytes_total, sorted(group.types), round(group.duration, 9))
            for name, group in state.tasks.groups.items()
        },
        "prefixes": {
            name: (prefix.states, prefix.state_counts, round(prefix.duration_average, 9), prefix.suspicious)
            for name, prefix in state.tasks.prefixes.items()
        },
        "clients": {name: len(client.wants_what) for name, client in state.clients.items()},
        "sets": {
            name: sorted(worker.address for worker in getattr(state, name))
            for name in ("running", "idle", "saturated", "open_workers", "busy")
        },
        "totals": (round(state.total_occupancy, 9), state.total_nthreads, len(state.queued), len(state.unrunnable)),
        "functions": len(state.functions),
    }


def differences(with_them: list[Snapshot], without: list[Snapshot]) -> list[str]:
    """What differs, in words, up to the first moment at which something does."""
    for moment, (one, other) in enumerate(zip(with_them, without, strict=True)):
        found = []
        for name, value in one.items():
            if value == other[name]:
                continue
            if isinstance(value, dict):
                for key in value.keys() | other[name].keys():
                    here, there = value.get(key), other[name].get(key)
                    if here != there:
                        found.append(f"{name}, {key}: {here} with short ways, and {there} without")
            else:
                found.append(f"{name}: {value} with short ways, and {other[name]} without")
        if found:
            return [f"at moment {moment}: {line}" for line in sorted(found)]
    return []
