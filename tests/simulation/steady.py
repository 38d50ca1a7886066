"""The same order in every run: sets of records go by address in memory, unless their hashes are made from names."""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Callable, Iterator
from typing import Any

from headrace.scheduler.state.records import clients, tasks, workers
from headrace.worker.state import tasks as worker_tasks

NAMES: dict[type, Callable[[Any], str]] = {
    tasks.TaskState: lambda task: task.key,
    workers.WorkerState: lambda worker: worker.address,
    clients.ClientState: lambda client: client.client_key,
    worker_tasks.TaskState: lambda task: task.key,
}


def _hash_by(name: Callable[[Any], str]) -> Callable[[Any], int]:
    return lambda record: zlib.crc32(str(name(record)).encode())


@contextlib.contextmanager
def steady_hashes() -> Iterator[None]:
    """Within this, records hash by their names; they are equal to themselves only, as ever."""
    for kind, name in NAMES.items():
        kind.__hash__ = _hash_by(name)  # type: ignore[method-assign,assignment]
    try:
        yield
    finally:
        for kind in NAMES:
            del kind.__hash__
