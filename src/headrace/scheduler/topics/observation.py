"""Looking at work from outside: the stream of finished tasks, what one submission left behind, reports, logs of tasks.

Nothing here costs a task anything until somebody asks. What records and draws is in `headrace.diagnostics`, which
stands above this layer: it is loaded by name, when it is needed first.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from itertools import pairwise
from typing import Any

from headrace.common.keys import from_wire, to_wire
from headrace.exceptions import BadRequestError
from headrace.rpc.server import Operation
from headrace.scheduler.shell import Shell, logger
from headrace.scheduler.topics.cluster_requests import ClusterRequests
from headrace.scheduler.topics.profiles import Profiles


def _diagnostics(module: str) -> Any:
    return import_module(f"headrace.diagnostics.{module}")


class Observation:
    """Requests about what has been done.

    Args:
        cluster: asks the workers.
        profiles: gives reports their profiles.
    """

    def __init__(self, shell: Shell, cluster: ClusterRequests, profiles: Profiles) -> None:
        self.shell = shell
        self.core = shell.core
        self.cluster = cluster
        self.profiles = profiles

    def operations(self) -> dict[str, Operation]:
        """The requests that this topic answers."""
        return {
            "get_task_stream": Operation(self.get_task_stream),
            "task_stream": Operation(self.task_stream_runs),
            "task_stream_index": Operation(self.get_task_stream_index),
            "start_task_metadata": Operation(self.start_task_metadata),
            "stop_task_metadata": Operation(self.stop_task_metadata),
            "performance_report_start": Operation(self.performance_report_start),
            "performance_report_stop": Operation(self.performance_report_stop),
            "performance_report": Operation(self.performance_report),
            "benchmark_hardware": Operation(self.benchmark_hardware),
            "get_task_logs": Operation(self.get_task_logs),
        }

    # The stream of tasks

    def _task_stream(self) -> Any:
        """The plugin that records finished tasks; it begins now if it was not there."""
        module = _diagnostics("task_stream")
        name = module.TaskStreamPlugin.name
        if name not in self.shell.plugins:
            self.shell.plugin_registry.add(module.TaskStreamPlugin(self.shell.facade), name=name)
        return self.shell.plugins[name]

    def get_task_stream(
        self,
        start: float | str | None = None,
        stop: float | str | None = None,
        count: int | None = None,
        start_index: int | None = None,
    ) -> list[dict[str, Any]]:
        """Tasks that have ended since somebody asked for the first time; see `TaskStreamPlugin.collect`."""
        return list(self._task_stream().collect(start, stop, count, start_index))

    def get_task_stream_index(self) -> int:
        """The number of tasks that the stream has seen, for `start_index` of a later question."""
        return int(self._task_stream().index)

    async def task_stream_runs(self, **question: Any) -> dict[str, Any]:
        """The same as `get_task_stream`, as compact tuples, and the workers' names by address."""
        runs = self._task_stream().runs(**question)
        names = {address: worker.name for address, worker in self.core.workers.items()}
        return {"runs": [tuple(run) for run in runs], "names": names}

    # What one submission leaves behind

    def start_task_metadata(self, name: str) -> None:
        """Begin to collect metadata and states of the tasks that are submitted from now on.

        Raises:
            ValueError: a plugin of that name is there already.
        """
        self.shell.plugin_registry.add(
            _diagnostics("plugins.task_metadata").CollectTaskMetaDataPlugin(self.shell.facade, name), name=name
        )

    def stop_task_metadata(self, name: str | None = None) -> dict[str, dict[Any, Any]]:
        """Metadata and states that were collected under a name: {"metadata": {key: metadata}, "state": {key: state}}.

        Raises:
            ValueError: nothing is collected under it.
        """
        plugin = self.shell.plugins.get(name or "")
        if plugin is None:
            raise BadRequestError(f"no metadata of tasks is collected under the name {name!r}")
        self.shell.plugin_registry.remove(name)
        return {"metadata": dict(plugin.metadata), "state": dict(plugin.state)}

    # Reports

    def _reports(self) -> Any:
        reports = self.shell.extensions.get("reports")
        if reports is None:
            reports = _diagnostics("report_collection").Reports(
                self.shell, self._task_stream, self.profiles.get_profile, self.shell.facade.versions
            )
            self.shell.extensions["reports"] = reports
        return reports

    def performance_report_start(self, client: str) -> dict[str, Any]:
        """Begin to observe for a report; the answer names it."""
        self.get_task_stream_index()
        return dict(self._reports().begin(client))

    async def performance_report_stop(self, report: str, code: str = "", asked_by: dict[str, Any] | None = None) -> str:
        """The page about what happened since `performance_report_start`."""
        return str(await self._reports().finish(report, code, asked_by or {}))

    async def performance_report(self, start: float, last_count: int, code: str = "", mode: str | None = None) -> str:
        """A page of HTML about the work since a moment.

        Args:
            start: seconds since the epoch.
            last_count: `get_task_stream_index` of that moment.
            code: the source text that did the work.
            mode: accepted for compatibility: the page needs nothing from elsewhere.
        """
        return str(await self._reports().page(start, last_count, code))

    # Hardware and logs

    async def benchmark_hardware(self) -> dict[str, dict[str, float]]:
        """Speeds of the workers' disks, memories and network, measured one worker after the other.

        Returns:
            {"disk", "memory", "network": {size of a block: bytes a second}}; means over the workers.
        """
        addresses = list(self.core.workers)
        found: dict[str, dict[str, list[float]]] = {"disk": {}, "memory": {}, "network": {}}
        questions: list[tuple[str, str, dict[str, str]]] = [
            (kind, address, {}) for address in addresses for kind in ("disk", "memory")
        ]
        questions += [("network", one, {"address": other}) for one, other in pairwise(addresses)]
        for kind, address, arguments in questions:
            try:
                measured = await self.shell.worker_rpc(address).call(f"benchmark_{kind}", **arguments)
            except OSError as error:
                logger.info("Could not measure the %s of %s: %s", kind, address, error)
                continue
            for size, speed in measured.items():
                found[kind].setdefault(size, []).append(speed)
        return {
            kind: {size: sum(speeds) / len(speeds) for size, speeds in sizes.items()} for kind, sizes in found.items()
        }

    async def get_task_logs(self, keys: Iterable[Any]) -> dict[Any, list[tuple[Any, ...]]]:
        """Lines that tasks printed and logged: {key: [(time, worker, source, level, text), …]}, oldest first."""
        wanted = [to_wire(key) for key in keys]
        found = await self.cluster.broadcast({"op": "get_task_logs", "keys": wanted}, on_error="ignore")
        logs: dict[Any, list[tuple[Any, ...]]] = {from_wire(key): [] for key in wanted}
        for address, by_key in found.items():
            for key, lines in by_key.items():
                logs[from_wire(key)] += [(line[0], address, *line[1:]) for line in lines]
        for lines in logs.values():
            lines.sort(key=lambda line: line[0])
        return logs
