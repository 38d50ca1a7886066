"""A cluster on this machine whose scheduler has a process of its own, as its workers have.

The user's process is only a client: its garbage collections and long calls do not hold up the scheduler. The other
processes end when the user's process ends, in whatever way.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from abc import ABC, abstractmethod
from typing import Any

from dask.system import CPU_COUNT

from headrace.common.sizing import workers_and_threads
from headrace.config import get, parse_seconds
from headrace.machine import share_of_memory
from headrace.nanny.environment import SPEC_VARIABLE, STOP_WITH_STDIN, module_path, process_environment

from .output import Output
from .spec import ProcessInterface, SpecCluster

__all__ = ["Subprocess", "SubprocessCluster", "SubprocessScheduler", "SubprocessWorker"]

#: Seconds that a process gets to close before it is killed.
_PATIENCE = 10.0


def spec_text(spec: dict[str, Any]) -> str:
    """A specification as one line of text, for the variable of another process.

    Raises:
        TypeError: an option cannot be written as JSON.
    """
    try:
        return json.dumps(spec)
    except TypeError as error:
        raise TypeError(f"options for another process must be numbers, text, lists and dictionaries: {error}") from None


class Subprocess(ProcessInterface, ABC):
    """A process of this machine that runs `headrace spec`. Subclasses start it in `_start`.

    Attributes:
        process: the process, once it was started.
        output: the process's output.
    """

    def __init__(self) -> None:
        super().__init__()
        self.process: asyncio.subprocess.Process | None = None
        self.output: Output | None = None

    @abstractmethod
    async def _start(self) -> None:
        """Start the process, by `_run`."""

    async def start(self) -> None:
        """Start the process, and wait until it reports that it is up.

        Raises:
            RuntimeError: the process did not start; the message has its output.
        """
        try:
            await self._start()
        except BaseException:
            await self.close()
            raise
        await super().start()

    async def _run(self, spec: dict[str, Any], arguments: list[str], until: str, timeout: float, name: str) -> str:
        """Run a specification in a new process; returns its first line of output that contains `until`."""
        code = f"import sys; sys.path[:] = {module_path()!r}; from headrace.cli.dask_spec import main; main()"
        self.process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-c", code, "--spec-variable", SPEC_VARIABLE, *arguments),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            env=process_environment({STOP_WITH_STDIN: "1", SPEC_VARIABLE: spec_text(spec)}),
            start_new_session=True,  # Ctrl-C in the terminal is for the user's process alone
        )
        assert self.process.stderr is not None
        self.output = Output(self.process.stderr, name)
        return await self.output.wait_for(until, timeout)

    async def close(self) -> None:
        """End the process in good order, or by force if it does not end within some seconds."""
        process, self.process = self.process, None
        if process is not None:
            if process.stdin is not None:
                process.stdin.close()
            try:
                async with asyncio.timeout(_PATIENCE):
                    await process.wait()
            except TimeoutError:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
            if self.output is not None:
                await self.output.close()
        await super().close()


class SubprocessScheduler(Subprocess):
    """A scheduler in a process of its own.

    Args:
        scheduler_kwargs: keywords of the Scheduler.
        timeout: seconds that its start may take.

    Attributes:
        address: the scheduler's, once it has started.
    """

    def __init__(self, scheduler_kwargs: dict[str, Any] | None = None, timeout: float = 30) -> None:
        super().__init__()
        self.scheduler_kwargs = {"host": "127.0.0.1", **(scheduler_kwargs or {})}
        self.timeout = timeout

    async def _start(self) -> None:
        spec = {"cls": "headrace.Scheduler", "opts": self.scheduler_kwargs}
        line = await self._run(spec, [], "Scheduler at:", self.timeout, "the scheduler")
        self.address = line.split()[-1]


class SubprocessWorker(Subprocess):
    """A worker in a process of its own.

    Args:
        scheduler: the scheduler's address.
        worker_class: class of the worker, by its dotted name.
        name: the worker's.
        worker_kwargs: keywords of the class.
    """

    def __init__(
        self,
        scheduler: str,
        worker_class: str = "distributed.Nanny",
        name: object = None,
        worker_kwargs: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.scheduler = scheduler
        self.worker_class = worker_class
        self.name = name
        self.worker_kwargs = dict(worker_kwargs or {})

    async def _start(self) -> None:
        spec = {"cls": self.worker_class, "opts": {"name": self.name, **self.worker_kwargs}}
        timeout = parse_seconds(get("distributed.comm.timeouts.connect"))
        await self._run(
            spec, [str(self.scheduler)], "Registered with scheduler at:", 2 * timeout, f"worker {self.name}"
        )


def SubprocessCluster(
    host: str | None = None,
    scheduler_port: int = 0,
    scheduler_kwargs: dict[str, Any] | None = None,
    dashboard_address: str | None = ":8787",
    worker_class: str = "distributed.Nanny",
    n_workers: int | None = None,
    threads_per_worker: int | None = None,
    worker_kwargs: dict[str, Any] | None = None,
    silence_logs: int | str | bool | None = 30,
    **kwargs: Any,
) -> SpecCluster:
    """A cluster whose scheduler and workers are processes of this machine.

    Args:
        host: address that the scheduler listens on; this machine alone by default.
        scheduler_port: port that the scheduler listens on; 0 for any free one.
        scheduler_kwargs: more keywords of the Scheduler.
        dashboard_address: where the scheduler serves HTTP: ":8787", "host:8787"; None for not at all.
        worker_class: class of the workers, by its dotted name.
        n_workers, threads_per_worker: as for LocalCluster.
        worker_kwargs: more keywords of each worker.
        silence_logs: see `SpecCluster`.
        kwargs: for `SpecCluster`.

    Raises:
        RuntimeError: a process did not start; the message has its output.
    """
    count, threads = workers_and_threads(n_workers, threads_per_worker, True, CPU_COUNT)
    options = {"host": "127.0.0.1" if host is None else host, "nthreads": threads, **(worker_kwargs or {})}
    options["memory_limit"] = share_of_memory(options.get("memory_limit", "auto"), count, threads)
    worker = {"cls": SubprocessWorker, "options": {"worker_class": worker_class, "worker_kwargs": options}}
    scheduler_options = {
        "host": "127.0.0.1" if host is None else host,
        "port": scheduler_port,
        "dashboard_address": dashboard_address,
        **(scheduler_kwargs or {}),
    }
    return SpecCluster(
        workers=dict.fromkeys(range(count), worker),
        scheduler={"cls": SubprocessScheduler, "options": {"scheduler_kwargs": scheduler_options}},
        worker=worker,
        silence_logs=silence_logs,
        **{"name": "SubprocessCluster", **kwargs},
    )
