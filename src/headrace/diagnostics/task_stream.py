"""The stream of tasks: the scheduler's record of finished runs, and `get_task_stream`, which cuts out a part.

Nothing is recorded, and tasks cost nothing, until somebody asks for the first time. From then on a few numbers a task
are kept in a bounded buffer; dictionaries are made of them when they are read. Drawing is in `pages`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from time import time
from typing import TYPE_CHECKING, Any, NamedTuple

from headrace import config
from headrace.common.keys import Key, from_wire, key_group, key_prefix, to_wire
from headrace.config import parse_seconds
from headrace.exceptions import BadRequestError
from headrace.messages.worker import TaskFailed, TaskFinished

from .pages.task_colors import color_of_task
from .plugins.plugin_base import SchedulerPlugin

if TYPE_CHECKING:
    from headrace.client.client import Client
    from headrace.scheduler.state.records.tasks import TaskState
    from headrace.scheduler.state.records.workers import WorkerState

    from .pages.stream_drawings import Figure

__all__ = ["Run", "TaskStreamPlugin", "color_of_message", "get_task_stream", "message_of", "rectangles"]


class Run(NamedTuple):
    """One run of a task on a worker, as it is kept and travels.

    Attributes:
        key: the task's key, in its wire form.
        worker: the worker's address.
        thread: number of the thread in its process; 0 for the event loop.
        status: "OK" or "error".
        nbytes: size of the result in bytes.
        typename: name of its type.
        startstops: (action, start, stop) in seconds since the epoch by the worker's clock; the actions are "compute",
            "transfer" and "load" (from disk).
        metadata: metadata that the task or plugins of workers set.
        exception, traceback: texts, if it failed.
    """

    key: Key
    worker: str
    thread: int
    status: str
    nbytes: int
    typename: str
    startstops: Sequence[tuple[str, float, float]]
    metadata: Mapping[str, Any] | None = None
    exception: str = ""
    traceback: str = ""

    @property
    def stop(self) -> float:
        """The end of computing, in seconds since the epoch by the worker's clock."""
        return self.startstops[0][2] if self.startstops else 0.0


class TaskStreamPlugin(SchedulerPlugin):
    """Records finished runs of tasks, the latest `maxlen` of them.

    Args:
        scheduler: the scheduler of the tasks; the plugin does not add itself there.
        maxlen: number of runs that are kept; `distributed.scheduler.dashboard.tasks.task-stream-length` by default.

    Attributes:
        buffer: `Run`s, oldest first.
        index: number of runs that have been recorded ever; a later `collect(start_index=index)` continues from there.
    """

    name = "task-stream"
    #: has the scheduler call `record_run`, not `transition`
    records_runs = True

    def __init__(self, scheduler: object, maxlen: int | None = None) -> None:
        if maxlen is None:
            maxlen = int(config.get("distributed.scheduler.dashboard.tasks.task-stream-length", 100_000))
        self.scheduler = scheduler
        self.buffer: deque[Run] = deque(maxlen=maxlen)
        self.index = 0

    def record_run(self, task: TaskState, report: TaskFinished | TaskFailed, worker: WorkerState) -> None:
        """Record a run that has ended; the scheduler calls this for each, so it must be cheap.

        Args:
            task: the scheduler's record.
            report: the worker's message, of which nothing may be kept but numbers and short texts.
            worker: the scheduler's record of that worker.
        """
        if type(report) is TaskFinished:
            rare = task._rare
            run = Run(
                report.key,
                worker.address,
                report.thread,
                "OK",
                report.nbytes,
                report.type,
                (("compute", report.start, report.stop), *report.startstops),
                dict(rare.metadata) if rare is not None and rare.metadata else None,
            )
        else:
            run = Run(
                report.key,
                worker.address,
                report.thread,
                "error",
                0,
                "",
                (("compute", report.start, report.stop),),
                None,
                report.exception_text,  # type: ignore[union-attr]
                report.traceback_text,  # type: ignore[union-attr]
            )
        self.buffer.append(run)
        self.index += 1

    def transition(self, key: object, start: str, finish: str, *args: object, **kwargs: Any) -> None:
        """Record a task that comes from processing; the scheduler itself calls `record_run`, which costs less."""
        if start != "processing" or "startstops" not in kwargs:
            return
        times = [(str(each["action"]), each["start"], each["stop"]) for each in kwargs["startstops"]]
        self.buffer.append(
            Run(
                to_wire(key),
                kwargs.get("worker", ""),
                kwargs.get("thread", 0),
                kwargs.get("status", "OK"),
                kwargs.get("nbytes", 0),
                kwargs.get("typename", ""),
                times,
                dict(kwargs.get("metadata") or {}) or None,
                kwargs.get("exception_text", ""),
                kwargs.get("traceback_text", ""),
            )
        )
        self.index += 1

    def runs(
        self,
        start: float | str | None = None,
        stop: float | str | None = None,
        count: int | None = None,
        start_index: int | None = None,
    ) -> list[Run]:
        """Recorded runs, oldest first.

        Args:
            start, stop: only those that ended in this span: seconds since the epoch, or a text such as "5 minutes",
                that long before now.
            count: the latest so many of these.
            start_index: only those recorded after the record had this `index`.
        """
        size = len(self.buffer)
        first = 0 if start_index is None else max(0, size - max(0, self.index - start_index))
        found: Iterable[Run] = islice(self.buffer, first, size)
        begin, end = _moment(start), _moment(stop)
        if begin is not None:
            found = [run for run in found if run.stop >= begin]
        if end is not None:
            found = [run for run in found if run.stop <= end]
        found = list(found)
        return found if count is None else found[len(found) - min(count, len(found)) :]

    def collect(
        self,
        start: float | str | None = None,
        stop: float | str | None = None,
        count: int | None = None,
        start_index: int | None = None,
    ) -> list[dict[str, Any]]:
        """Recorded runs as dictionaries (`message_of`), oldest first; for the arguments see `runs`."""
        return list(map(message_of, self.runs(start, stop, count, start_index)))

    def rectangles(
        self, istart: int, istop: int | None = None, workers: dict[str, int] | None = None, start_boundary: float = 0
    ) -> dict[str, list[Any]]:
        """Columns for a drawing (`rectangles`) of the runs that were recorded from number `istart` to `istop`."""
        offset = self.index - len(self.buffer)
        last = len(self.buffer) if istop is None else max(0, istop - offset)
        found = islice(self.buffer, max(0, istart - offset), last)
        return rectangles(list(map(message_of, found)), workers, start_boundary)


