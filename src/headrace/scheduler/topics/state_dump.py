"""The whole state of the cluster as plain data, for people and their tools; slow, and for finding bugs only."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Collection
from functools import partial
from typing import Any

from headrace.cluster_dump import path_of, write_state
from headrace.common.keys import from_wire
from headrace.common.plain import attributes, plain
from headrace.rpc.server import Operation
from headrace.scheduler.shell import Shell
from headrace.scheduler.state.checks.story import transitions
from headrace.scheduler.topics.cluster_requests import ClusterRequests
from headrace.scheduler.topics.event_requests import EventRequests

TASK = (
    "key", "state", "priority", "nbytes", "type", "run_id", "retries", "suspicious", "actor", "annotations", "metadata",
    "dependencies", "dependents", "waiting_on", "waiters", "who_wants", "who_has", "processing_on",
    "worker_restrictions", "host_restrictions", "resource_restrictions", "loose_restrictions",
    "exception_text", "traceback_text", "exception_blame", "erred_on", "group_key", "group", "prefix",
)  # fmt: skip
GROUP = (
    "name", "states", "dependencies", "nbytes_total", "duration", "all_durations", "types", "start", "stop", "done",
    "last_worker", "last_worker_tasks_left", "prefix", "span_id",
)  # fmt: skip
WORKER = (
    "address", "name", "host", "nthreads", "status", "nanny", "pid", "server_id", "memory_limit", "local_directory",
    "services", "resources", "used_resources", "occupancy", "nbytes", "bandwidth", "last_seen", "time_delay",
    "metrics", "memory", "processing", "executing", "long_running", "has_what", "actors", "versions", "extra",
)  # fmt: skip
CLIENT = ("client_key", "last_seen", "versions", "wants_what")


class StateDump:
    """Dumps.

    Args:
        cluster: asks the workers.
    """

    def __init__(self, shell: Shell, cluster: ClusterRequests, events: EventRequests) -> None:
        self.shell = shell
        self.core = shell.core
        self.cluster = cluster
        self.events = events

    def operations(self) -> dict[str, Operation]:
        """The requests that this topic answers."""
        return {
            "dump_state": Operation(self.dump_state),
            "get_cluster_state": Operation(self.get_cluster_state, repeatable=True),
            "dump_cluster_state_to_url": Operation(self.dump_cluster_state_to_url),
        }

    def dump_state(self, exclude: Collection[str] = ()) -> dict[str, Any]:
        """The scheduler's knowledge, as plain data.

        Args:
            exclude: names that are left out, of parts or of the records' attributes.
        """
        events = self.events.get_events()
        parts: dict[str, Callable[[], Any]] = {
            "status": lambda: self.shell.status.name,
            "thread_id": threading.get_ident,
            "transition_log": lambda: plain(transitions(self.core.transition_log)),
            "transition_counter": lambda: self.core.transition_counter,
            "tasks": lambda: {
                str(from_wire(task.key)): attributes(task, TASK, exclude) for task in self.core.tasks.values()
            },
            "task_groups": lambda: {
                name: attributes(group, GROUP, exclude) for name, group in self.core.tasks.groups.items()
            },
            "workers": lambda: {
                address: attributes(worker, WORKER, exclude) for address, worker in self.core.workers.items()
            },
            "clients": lambda: {
                name: attributes(client, CLIENT, exclude) for name, client in self.core.clients.items()
            },
            "memory": lambda: plain(self.shell.memory),
            "events": lambda: plain(events),
            "extensions": lambda: plain(self.shell.extensions),
        }
        found = {name: value for name, value in plain(self.cluster.identity()).items() if name not in exclude}
        return {**found, **{name: make() for name, make in parts.items() if name not in exclude}}

    async def get_cluster_state(self, exclude: Collection[str] = ()) -> dict[str, Any]:
        """The knowledge of the scheduler and all workers: `{"scheduler": …, "workers": {address: …}, "versions": …}`.

        Workers that cannot be asked are there with the error in place of their state.

        Args:
            exclude: names that are left out, of parts or of the records' attributes.
        """
        exclude = list(exclude)
        workers, versions = await asyncio.gather(
            self.cluster.broadcast({"op": "dump_state", "exclude": exclude}, on_error="return"),
            self.cluster.broadcast({"op": "versions"}, on_error="return"),
        )
        return {
            "scheduler": self.dump_state(exclude),
            "workers": {address: plain(state) for address, state in workers.items()},
            "versions": {"scheduler": plain(self.shell.facade.versions()), "workers": plain(versions)},
        }

    async def dump_cluster_state_to_url(
        self,
        /,
        url: str | os.PathLike[str],
        exclude: Collection[str] = (),
        format: str = "msgpack",
        **storage_options: Any,
    ) -> None:
        """Write `get_cluster_state` to a path or URL from here.

        Args:
            format: "msgpack" or "yaml".
            storage_options: for `fsspec.open`.

        Raises:
            ValueError: there is no such format.
            OSError: it cannot be written.
        """
        path_of(url, format)  # refuses before the work is done
        state = await self.get_cluster_state(exclude)
        write = partial(write_state, state, url, format, **storage_options)
        await asyncio.get_running_loop().run_in_executor(None, write)
