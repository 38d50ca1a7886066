"""Ends of workers, and who asked for them: if nobody who may, it is a death, and whoever caused it is to blame."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from headrace import Nanny, Scheduler, Worker
from headrace.client import Client
from headrace.exceptions import KilledWorker, KilledWorkerLeaving
from headrace.testing.helpers.polling import async_poll_for
from headrace.worker import get_worker

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs signals")

PATIENCE = 30


async def until(condition: Any) -> None:
    await async_poll_for(condition, timeout=PATIENCE, period=0.01)


@pytest.fixture
async def scheduler() -> AsyncIterator[Scheduler]:
    async with Scheduler(host="127.0.0.1", validate=True, allowed_failures=1) as started:
        yield started


@pytest.fixture
async def nanny(scheduler: Scheduler, tmp_path: Path) -> AsyncIterator[Nanny]:
    async with Nanny(scheduler.address, name="alice", nthreads=1, local_directory=str(tmp_path)) as started:
        yield started


@pytest.fixture
async def client(scheduler: Scheduler) -> AsyncIterator[Client]:
    async with Client(scheduler.address, asynchronous=True, set_as_default=False) as connected:
        yield connected


def terminate() -> int:
    """The task may even end before its process does."""
    os.kill(os.getpid(), signal.SIGTERM)
    return 1


def terminate_group() -> None:
    os.killpg(0, signal.SIGTERM)


def hang_up() -> None:
    os.kill(os.getpid(), signal.SIGHUP)


async def close() -> None:
    await get_worker().close()


def close_elsewhere() -> None:
    asyncio.run(get_worker().close())


def close_by_callback() -> None:
    """The task may have ended by then."""
    worker = get_worker()
    worker.loop.add_callback(worker.close)


def close_gracefully() -> None:
    worker = get_worker()
    asyncio.run_coroutine_threadsafe(worker.close_gracefully(), worker.loop.asyncio_loop).result()


def end_the_loop() -> None:
    import time

    get_worker().loop.add_callback(os._exit, 5)
    time.sleep(PATIENCE)


TERMINATED, CLOSED = r"killed by signal 15 \(SIGTERM\)", r"task 'ends' closed it"


@pytest.mark.parametrize(
    ("function", "cause"),
    [
        (terminate, TERMINATED),
        (terminate_group, TERMINATED),
        (hang_up, r"killed by signal 1 \(SIGHUP\)"),
        (close, CLOSED),
        (close_elsewhere, CLOSED),
        (close_by_callback, CLOSED),
        (close_gracefully, CLOSED),
        (end_the_loop, "ended with exit code 5"),
    ],
)
async def test_a_task_that_ends_its_worker_is_to_blame_and_the_worker_is_started_again(
    scheduler: Scheduler, nanny: Nanny, client: Client, function: Any, cause: str
) -> None:
    ends = client.submit(function, key="ends")
    needs_it = client.submit(lambda x: x, ends)
    with pytest.raises(KilledWorker, match=rf"2 workers died while they ran task 'ends'.*{cause}"):
        await needs_it
    assert await client.submit(abs, -2) == 2
    assert nanny.is_alive()
    assert scheduler.tasks["ends"].prefix.suspicious == 2


async def test_a_worker_that_somebody_terminates_is_started_again(
    scheduler: Scheduler, nanny: Nanny, client: Client
) -> None:
    pid = nanny.pid
    assert pid is not None
    os.kill(pid, signal.SIGTERM)
    await until(lambda: nanny.pid != pid and nanny.worker_address in scheduler.workers)
    (death,) = [event for _, event in scheduler.events["all"] if event["action"] == "worker-exited"]
    assert death["cause"] == "it was killed by signal 15 (SIGTERM)"


async def test_a_signal_that_the_nanny_gets_too_is_no_death(
    scheduler: Scheduler, nanny: Nanny, client: Client, tmp_path: Path
) -> None:
    """A whole job or machine is told to end."""
    running = client.submit(wait_for, str(tmp_path / "go"), key="running")
    await until(lambda: scheduler.workers[nanny.worker_address].executing)  # type: ignore[index]
    task, pid = scheduler.tasks["running"], nanny.pid
    assert pid is not None
    os.kill(pid, signal.SIGTERM)
    await until(lambda: not nanny.is_alive())
    await nanny.close()
    await until(lambda: not scheduler.workers)
    assert (task.suspicious, task.rare.departures) == (0, 1)
    assert not [event for _, event in scheduler.events["all"] if event["action"] == "worker-exited"]
    (tmp_path / "go").touch()
    async with Worker(scheduler.address, nthreads=1):
        assert await running == "gone"


async def test_a_restart_that_finds_the_worker_terminated(scheduler: Scheduler, nanny: Nanny) -> None:
    pid = nanny.pid
    assert pid is not None
    os.kill(pid, signal.SIGTERM)
    await until(lambda: not nanny.is_alive())
    assert await nanny.restart() == "OK"
    second = nanny.pid
    await until(lambda: not nanny.is_starting_again)
    assert second not in (None, pid)
    assert nanny.pid == second
    assert not [event for _, event in scheduler.events["all"] if event["action"] == "worker-exited"]


def wait_for(path: str) -> str:
    import time

    while not os.path.exists(path):
        time.sleep(0.01)
    return "gone"


def hold_the_interpreter() -> None:
    import ctypes

    ctypes.PyDLL(None).sleep(60)


async def test_a_worker_that_must_be_killed_to_be_restarted_died_of_no_task(
    scheduler: Scheduler, nanny: Nanny, client: Client
) -> None:
    stuck = client.submit(hold_the_interpreter, key="stuck")
    await until(lambda: scheduler.tasks["stuck"].state == "processing" if "stuck" in scheduler.tasks else False)
    task = scheduler.tasks["stuck"]
    await nanny.kill(timeout=0.1)
    await until(lambda: not scheduler.workers)
    assert (task.suspicious, task.rare.departures) == (0, 1)
    await stuck.cancel()


async def test_tasks_that_end_workers_without_nannies(scheduler: Scheduler, client: Client) -> None:
    workers = [await Worker(scheduler.address, nthreads=1, name=number) for number in range(4)]
    with pytest.raises(KilledWorker, match=rf"2 workers died while they ran task 'ends'.*{CLOSED}"):
        await client.submit(close, key="ends")
    assert len(scheduler.workers) == 2
    assert await client.submit(abs, -2) == 2
    for worker in workers:
        await worker.close()


async def test_what_an_owner_closes_has_left_in_good_order(
    scheduler: Scheduler, client: Client, tmp_path: Path
) -> None:
    async with Worker(scheduler.address, nthreads=1) as worker:
        running = client.submit(wait_for, str(tmp_path / "go"), key="running")
        await until(lambda: "running" in scheduler.tasks and worker.state.executing_count)
        await worker.close(executor_wait=False)
        await until(lambda: not scheduler.workers)
        task = scheduler.tasks["running"]
        assert (task.suspicious, task.rare.departures) == (0, 1)
        assert not list(scheduler.parts.fatal_results.result_deaths(["running"])["deaths"]["running"])
        (tmp_path / "go").touch()
        async with Worker(scheduler.address, nthreads=1):
            assert await running == "gone"


async def coroutine() -> int:
    return 1


@pytest.mark.parametrize("function", [int, coroutine])
async def test_a_plugin_that_closes_its_worker_when_a_task_ends_is_not_the_task(
    scheduler: Scheduler, client: Client, function: Any
) -> None:
    class Close:
        name = "close"
        worker: Any = None

        def setup(self, worker: Worker) -> None:
            self.worker = worker

        def transition(self, key: Any, start: str, finish: str, **kwargs: Any) -> None:
            if finish == "memory":
                self.worker.close_soon("enough")

    async with Worker(scheduler.address, nthreads=1, plugins=[Close()]) as worker:
        await client.submit(function)  # it was there before the worker closed
        await worker.finished()
        assert worker.death_cause == ""


async def test_a_worker_whose_state_fails_is_started_again(scheduler: Scheduler, nanny: Nanny, client: Client) -> None:
    pid = nanny.pid

    def break_state(dask_worker: Any) -> None:
        dask_worker.loop.add_callback(dask_worker.handle_events, [object()])

    await client.run(break_state)
    await until(lambda: nanny.pid != pid and nanny.worker_address in scheduler.workers)
    (death,) = [event for _, event in scheduler.events["all"] if event["action"] == "worker-exited"]
    assert "state failed" in death["cause"]


async def test_a_worker_whose_nanny_is_killed_has_died(scheduler: Scheduler, client: Client) -> None:
    command = [sys.executable, "-m", "headrace.cli", "worker", scheduler.address, "--nthreads", "1"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    program = subprocess.Popen(command, env=environment)
    try:
        await client.wait_for_workers(1, timeout=PATIENCE)
        kills = client.submit(kill_parent, key="kills")
        await until(lambda: not scheduler.workers)
        task = scheduler.tasks["kills"]
        assert (task.suspicious, task.rare.departures) == (1, 0)
        await kills.cancel()
    finally:
        program.kill()
        program.wait()


def kill_parent() -> None:
    import time

    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(PATIENCE)


@pytest.mark.parametrize("nanny", ["--nanny", "--no-nanny"])
async def test_workers_that_are_told_to_end_leave_in_good_order(
    scheduler: Scheduler, client: Client, tmp_path: Path, nanny: str
) -> None:
    """By SIGTERM, as batch systems do; to the whole process group."""
    command = [sys.executable, "-m", "headrace.cli", "worker", scheduler.address, nanny, "--nthreads", "1"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    program = subprocess.Popen(command, env=environment, process_group=0)
    try:
        await client.wait_for_workers(1, timeout=PATIENCE)
        running = client.submit(wait_for, str(tmp_path / "go"), key="running")
        await until(lambda: any(worker.executing for worker in scheduler.workers.values()))
        os.killpg(program.pid, signal.SIGTERM)
        await until(lambda: not scheduler.workers)
        task = scheduler.tasks["running"]
        assert (task.suspicious, task.rare.departures) == (0, 1)
        (tmp_path / "go").touch()
        async with Worker(scheduler.address, nthreads=1):
            assert await running == "gone"
    finally:
        program.kill()
        program.wait()


def terminate_and_go_on() -> None:
    import time

    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(PATIENCE)


async def test_no_task_ends_worker_after_worker_in_good_order(scheduler: Scheduler, client: Client) -> None:
    """Without a nanny, nobody can tell whether it was the task that sent the signal."""
    command = [sys.executable, "-m", "headrace.cli", "worker", scheduler.address, "--no-nanny", "--nthreads", "1"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    programs = [subprocess.Popen(command, env=environment) for _ in range(4)]
    try:
        await client.wait_for_workers(4, timeout=PATIENCE)
        ends = client.submit(terminate_and_go_on, key="ends")
        with pytest.raises(KilledWorkerLeaving, match=r"3 workers left while they ran task 'ends'.*received SIGTERM"):
            await ends
        await until(lambda: len(scheduler.workers) == 1)
        assert await client.submit(abs, -2) == 2
    finally:
        for program in programs:
            program.kill()
            program.wait()
