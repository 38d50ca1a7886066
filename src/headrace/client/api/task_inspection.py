"""Looking at work from outside: the task stream, logs of tasks, running a task again here, an executor, hardware."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headrace.common.keys import to_wire

from .client_base import ClientBase

if TYPE_CHECKING:
    from ..future import Future


class LookMethods(ClientBase):
    """Questions about work, and other ways to do it."""

    def get_task_stream(
        self,
        start: float | str | None = None,
        stop: float | str | None = None,
        count: int | None = None,
        plot: bool | str = False,
        filename: str = "task-stream.html",
        bokeh_resources: object = None,
    ) -> Any:
        """The tasks that have ended, since somebody asked for the first time: see also `get_task_stream` as a context.

        Args:
            start, stop: only tasks that ended in this span: seconds since the epoch, or a text such as "5 minutes",
                that long before now.
            count: the latest so many of these.
            plot: return a figure as well, which shows itself in a notebook; with "save", write it to a file.
            filename: which file: a page of HTML that needs nothing else.
            bokeh_resources: accepted for compatibility.

        Returns:
            Dictionaries, oldest first: key, worker, thread, status ("OK" or "error"), nbytes, typename, metadata and
            startstops, of which each is `{"action": "compute" | "transfer" | "load", "start", "stop"}` in seconds since
            the epoch. With `plot`, `(dictionaries, figure)`.
        """
        question = {"start": start, "stop": stop, "count": count}
        return self.sync(self._task_stream, question, plot, filename)

    async def _task_stream(
        self, question: dict[str, Any], plot: bool | str, filename: str, with_figure: bool = False
    ) -> Any:
        from headrace.diagnostics.task_stream import Run, message_of

        reply = await self._call("task_stream", **question)
        runs = [Run(*run) for run in reply["runs"]]
        messages = tuple(map(message_of, runs))
        figure = None
        if plot:
            from headrace.diagnostics.pages.stream_drawings import stream_figure

            figure = stream_figure(runs, reply["names"])
            if plot == "save":
                figure.save(filename)
        return (messages, figure) if plot or with_figure else messages

    def get_task_logs(self, futures_or_keys: object) -> Any:
        """Lines that tasks printed and logged while they ran, as far as their workers still have them.

        Workers keep the latest lines, within bounds (`distributed.worker.task-logs`), and lose them when they go.

        Args:
            futures_or_keys: one or several.

        Returns:
            `{key: [LogLine, …]}`, oldest first; see `Future.logs`.
        """
        return self.sync(self._get_task_logs, _keys_of(futures_or_keys))

    async def _get_task_logs(self, keys: list[Any]) -> dict[Any, list[Any]]:
        from headrace.client.presentation.answer_tables import LogLine

        found = await self._call("get_task_logs", keys=[to_wire(key) for key in keys])
        return {key: [LogLine(*line) for line in lines] for key, lines in found.items()}

    async def _logs_of(self, key: object) -> list[Any]:
        return (await self._get_task_logs([key]))[key]

    def benchmark_hardware(self) -> Any:
        """Measure disks, memory and network of the workers; takes some seconds a worker.

        Returns:
            `{"disk", "memory", "network": {size of a block: bytes a second}}`, means over the workers; "network" is
            empty with one worker.
        """
        return self._ask("benchmark_hardware")

    def get_executor(self, **kwargs: object) -> Any:
        """A `concurrent.futures.Executor` whose calls run on this cluster.

        Args:
            kwargs: for each call: `pure` (say False for functions that do not always return the same), `workers`,
                `resources`, `allow_other_workers`, `retries`, as in `submit`.

        Raises:
            TypeError: another keyword.
        """
        from ..cluster_executor import ClientExecutor

        return ClientExecutor(self._whole_client, **kwargs)

    def recreate_error_locally(self, future: Future[Any]) -> Any:
        """Run the task that made a future fail here, in this process, to look at the failure with a debugger.

        Args:
            future: of the task that failed, or of one that depends on it.

        Raises:
            BaseException: what the task raises.
            ValueError: it has not failed.
        """
        from headrace.extensions.replay import ReplayTaskClient

        return ReplayTaskClient(self).recreate_error_locally(future)

    def recreate_task_locally(self, future: Future[Any]) -> Any:
        """Run a task here, in this process, on the inputs that it had, and return its result.

        Args:
            future: of the task, or its key.
        """
        from headrace.extensions.replay import ReplayTaskClient

        return ReplayTaskClient(self).recreate_task_locally(future)


def _keys_of(value: object) -> list[Any]:
    """The keys of one or several futures or keys; a tuple is a key."""
    if hasattr(value, "key"):
        return [value.key]
    if isinstance(value, (list, set, frozenset)):
        return [key for each in value for key in _keys_of(each)]
    return [value]
