"""What keeps a server from starting reaches its owner as the interface promises: by type, with the cause."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from headrace import Nanny, Scheduler, SchedulerPlugin, Worker, WorkerPlugin
from headrace.common.status import Status
from headrace.compat.core import Server
from headrace.testing.clusters import gen_cluster
from headrace.testing.helpers.polling import async_poll_for

NONE: list[Any] = []


class _Broken(WorkerPlugin):
    name = "broken"

    def setup(self, worker: Worker) -> None:
        raise ZeroDivisionError("this plugin never works")


class _BrokenWorker(Worker):
    async def start_unsafe(self) -> Worker:
        raise LookupError("a start of one's own")


class _SlowWorker(Worker):
    async def start_unsafe(self) -> Worker:
        await asyncio.Event().wait()
        return self


class _BrokenServer(Server):
    async def start_unsafe(self) -> Server:
        raise LookupError("a start of one's own")


@pytest.mark.parametrize(
    ("make", "cause"),
    [
        (lambda s: Worker(s.address, host="127.0.0.1", port=s.port), OSError),
        (lambda s: Worker(s.address, host="127.0.0.1", name="taken"), ValueError),
        (lambda s: Worker(s.address, host="127.0.0.1", plugins=[_Broken()]), ZeroDivisionError),
        (lambda s: Worker(s.address, interface="none-such"), ValueError),
        (lambda s: _BrokenWorker(s.address, host="127.0.0.1"), LookupError),
        (lambda s: Nanny(s.address, host="127.0.0.1", port=s.port), OSError),
        (lambda s: Scheduler(host="127.0.0.1", port=s.port), OSError),
        (lambda s: _BrokenServer({}), LookupError),
    ],
    ids=["port", "name", "plugin", "interface", "own start", "nanny's port", "scheduler's port", "server"],
)
@gen_cluster(nthreads=[("127.0.0.1", 1)], worker_kwargs={"name": "taken"})
async def test_a_start_fails_with_its_cause(
    s: Scheduler, w: Worker, make: Callable[[Scheduler], Any], cause: type[Exception]
) -> None:
    server = make(s)
    with pytest.raises(RuntimeError, match=f"{type(server).__name__} failed to start: ") as failed:
        await server.start()
    assert type(failed.value) is RuntimeError
    assert isinstance(failed.value.__cause__, cause)
    assert str(failed.value.__cause__) in str(failed.value)
    assert server.status is Status.failed


@pytest.mark.slow
@gen_cluster(nthreads=NONE)
async def test_a_worker_that_does_not_start_is_why_its_nanny_does_not(s: Scheduler) -> None:
    nanny = Nanny(s.address, host="127.0.0.1", nthreads=1, worker_port=s.port)
    with pytest.raises(RuntimeError, match="Nanny failed to start: ") as failed:
        await nanny
    assert type(failed.value.__cause__) is RuntimeError
    assert str(failed.value.__cause__).startswith("Worker failed to start: ")
    assert isinstance(failed.value.__cause__.__cause__, OSError)


@pytest.mark.parametrize("kind", [Worker, Nanny])
async def test_a_scheduler_that_is_not_there_is_a_timeout(kind: type[Worker | Nanny]) -> None:
    with pytest.raises(TimeoutError, match=r"127\.0\.0\.1:1"):
        await kind("tcp://127.0.0.1:1", host="127.0.0.1", death_timeout=0.1)


@gen_cluster(nthreads=NONE)
async def test_a_start_of_ones_own_that_takes_too_long_is_a_timeout(s: Scheduler) -> None:
    with pytest.raises(TimeoutError, match="_SlowWorker did not start within 0"):
        await _SlowWorker(s.address, host="127.0.0.1", death_timeout=0.01)


@pytest.mark.parametrize("preload", ["raise LookupError('in a preload')\n", "no_such_module_anywhere"])
@gen_cluster(nthreads=NONE)
async def test_what_a_preload_raises_as_it_is_imported_comes_as_it_is(s: Scheduler, preload: str) -> None:
    expected: type[Exception] = LookupError if "raise" in preload else ModuleNotFoundError
    for server in (
        Worker(s.address, host="127.0.0.1", preload=preload),
        Nanny(s.address, host="127.0.0.1", preload_nanny=preload),
        Scheduler(host="127.0.0.1", port=0, preload=preload),
    ):
        with pytest.raises(expected):
            await server


@gen_cluster(nthreads=NONE)
async def test_a_preload_says_where_the_scheduler_is(s: Scheduler, tmp_path: Path) -> None:
    said = f"import dask\ndask.config.set({{'scheduler-address': {s.address!r}}})\n"
    async with Worker(host="127.0.0.1", nthreads=1, preload=said) as worker:
        assert worker.scheduler.address == s.address
        assert len(worker.preloads) == 1
    path = tmp_path / "scheduler.json"
    written = f"with open({str(path)!r}, 'w') as file:\n    file.write('{{\"address\": \"{s.address}\"}}')\n"
    async with Worker(host="127.0.0.1", nthreads=1, preload=written, scheduler_file=str(path)) as worker:
        assert worker.scheduler.address == s.address


async def test_nothing_says_where_the_scheduler_is() -> None:
    with pytest.raises(ValueError, match="name the scheduler"):
        Worker()
    with pytest.raises(ValueError, match="name the scheduler"):
        await Worker(preload="import os\n")
    with pytest.raises(ValueError, match="name the scheduler"):
        await Nanny(preload_nanny="import os\n")


class _Gate(SchedulerPlugin):
    """Holds up the registration of workers."""

    name = "gate"

    def __init__(self) -> None:
        self.entered, self.opened = asyncio.Event(), asyncio.Event()

    async def add_worker(self, scheduler: Scheduler, worker: str) -> None:  # type: ignore[override]
        self.entered.set()
        await self.opened.wait()


@pytest.mark.slow
@pytest.mark.parametrize("kind", [Worker, Nanny])
async def test_what_is_closed_while_it_registers_leaves_nothing_behind(kind: type[Worker | Nanny]) -> None:
    gate = _Gate()
    async with Scheduler(host="127.0.0.1", dashboard_address=":0", plugins=[gate]) as scheduler:
        server = kind(scheduler.address, host="127.0.0.1", nthreads=1)
        starting = asyncio.ensure_future(server.start())
        await gate.entered.wait()
        closing = asyncio.ensure_future(server.close())
        with pytest.raises(RuntimeError, match=f"this {kind.__name__} was closed while it started"):
            await starting
        gate.opened.set()
        await closing
        assert server.status is Status.closed
        await async_poll_for(lambda: not scheduler.workers, timeout=20)
        with pytest.raises(RuntimeError, match="has been closed and cannot be started again"):
            await server


async def test_a_server_that_is_closed_at_the_beginning_of_its_start_stays_closed() -> None:
    async with Scheduler(host="127.0.0.1", dashboard_address=":0") as scheduler:
        for turns in range(6):
            worker = Worker(scheduler.address, host="127.0.0.1", nthreads=1)
            starting = asyncio.ensure_future(worker.start())
            for _ in range(turns):
                await asyncio.sleep(0)
            await worker.close()
            with pytest.raises(RuntimeError, match="closed"):
                await starting
            assert worker.status is Status.closed
        await async_poll_for(lambda: not scheduler.workers, timeout=20)
