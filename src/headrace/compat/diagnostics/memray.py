"""`distributed.diagnostics.memray`: profiles of what workers or the scheduler allocate, by the package memray.

The profiler runs where the memory is; its reports are made there as well, and fetched when the block ends.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from headrace.client import get_client
from headrace.private_directories import open_named

#: Profilers that run in this process, with the folders that they write to, by the ids of the servers.
_RUNNING: dict[str, tuple[Any, tempfile.TemporaryDirectory[str]]] = {}
#: Name of a profile in its folder.
_PROFILE = "profile.memray"


@contextmanager
def memray_workers(
    directory: str | os.PathLike[str] = "memray-profiles",
    workers: int | list[str] | None = None,
    report_args: Sequence[str] | Literal[False] = ("flamegraph", "--temporal", "--leaks"),
    fetch_reports_parallel: bool | int = True,
    **memray_kwargs: Any,
) -> Iterator[None]:
    """Profile the memory of workers while the block runs, and write `NAME.html` for each of them in the end.

    Args:
        directory: for the reports; made if it is not there.
        workers: addresses, or the number of workers to profile; all by default.
        report_args: arguments of the command `memray` that makes a report; False for the profiles themselves
            (`NAME.memray`), which can only be read on the same kind of machine.
        fetch_reports_parallel: reports that are made at a time: a number, True for all, False for one.
        memray_kwargs: for `memray.Tracker`, such as `native_traces=True`.

    Raises:
        ImportError: a worker has no package memray.
        ValueError: there is no client.
    """
    client = get_client()
    names = {address: worker["name"] for address, worker in client.scheduler_info(n_workers=-1)["workers"].items()}
    chosen = list(names)[:workers] if isinstance(workers, int) else list(names) if workers is None else list(workers)
    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        client.run(_start, memray_kwargs, workers=chosen)
        yield
    finally:
        size = len(chosen) if fetch_reports_parallel is True else int(fetch_reports_parallel) or 1
        for first in range(0, len(chosen), max(1, size)):
            reports = client.run(_report, report_args, workers=chosen[first : first + size])
            for address, report in reports.items():
                _write(folder, str(names.get(address, address)), report, report_args)


@contextmanager
def memray_scheduler(
    directory: str | os.PathLike[str] = "memray-profiles",
    report_args: Sequence[str] | Literal[False] = ("flamegraph", "--temporal", "--leaks"),
    **memray_kwargs: Any,
) -> Iterator[None]:
    """Profile the memory of the scheduler while the block runs, and write `scheduler.html` in the end.

    Args:
        directory, report_args, memray_kwargs: as of `memray_workers`.

    Raises:
        ImportError: the scheduler has no package memray.
        ValueError: there is no client.
    """
    client = get_client()
    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        client.run_on_scheduler(_start_on_scheduler, memray_kwargs)
        yield
    finally:
        report = client.run_on_scheduler(_report_of_scheduler, report_args)
        _write(folder, "scheduler", report, report_args)


def _write(folder: Path, name: str, report: bytes | None, report_args: Sequence[str] | Literal[False]) -> None:
    if report is not None:
        name = name.replace("/", "_")
        with open_named(folder / f"{name}.{'memray' if report_args is False else 'html'}", private=False) as file:
            file.write(report)


def _start(keywords: dict[str, Any], dask_worker: Any) -> None:
    """Begin to profile the process of a server.

    Raises:
        ImportError: memray is not installed.
    """
    try:
        import memray
    except ImportError as error:
        raise ImportError(f"to profile memory, install the package memray where {dask_worker.id} runs") from error
    folder = tempfile.TemporaryDirectory(prefix="memray-")
    tracker = memray.Tracker(Path(folder.name) / _PROFILE, **keywords)
    tracker.__enter__()
    _RUNNING[dask_worker.id] = tracker, folder


async def _report(report_args: Sequence[str] | Literal[False], dask_worker: Any) -> bytes | None:
    """End the profiling of a server's process, and give what was found; None if it did not begin."""
    tracker, folder = _RUNNING.pop(dask_worker.id, (None, None))
    if tracker is None or folder is None:
        return None
    with folder:
        tracker.__exit__(None, None, None)
        profile = Path(folder.name) / _PROFILE
        if report_args is False:
            return profile.read_bytes()
        report = profile.with_suffix(".html")
        command = [sys.executable, "-m", "memray", *report_args, "-f", str(profile), "-o", str(report)]
        process = await asyncio.create_subprocess_exec(
            *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        said, _ = await process.communicate()
        if process.returncode:
            raise RuntimeError(f"memray made no report: {said.decode(errors='replace')[-2000:]}")
        return report.read_bytes()


def _start_on_scheduler(keywords: dict[str, Any], dask_scheduler: Any) -> None:
    _start(keywords, dask_scheduler)


async def _report_of_scheduler(report_args: Sequence[str] | Literal[False], dask_scheduler: Any) -> bytes | None:
    return await _report(report_args, dask_scheduler)


__all__ = ["memray_scheduler", "memray_workers"]
