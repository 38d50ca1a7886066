"""The content of a performance report, and the figures in it. Pure: values in, values out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from .stream_drawings import name_of, span_of

if TYPE_CHECKING:
    from headrace.diagnostics.task_stream import Run


class WorkerLine(NamedTuple):
    """A worker at the end of a report; memory in bytes (0 for no limit)."""

    address: str
    name: object
    nthreads: int
    process: int
    spilled: int
    memory_limit: int
    versions: dict[str, Any]


@dataclass
class ReportContent:
    """The observations that a report shows.

    Attributes:
        start, stop: the time that the report covers, in seconds since the epoch by the scheduler's clock.
        runs: runs of tasks that ended in that time.
        workers: workers that are there at the end.
        profile: of the workers' tasks, with a sample every `profile_interval` seconds.
        loop_profile: of the scheduler's event loop, likewise.
        memory: (seconds since the epoch, bytes of all workers' processes, bytes spilled).
        code: source text of the user's block.
        asked_by: the client's report on itself and on the code: "versions", "filename", "first_line", "line".
        scheduler: "address", "id", "versions".
    """

    start: float
    stop: float
    runs: Sequence[Run]
    workers: list[WorkerLine]
    profile: dict[str, Any]
    profile_interval: float
    loop_profile: dict[str, Any]
    loop_interval: float
    memory: list[tuple[float, int, int]]
    code: str = ""
    asked_by: dict[str, Any] = field(default_factory=dict)
    scheduler: dict[str, Any] = field(default_factory=dict)

    @property
    def duration(self) -> float:
        """Seconds that the report covers."""
        return max(1e-9, self.stop - self.start)

    @property
    def nthreads(self) -> int:
        """Threads of all workers."""
        return sum(worker.nthreads for worker in self.workers)

    @property
    def names(self) -> dict[str, object]:
        """Workers' names by address."""
        return {worker.address: worker.name for worker in self.workers}

    def axis(self) -> tuple[float, float]:
        """Start and end of drawings: workers' clocks may differ from the scheduler's."""
        first, last = span_of(self.runs)
        if not last:
            return self.start, self.stop
        return min(self.start, first), max(last, min(self.stop, last + self.duration))


@dataclass
class Total:
    """Sums over runs; times in seconds."""

    tasks: int = 0
    failed: int = 0
    compute: float = 0.0
    longest: float = 0.0
    transfer: float = 0.0
    load: float = 0.0
    nbytes: int = 0

    def add(self, run: Run) -> None:
        """Count one more run."""
        self.tasks += 1
        self.failed += run.status != "OK"
        self.nbytes += run.nbytes
        for action, begin, end in run.startstops:
            spent = max(0.0, end - begin)
            if action == "compute":
                self.compute += spent
                self.longest = max(self.longest, spent)
            elif action == "transfer":
                self.transfer += spent
            else:
                self.load += spent

    @property
    def mean(self) -> float:
        """Seconds of computing a task."""
        return self.compute / self.tasks if self.tasks else 0.0


def totals(runs: Sequence[Run]) -> tuple[Total, dict[str, Total], dict[str, Total]]:
    """Sums over all runs, by prefix and by worker's address."""
    whole = Total()
    by_prefix: dict[str, Total] = {}
    by_worker: dict[str, Total] = {}
    for run in runs:
        for total in (
            whole,
            by_prefix.setdefault(name_of(run), Total()),
            by_worker.setdefault(run.worker, Total()),
        ):
            total.add(run)
    return whole, by_prefix, by_worker


#: Ends of the names of files whose functions only run the event loop.
_LOOP_FILES = (
    "asyncio/runners.py", "asyncio/base_events.py", "asyncio/events.py", "asyncio/unix_events.py", "selectors.py",
    "threading.py", "uvloop/__init__.py", "headrace/rpc/loops/loop.py", "runpy.py",
)  # fmt: skip


def busy_part(state: dict[str, Any]) -> dict[str, Any]:
    """The profile of an event loop's thread without the frames that run the loop, and samples in which it waited."""
    children: dict[str, dict[str, Any]] = {}
    stack = [state]
    while stack:
        node = stack.pop()
        for name, child in node["children"].items():
            if child["description"]["filename"].endswith(_LOOP_FILES):
                stack.append(child)
            elif name in children:
                from headrace.profile import merge

                children[name] = merge(children[name], child)
            else:
                children[name] = child
    return {**state, "children": children, "count": sum(child["count"] for child in children.values())}
