"""The scheduler's half of performance reports: the scheduler samples its loop and the memory while one is made.

Nothing is sampled while no report is under way. A report whose client has gone ends by itself.
"""

from __future__ import annotations

import asyncio
import threading
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

from headrace import config
from headrace.profile import Watcher, create, get_profile
from headrace.scheduler.shell import Shell
from headrace.scheduler.state.records.workers import WorkerState

from .pages.performance_page import report_page
from .pages.report_content import ReportContent, WorkerLine
from .task_stream import TaskStreamPlugin

#: Seconds between two readings of memory at first; of a long report every other is dropped, again and again.
READING = 0.25
#: Readings that are kept at most.
READINGS = 480
#: Seconds between two samples of the scheduler's loop, and between two entries of their record.
LOOK, CYCLE = 0.01, 0.5


class Readings:
    """Memory of the cluster over time, at most `READINGS` of it, evenly spaced.

    Attributes:
        points: (seconds since the epoch, bytes of all workers' processes, bytes spilled).
    """

    def __init__(self) -> None:
        self.points: list[tuple[float, int, int]] = []
        self._every = 1
        self._skipped = 0

    def add(self, now: float, process: int, spilled: int) -> None:
        """Take a reading, if it is time for one."""
        self._skipped += 1
        if self._skipped < self._every:
            return
        self._skipped = 0
        self.points.append((now, process, spilled))
        if len(self.points) > READINGS:
            self.points = self.points[::2]
            self._every *= 2


class _Report:
    """A report that is under way."""

    def __init__(self, client: str, start: float, index: int) -> None:
        self.client = client
        self.start = start
        self.index = index
        self.readings = Readings()


class Reports:
    """The reports that are being made of one scheduler.

    Args:
        shell: the scheduler's.
        task_stream: gives the plugin that records finished tasks.
        get_profile: gives the profile of the workers' tasks from `start` on (seconds since the epoch).
        versions: tells the versions of packages at the scheduler.
    """

    def __init__(
        self,
        shell: Shell,
        task_stream: Callable[[], TaskStreamPlugin],
        get_profile: Callable[..., Awaitable[dict[str, Any]]],
        versions: Callable[[], dict[str, Any]],
    ) -> None:
        self._shell = shell
        self._task_stream = task_stream
        self._get_profile = get_profile
        self._versions = versions
        self._open: dict[str, _Report] = {}
        self._watcher: Watcher | None = None
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, client: str) -> dict[str, Any]:
        """Begin a report; returns its name, its start by this clock, and the task stream's index of that moment."""
        report = _Report(client, time.time(), self._task_stream().index)
        name = f"report-{uuid.uuid4().hex}"
        self._open[name] = report
        if self._watcher is None:
            self._watcher = Watcher(threading.get_ident(), LOOK, CYCLE, 3600, stop=self._nobody)
        if self._timer is None:
            self._read()
        return {"report": name, "start": report.start, "index": report.index}

    async def finish(self, name: str, code: str, asked_by: dict[str, Any]) -> str:
        """End an observation, and return the page about it.

        Raises:
            ValueError: there is none of that name.
        """
        report = self._open.get(name)
        if report is None:
            raise ValueError(f"no performance report {name!r} is under way (any more)")
        self._note(report)
        if len(self._open) == 1:  # the watcher's end brings the samples since its last entry
            watcher, self._watcher = self._watcher, None
            if watcher is not None:
                await asyncio.to_thread(watcher.close)
                loop_log = list(watcher.log)
        else:
            loop_log = list(self._watcher.log) if self._watcher is not None else []
        self._open.pop(name, None)
        self._stop_if_idle()
        loop_profile = get_profile(loop_log, None, report.start)
        return await self.page(report.start, report.index, code, asked_by, report.readings.points, loop_profile)

    async def page(
        self,
        start: float,
        index: int,
        code: str,
        asked_by: dict[str, Any] | None = None,
        readings: list[tuple[float, int, int]] | None = None,
        loop_profile: dict[str, Any] | None = None,
    ) -> str:
        """Make a page about the work since `start` (seconds since the epoch), and since the task stream's `index`."""
        shell = self._shell
        stop = time.time()
        runs = self._task_stream().runs(start_index=index)
        profile = await self._get_profile(start=start)
        content = ReportContent(
            start=start,
            stop=stop,
            runs=runs,
            workers=[worker_line(worker) for worker in shell.core.workers.values()],
            profile=profile,
            profile_interval=config.parse_seconds(config.get("distributed.worker.profile.interval")),
            loop_profile=loop_profile or create(),
            loop_interval=LOOK,
            memory=readings or [],
            code=code,
            asked_by=asked_by or {},
            scheduler={"address": shell.address, "id": shell.id, "versions": self._versions()},
        )
        return await asyncio.to_thread(report_page, content)

    def close(self) -> None:
        """End all observation; the scheduler closes."""
        self._open.clear()
        self._stop_if_idle()

    def _nobody(self) -> bool:
        """True once nobody waits for a report any more; called in the watcher's thread."""
        if not self._shell.is_running:
            return True
        connected = self._shell.core.clients
        return not any(report.client in connected for report in list(self._open.values()))

    def _stop_if_idle(self) -> None:
        if self._open:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._watcher = None  # its thread sees that nobody is left

    def _read(self) -> None:
        """Note the memory for all reports, now and again until none is left."""
        self._timer = None
        connected = self._shell.core.clients
        for name, report in list(self._open.items()):
            if report.client not in connected:
                del self._open[name]
            else:
                self._note(report)
        if self._open and self._shell.is_running:
            self._timer = asyncio.get_running_loop().call_later(READING, self._read)
        else:
            self._stop_if_idle()

    def _note(self, report: _Report) -> None:
        memory = self._shell.memory
        report.readings.add(time.time(), memory.process, memory.spilled)


def worker_line(worker: WorkerState) -> WorkerLine:
    """The line of a report about a worker."""
    memory = worker.memory
    return WorkerLine(
        worker.address, worker.name, worker.nthreads, memory.process, memory.spilled, worker.memory_limit or 0,
        worker.versions or {},
    )  # fmt: skip
