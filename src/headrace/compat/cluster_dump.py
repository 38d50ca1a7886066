"""`distributed.cluster_dump`: dumps of a cluster's state, written and looked into by the documented names."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from headrace import cluster_dump
from headrace.cluster_dump import load_cluster_dump
from headrace.common.facade import names_before
from headrace.private_directories import PRIVATE, make_above

__getattr__ = names_before(__name__, "headrace.cluster_dump")

DEFAULT_CLUSTER_DUMP_FORMAT: Literal["msgpack", "yaml"] = "msgpack"
DEFAULT_CLUSTER_DUMP_EXCLUDE = frozenset({"run_spec"})

__all__ = [
    "DEFAULT_CLUSTER_DUMP_EXCLUDE",
    "DEFAULT_CLUSTER_DUMP_FORMAT",
    "DumpArtefact",
    "load_cluster_dump",
    "write_state",
]

#: Parts of a dump that `DumpArtefact.to_yamls` writes to files of their own.
_WORKER_PARTS = ("config", "log", "logs", "tasks")
_SCHEDULER_PARTS = ("events", "extensions", "log", "task_groups", "tasks", "transition_log", "workers")


async def write_state(
    get_state: Callable[[], Awaitable[Any]],
    url: str | os.PathLike[str],
    format: Literal["msgpack", "yaml"] = DEFAULT_CLUSTER_DUMP_FORMAT,
    **storage_options: Any,
) -> None:
    """Write a dump, off the loop.

    Args:
        get_state: gives what is written, as plain data; called when path and format are known to be good.
        url: path or URL, with or without the format's suffix.
        storage_options: for `fsspec.open`.

    Raises:
        ValueError: there is no such format.
        OSError: the file cannot be written.
    """
    path = cluster_dump.path_of(url, format)
    state = await get_state()
    await asyncio.to_thread(cluster_dump.write_state, state, path, format, **storage_options)


class DumpArtefact(Mapping[str, Any]):
    """The state of a cluster at one moment, with questions about it.

    Args:
        state: what `load_cluster_dump` reads: parts "scheduler", "workers" and "versions".

    >>> dump = DumpArtefact({"scheduler": {"tasks": {"x": {"key": "x", "state": "memory"}}}, "workers": {}})
    >>> dump.scheduler_tasks_in_state("memory")
    [{'key': 'x', 'state': 'memory'}]
    """

    def __init__(self, state: dict[str, Any]) -> None:
        self.dump = state

    @classmethod
    def from_url(cls, url: str | os.PathLike[str], **kwargs: Any) -> DumpArtefact:
        """A dump that is read from a path or URL; see `load_cluster_dump`."""
        return cls(load_cluster_dump(url, **kwargs))

    def __getitem__(self, key: str) -> Any:
        return self.dump[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.dump)

    def __len__(self) -> int:
        return len(self.dump)

    def _worker_states(self) -> list[dict[str, Any]]:
        """The states of the workers that have answered."""
        return [state for state in self.dump["workers"].values() if isinstance(state, dict)]

    def scheduler_tasks_in_state(self, state: str | None = None) -> list[dict[str, Any]]:
        """The scheduler's records of tasks in a state; of all by default."""
        return _in_state(self.dump["scheduler"]["tasks"], state)

    def worker_tasks_in_state(self, state: str | None = None) -> list[dict[str, Any]]:
        """All workers' records of tasks in a state; of all by default."""
        return [task for worker in self._worker_states() for task in _in_state(worker["tasks"], state)]

    def scheduler_story(self, *key_or_stimulus_id: Any) -> dict[Any, list[tuple[Any, ...]]]:
        """The scheduler's transitions by task, or by what caused them; those without any are left out."""
        return _stories([self.dump["scheduler"].get("transition_log", ())], key_or_stimulus_id)

    def worker_story(self, *key_or_stimulus_id: Any) -> dict[Any, list[tuple[Any, ...]]]:
        """The same, of all workers."""
        return _stories([worker.get("log", ()) for worker in self._worker_states()], key_or_stimulus_id)

    def missing_workers(self) -> list[str]:
        """Addresses of workers that the scheduler knew and that have not answered."""
        answers = self.dump["workers"]
        return [address for address in self.dump["scheduler"]["workers"] if not isinstance(answers.get(address), dict)]

    def to_yamls(
        self,
        root_dir: str | os.PathLike[str] | None = None,
        worker_expand_keys: Collection[str] = _WORKER_PARTS,
        scheduler_expand_keys: Collection[str] = _SCHEDULER_PARTS,
    ) -> None:
        """Write the dump as several YAML files: a folder for the scheduler, and one for each worker, by its identifier.

        Args:
            root_dir: where the folders are made; the current directory by default.
            worker_expand_keys, scheduler_expand_keys: what has a file of its own there; the rest is in `general.yaml`.

        Raises:
            OSError: a file cannot be written.
        """
        root = Path.cwd() if root_dir is None else Path(root_dir)
        for worker in self._worker_states():
            _write_parts(root / str(worker["id"]), worker, worker_expand_keys)
        _write_parts(root / "scheduler", self.dump["scheduler"], scheduler_expand_keys)


def _in_state(tasks: Mapping[Any, dict[str, Any]], state: str | None) -> list[dict[str, Any]]:
    return [task for task in tasks.values() if state is None or task["state"] == state]


def _stories(logs: list[Any], wanted: tuple[Any, ...]) -> dict[Any, list[tuple[Any, ...]]]:
    """The lines of logs that name each of those that are wanted: as their task, anywhere in them, or as their cause."""
    found: dict[Any, list[tuple[Any, ...]]] = {}
    for each in wanted:
        lines = [tuple(line) for log in logs for line in log if _names(line, each)]
        if lines:
            found[each] = lines
    return found


def _names(line: Any, wanted: Any) -> bool:
    return any(wanted in part if isinstance(part, (dict, list, tuple)) else wanted == part for part in line)


def _write_parts(folder: Path, state: Mapping[str, Any], parts: Collection[str]) -> None:
    if not folder.is_dir():
        make_above(str(folder.absolute()))
        folder.mkdir(mode=PRIVATE)
    files = {name: state[name] for name in parts if name in state}
    files["general"] = {name: value for name, value in state.items() if name not in files}
    for name, content in files.items():
        cluster_dump.write_yaml(content, folder / f"{name}.yaml")
