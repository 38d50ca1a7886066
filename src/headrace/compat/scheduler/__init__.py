"""`distributed.scheduler`: the public Scheduler, and the names of `headrace.scheduler`.

Nothing below imports this package: what makes a scheduler gets the class from the facade `headrace`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.common.facade import names_before

if TYPE_CHECKING:
    from .public_scheduler import Scheduler as Scheduler
    from .scheduler_state import SchedulerState as SchedulerState
    from .scheduler_state import decide_worker as decide_worker

_NAMES = {
    "Scheduler": ".public_scheduler",
    "SchedulerState": ".scheduler_state",
    "decide_worker": ".scheduler_state",
    "logger": "headrace.scheduler.shell",
    **dict.fromkeys(
        (
            "ALL_TASK_STATES",
            "DEFAULT_DATA_SIZE",
            "DEFAULT_EXTENSIONS",
            "Msgs",
            "Recs",
            "RecsMsgs",
            "STIMULUS_ID_UNSET",
            "TaskStateState",
        ),
        ".constants",
    ),
}

__getattr__ = names_before(__name__, "headrace.scheduler", _NAMES)
