"""Constants of `distributed.scheduler`, read from the configuration when they are first asked for."""

from __future__ import annotations

from pkgutil import resolve_name
from typing import Any, Literal, TypeAlias

from headrace import config
from headrace.common.keys import Key
from headrace.scheduler.state.records.tasks import STATES

from .public_scheduler import Scheduler

TaskStateState: TypeAlias = Literal[
    "released", "waiting", "no-worker", "queued", "processing", "memory", "erred", "forgotten"
]
ALL_TASK_STATES: set[str] = set(STATES)
#: Recommendations: {key: state}; messages: {receiver: [message]}; and both, with those for workers last.
Recs: TypeAlias = dict[Key, str]
Msgs: TypeAlias = dict[str, list[Any]]
RecsMsgs: TypeAlias = tuple[Recs, Msgs, Msgs]
#: Assumed size, in bytes, of a result whose size is not known.
DEFAULT_DATA_SIZE = config.parse_bytes(config.get("distributed.scheduler.default-data-size", "1kiB"))
STIMULUS_ID_UNSET = "<stimulus_id unset>"
#: The extensions of every scheduler, by name; for `Scheduler(extensions=…)` with others beside them.
DEFAULT_EXTENSIONS: dict[str, Any] = {name: resolve_name(path) for name, path in Scheduler.extension_paths.items()}
