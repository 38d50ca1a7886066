"""The table of transitions: every legal pair of states and the function that moves a task between them.

A pair that is absent goes by way of `released` if both halves exist, and raises otherwise. `waiting → processing` means
"run it": where no worker has room or may run it, the task ends up queued or without worker instead.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from .engine import Recommendations
from .erring import erred_released, memory_erred, processing_erred, released_erred
from .forgetting import memory_forgotten, released_forgotten
from .releasing import memory_released, parked_released, processing_released, waiting_released
from .running import released_wanted, to_memory, to_processing

if TYPE_CHECKING:
    from headrace.scheduler.state.core import SchedulerCore
    from headrace.scheduler.state.records.tasks import TaskState

Transition = Callable[["SchedulerCore", "TaskState", Recommendations], None]

TABLE: dict[tuple[str, str], Transition] = {
    ("released", "waiting"): released_wanted,
    ("released", "memory"): to_memory,
    ("released", "erred"): released_erred,
    ("released", "forgotten"): released_forgotten,
    ("waiting", "processing"): to_processing,
    ("waiting", "memory"): to_memory,
    ("waiting", "released"): waiting_released,
    ("no-worker", "processing"): to_processing,
    ("no-worker", "memory"): to_memory,
    ("no-worker", "released"): parked_released,
    ("queued", "processing"): to_processing,
    ("queued", "memory"): to_memory,
    ("queued", "released"): parked_released,
    ("processing", "memory"): to_memory,
    ("processing", "erred"): processing_erred,
    ("processing", "released"): processing_released,
    ("memory", "released"): memory_released,
    ("memory", "forgotten"): memory_forgotten,
    ("memory", "erred"): memory_erred,
    ("erred", "released"): erred_released,
}