def _moment(value: float | str | None) -> float | None:
    """Seconds since the epoch; a text is a time before now."""
    if not isinstance(value, str):
        return value
    try:
        return time() - parse_seconds(value)
    except ValueError as error:
        raise BadRequestError(
            f"a moment must be seconds since the epoch, or a text such as '5 minutes' for so long ago, not {value!r}"
        ) from error


def message_of(run: Run) -> dict[str, Any]:
    """A run as users get it: key, worker, thread, status, nbytes, typename, metadata, startstops and, if it failed,
    exception_text and traceback_text."""
    found: dict[str, Any] = {
        "key": from_wire(run.key),
        "worker": run.worker,
        "thread": run.thread,
        "status": run.status,
        "nbytes": run.nbytes,
        "typename": run.typename,
        "metadata": dict(run.metadata or {}),
        "startstops": tuple(
            {"action": action, "start": start, "stop": stop}
            for action, start, stop in sorted(run.startstops, key=lambda each: each[1])
        ),
    }
    if run.status != "OK":
        found |= {"exception_text": run.exception, "traceback_text": run.traceback}
    return found


def color_of_message(msg: Mapping[str, Any]) -> str:
    """The color of a run: black if it failed, else that of its key's prefix."""
    return color_of_task(_name_of(msg["key"])) if msg["status"] == "OK" else "black"


def _name_of(key: object) -> str:
    return key_prefix(key_group(to_wire(key)))


#: Color, and opacity, of actions for a task beside computing it.
_ACTIONS = {"transfer": ("red", 0.4), "load": ("orange", 0.4), "disk-read": ("orange", 0.4), "deserialize": ("gray", 1)}


def rectangles(
    msgs: Iterable[Mapping[str, Any]], workers: dict[str, int] | None = None, start_boundary: float = 0
) -> dict[str, list[Any]]:
    """Columns for a drawing: a rectangle for each action of each run.

    Args:
        msgs: as `TaskStreamPlugin.collect` gives them.
        workers: row by "address-thread"; new ones are added.
        start_boundary: leave out actions that ended before, in seconds since the epoch.

    Returns:
        Lists of one length: start (milliseconds since the epoch; the middle), duration (milliseconds), duration_text,
        key, name, color, alpha, worker, worker_thread and y (the row).
    """
    rows = {} if workers is None else workers
    names = ("start", "duration", "duration_text", "key", "name", "color", "alpha", "worker", "worker_thread", "y")
    columns: dict[str, list[Any]] = {name: [] for name in names}
    for message in msgs:
        line = f"{message['worker']}-{message['thread']}"
        row = rows.setdefault(line, len(rows))
        name = _name_of(message["key"])
        for each in message["startstops"]:
            if each["stop"] < start_boundary:
                continue
            action, milliseconds = each["action"], 1000 * (each["stop"] - each["start"])
            color, alpha = _ACTIONS.get(action, (color_of_message(message), 1))
            values = (
                500 * (each["start"] + each["stop"]),
                milliseconds,
                f"{milliseconds:.2f} ms" if milliseconds < 1000 else f"{milliseconds / 1000:.2f} s",
                str(message["key"]),
                name if action == "compute" else f"{action}-{name}",
                color,
                alpha,
                message["worker"],
                line,
                row,
            )
            for column, value in zip(names, values, strict=True):
                columns[column].append(value)
    return columns


class get_task_stream:
    """Collects the tasks that end within its context (`with` or `async with`).

    Args:
        client: a client of the scheduler; the current one by default.
        plot: make a `figure` as well; with "save", write it to a file.
        filename: name of that file, a page of HTML that needs nothing else.

    Attributes:
        data: the runs, each a dictionary (see `TaskStreamPlugin.collect`), once the context has ended.
        figure: shows itself in a notebook, and can be saved; None without `plot`.

    Examples:
        >>> with get_task_stream(plot="save", filename="stream.html") as stream:  # doctest: +SKIP
        ...     x.compute()
        >>> stream.data  # doctest: +SKIP
    """

    def __init__(
        self, client: Client | None = None, plot: bool | str = False, filename: str = "task-stream.html"
    ) -> None:
        from headrace.client import default_client

        self.data: list[dict[str, Any]] = []
        self.figure: Figure | None = None
        self.client = client or default_client()
        self._plot = plot
        self._filename = filename
        self._start_index = 0

    def __enter__(self) -> get_task_stream:
        return self.client.sync(self.__aenter__, asynchronous=False)  # type: ignore[no-any-return]

    def __exit__(self, *error: object) -> None:
        self.client.sync(self.__aexit__, *error, asynchronous=False)

    async def __aenter__(self) -> get_task_stream:
        self._start_index = await self.client._call("task_stream_index")
        return self

    async def __aexit__(self, *_: object) -> None:
        found = await self.client._task_stream(
            {"start_index": self._start_index}, self._plot, self._filename, with_figure=True
        )
        messages, self.figure = found
        self.data.extend(messages)
