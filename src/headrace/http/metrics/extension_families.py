"""What a scheduler's semaphores and work stealing tell."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from headrace.scheduler.shell import Shell
from headrace.scheduler.state.balance.stealing import EVEN_LEVEL, LAST_LEVEL

from .families import Catalogue, Described, Family

_NAME = ("name",)
_COST = ("cost_multiplier",)

#: What the levels of stealing are called: the time to move a task and to run it, for one second of running.
COST_MULTIPLIERS = ("1.0", *(str(1 + 2 ** (level - EVEN_LEVEL)) for level in range(1, LAST_LEVEL + 1)))

EXTENSION_TABLE = (
    Described("semaphore_max_leases", "gauge", "Leases of a semaphore that may be held at a time", _NAME),
    Described("semaphore_active_leases", "gauge", "Leases of a semaphore that are held now", _NAME),
    Described("semaphore_pending_leases", "gauge", "Requests that wait for a lease of a semaphore", _NAME),
    Described("semaphore_acquire_total", "counter", "Leases of a semaphore that have been granted", _NAME),
    Described(
        "semaphore_release_total", "counter", "Leases of a semaphore that have been given up, or have ended", _NAME
    ),
    Described(
        "semaphore_average_pending_lease_time_s",
        "gauge",
        "Time that requests waited for a lease of a semaphore, on average, with more weight on recent ones",
        _NAME,
    ),
    Described(
        "stealing_request_count_total",
        "counter",
        "Tasks that were asked back from busy workers for idle ones, by what it costs to move them",
        _COST,
    ),
    Described(
        "stealing_request_cost_total",
        "counter",
        "Expected time of the tasks that were asked back from busy workers, by what it costs to move them",
        _COST,
    ),
    Described("stealing_outcomes_total", "counter", "Tasks that went to the idle worker, or had begun", ("outcome",)),
)


def extension_families(catalogue: Catalogue, shell: Shell) -> Iterator[Family]:
    """The values of now."""
    family = catalogue.family
    kept = _semaphores(shell)

    def rows(value: Any) -> list[tuple[tuple[str], float]]:
        return [((name,), value(semaphore)) for name, semaphore in kept]

    yield family("semaphore_max_leases", rows(lambda semaphore: semaphore.max_leases))
    yield family("semaphore_active_leases", rows(lambda semaphore: len(semaphore.leases)))
    yield family("semaphore_pending_leases", rows(lambda semaphore: len(semaphore.line)))
    yield family("semaphore_acquire_total", rows(lambda semaphore: semaphore.acquired))
    yield family("semaphore_release_total", rows(lambda semaphore: semaphore.released))
    yield family("semaphore_average_pending_lease_time_s", rows(lambda semaphore: semaphore.usual_wait))
    steals = shell.core.steals
    levels = list(enumerate(COST_MULTIPLIERS))
    yield family("stealing_request_count_total", [((cost,), steals.asked.get(level, 0)) for level, cost in levels])
    yield family(
        "stealing_request_cost_total", [((cost,), steals.asked_seconds.get(level, 0.0)) for level, cost in levels]
    )
    yield family("stealing_outcomes_total", [(("moved",), steals.moved), (("refused",), steals.refused)])


def _semaphores(shell: Shell) -> list[tuple[str, Any]]:
    """The records of semaphores that stay, by name; locks come and go with their holders, and would leave many series.

    They are those of `headrace.extensions.semaphores`, which stands beside this package.
    """
    extension = shell.extensions.get("semaphores")
    known = getattr(getattr(extension, "core", None), "by_name", {})  # another extension may have taken the name
    return [(str(name), kept) for name, kept in known.items() if not kept.fleeting]
