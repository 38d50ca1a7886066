"""The table of transitions: every pair of states between which a task moves, and the function that moves it.

The table is total: a pair that is absent raises, with the task's story. A few moves are made by neighbours of these
functions for speed ("short ways"): their pairs stand here as well, `StateOptions.short_ways` switches them off, and the
simulation compares the records of runs with and without them. They are

- `completion.on_finished`: processing → memory, when the report is that of the assignment that holds,
- `graph_intake._start`: released → waiting, for the new tasks of a submission that need nothing,
- `interest.release_tasks`: memory → forgotten, for a result that nobody wants and that no other task is linked to,
- `placement.fill` and `fill_all`: queued → processing, on a worker that has just got room.

`waiting → processing` means "run it": where no worker has room or may run the task, it ends up queued or in no-worker
instead. A promise that is kept (`promises.keep`) is one of that row's outcomes.
"""

from __future__ import annotations

from .by_release import Row, by_release
from .erring import erred_released, memory_erred, processing_erred, released_erred
from .forgetting import memory_forgotten, released_forgotten, stay_forgotten
from .parking import to_no_worker, to_queued
from .releasing import memory_released, parked_released, processing_released, waiting_released
from .running import (
    parked_memory,
    processing_memory,
    released_memory,
    released_waiting,
    to_another_worker,
    to_processing,
    waiting_memory,
)

TABLE: dict[tuple[str, str], Row] = {
    ("released", "waiting"): released_waiting,
    ("released", "memory"): released_memory,
    ("released", "erred"): released_erred,
    ("released", "forgotten"): released_forgotten,
    ("waiting", "processing"): to_processing,
    ("waiting", "queued"): to_queued,
    ("waiting", "no-worker"): to_no_worker,
    ("waiting", "memory"): waiting_memory,
    ("waiting", "released"): waiting_released,
    # Something that the task waits for has erred, and so does the task.
    ("waiting", "erred"): by_release(waiting_released, released_erred),
    # The last client that wanted the waiting task has let go of it, or what it needs is lost for good.
    ("waiting", "forgotten"): by_release(waiting_released, released_forgotten),
    ("no-worker", "processing"): to_processing,
    ("no-worker", "queued"): to_queued,
    ("no-worker", "memory"): parked_memory,
    ("no-worker", "released"): parked_released,
    # It has waited too long for a worker, or the actor that it needs is lost.
    ("no-worker", "erred"): by_release(parked_released, released_erred),
    # The last client that wanted it has let go of it.
    ("no-worker", "forgotten"): by_release(parked_released, released_forgotten),
    ("queued", "processing"): to_processing,
    ("queued", "no-worker"): to_no_worker,
    ("queued", "memory"): parked_memory,
    ("queued", "released"): parked_released,
    # The actor that the task needs is lost.
    ("queued", "erred"): by_release(parked_released, released_erred),
    # The last client that wanted it has let go of it.
    ("queued", "forgotten"): by_release(parked_released, released_forgotten),
    ("processing", "processing"): to_another_worker,
    # The task failed and has retries left: it waits again, for its time if its retry policy sets one.
    ("processing", "waiting"): by_release(processing_released, released_waiting),
    ("processing", "memory"): processing_memory,
    ("processing", "released"): processing_released,
    ("processing", "erred"): processing_erred,
    # The last client that wanted the task has let go of it while a worker has it: the worker is told to drop it.
    ("processing", "forgotten"): by_release(processing_released, released_forgotten),
    ("memory", "released"): memory_released,
    ("memory", "erred"): memory_erred,
    ("memory", "forgotten"): memory_forgotten,
    ("erred", "released"): erred_released,
    # The task whose failure this one shares is tried again, and somebody wants this one.
    ("erred", "waiting"): by_release(erred_released, released_waiting),
    # A client has scattered data under the key of a task that erred.
    ("erred", "memory"): by_release(erred_released, released_memory),
    # The last client that wanted the erred task has let go of it.
    ("erred", "forgotten"): by_release(erred_released, released_forgotten),
    ("forgotten", "waiting"): stay_forgotten,
    ("forgotten", "processing"): stay_forgotten,
    ("forgotten", "released"): stay_forgotten,
    ("forgotten", "erred"): stay_forgotten,
}
