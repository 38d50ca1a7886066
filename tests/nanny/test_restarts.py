"""Workers that nannies restart: deaths and their causes, restarts on request, silence, and what is not restarted."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from headrace import Nanny, Scheduler, Worker
from headrace.client import Client, FutureCancelledError
from headrace.common.status import Status
from headrace.exceptions import KilledWorker
from headrace.protocol import Serialize
from headrace.rpc import rpc
from headrace.testing.helpers.polling import async_poll_for

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs signals")

PATIENCE = 30


async def until(condition: Any) -> None:
    await async_poll_for(condition, timeout=PATIENCE, period=0.01)


@pytest.fixture
async def scheduler() -> AsyncIterator[Scheduler]:
    async with Scheduler(host="127.0.0.1", validate=True) as started:
        yield started


@pytest.fixture
async def nanny(scheduler: Scheduler, tmp_path: Path) -> AsyncIterator[Nanny]:
    async with Nanny(scheduler.address, name="alice", nthreads=1, local_directory=str(tmp_path)) as started:
        yield started


@pytest.fixture
async def client(scheduler: Scheduler) -> AsyncIterator[Client]:
    async with Client(scheduler.address, asynchronous=True, set_as_default=False) as connected:
        yield connected


def die() -> None:
    import os
    import signal

    os.kill(os.getpid(), signal.SIGKILL)


def leave() -> None:
    import os

    os._exit(3)


@pytest.mark.parametrize(("function", "cause"), [(die, r"killed by signal 9 \(SIGKILL\)"), (leave, "exit code 3")])
async def test_killed_worker_names_what_the_worker_died_of(
    scheduler: Scheduler, nanny: Nanny, client: Client, function: Any, cause: str
) -> None:
    scheduler.state.options = type(scheduler.state.options)(
        **{**scheduler.state.options.__dict__, "allowed_failures": 1}
    )
    future = client.submit(function, key="killer")
    with pytest.raises(KilledWorker, match=rf"2 workers died while they ran task 'killer'.*{cause}") as caught:
        await future
    assert caught.value.last_worker.address.startswith("tcp://")
    assert caught.value.last_worker.name == "alice"
    assert "killer" in scheduler.tasks
    assert cause.replace("\\", "") in scheduler.tasks["killer"].exception_text
    await until(lambda: scheduler.workers)
    deaths = [event for _, event in scheduler.events["all"] if event["action"] == "worker-exited"]
    assert len(deaths) == 2


async def test_a_kill_that_was_explained(scheduler: Scheduler, nanny: Nanny) -> None:
    assert nanny.process is not None
    nanny.process.exit_cause = "over its memory limit"
    os.kill(nanny.pid, signal.SIGKILL)  # type: ignore[arg-type]
    await until(lambda: any(event["action"] == "worker-exited" for _, event in scheduler.events["all"]))
    (death,) = [event for _, event in scheduler.events["all"] if event["action"] == "worker-exited"]
    assert death["cause"] == "over its memory limit"


async def test_restart_of_all_workers(scheduler: Scheduler, nanny: Nanny, client: Client) -> None:
    done, pid = client.submit(abs, -1), nanny.pid
    assert await done == 1
    await client.restart()
    assert done.status == "cancelled"
    with pytest.raises(FutureCancelledError, match="scheduler-restart"):
        await done
    assert not scheduler.tasks
    assert nanny.pid != pid
    assert [worker.address for worker in scheduler.workers.values()] == [nanny.worker_address]
    assert await client.submit(abs, -2) == 2


async def test_restart_without_waiting(scheduler: Scheduler, nanny: Nanny, client: Client) -> None:
    pid = nanny.pid
    await client.restart(wait_for_workers=False)
    await client.wait_for_workers(1)
    await until(lambda: nanny.worker_address in scheduler.workers)
    assert nanny.pid != pid


async def test_restart_of_some_workers(scheduler: Scheduler, nanny: Nanny, client: Client) -> None:
    address, pid = nanny.worker_address, nanny.pid
    kept = client.submit(abs, -1)
    large = client.submit(bytes, 100_000)
    await large
    assert await client.restart_workers([address]) == {address: "OK"}
    assert nanny.pid != pid
    assert list(scheduler.workers) == [nanny.worker_address]
    assert await client.restart_workers("alice") == {"alice": "OK"}
    assert await kept == 1
    assert await large == bytes(100_000)
    with pytest.raises(ValueError, match=r"no worker 'nobody'.*'alice' at tcp://"):
        await client.restart_workers(["nobody"])


async def test_a_restart_that_takes_too_long_goes_on(scheduler: Scheduler, nanny: Nanny, client: Client) -> None:
    address, pid = nanny.worker_address, nanny.pid
    assert await client.restart_workers([address], timeout=0.001, raise_for_error=False) == {address: "timed out"}
    await until(lambda: nanny.pid != pid and nanny.worker_address in scheduler.workers)
    pid = nanny.pid
    with pytest.raises(TimeoutError, match=r"1/1 nanny worker\(s\) did not restart within 0\.001 s"):
        await client.restart_workers(["alice"], timeout="1ms")
    await until(lambda: nanny.pid != pid and nanny.worker_address in scheduler.workers)


async def test_restart_of_a_worker_without_nanny(scheduler: Scheduler, client: Client) -> None:
    async with Worker(scheduler.address, name="bob", nthreads=1) as worker:
        with pytest.raises(ValueError, match=r"requires a nanny.*bob"):
            await client.restart_workers(["bob"])
        assert worker.address in scheduler.workers
        with pytest.raises(TimeoutError, match=r"1 of them had no nanny and were only shut down"):
            await client.restart(timeout=0.2)
        await worker.finished()


async def test_kill_and_instantiate(scheduler: Scheduler, nanny: Nanny) -> None:
    pid = nanny.pid
    await nanny.kill()
    assert not nanny.is_alive()
    await until(lambda: not scheduler.workers)
    assert await nanny.instantiate() is Status.running
    assert nanny.pid != pid
    assert nanny.worker_address in scheduler.workers
    os.kill(nanny.pid, signal.SIGKILL)  # type: ignore[arg-type]
    pid = nanny.pid
    await until(lambda: nanny.pid != pid and nanny.worker_address in scheduler.workers)


async def test_a_worker_that_leaves_on_purpose_is_not_restarted(scheduler: Scheduler, nanny: Nanny) -> None:
    async def leave_gracefully(dask_worker: Any) -> None:
        import asyncio

        dask_worker.task_that_leaves = asyncio.ensure_future(dask_worker.close_gracefully())

    async with rpc(nanny.worker_address) as proxy:  # type: ignore[arg-type]
        await proxy.run(function=Serialize(leave_gracefully))
    async with asyncio.timeout(PATIENCE):
        await nanny.finished()
    assert not scheduler.workers


@pytest.mark.parametrize("nanny_too", [True, False])
async def test_a_silent_worker_is_dropped(tmp_path: Path, nanny_too: bool) -> None:
    async with (
        Scheduler(host="127.0.0.1", validate=True, worker_ttl="1.2s") as scheduler,
        Nanny(scheduler.address, nthreads=1, local_directory=str(tmp_path)) as nanny,
        Client(scheduler.address, asynchronous=True, set_as_default=False) as client,
    ):
        large = client.submit(bytes, 100_000)
        await large
        pid, first = nanny.pid, nanny.worker_address
        assert pid is not None
        assert first is not None
        if not nanny_too:
            scheduler.workers[first].nanny = None
        os.kill(pid, signal.SIGSTOP)
        try:
            await until(lambda: first not in scheduler.workers)
        finally:
            if not nanny_too:
                os.kill(pid, signal.SIGCONT)
        await until(lambda: nanny.worker_address in scheduler.workers)
        assert (nanny.pid != pid) is nanny_too
        assert await large == bytes(100_000)


async def test_a_worker_whose_scheduler_dies_closes_and_so_does_its_nanny(tmp_path: Path) -> None:
    scheduler = await Scheduler(host="127.0.0.1")
    nanny = await Nanny(scheduler.address, nthreads=1, death_timeout=3, local_directory=str(tmp_path))
    scheduler.server.stop_listening()
    for stream in list(scheduler.stream_comms.values()):
        stream.abort()
    async with asyncio.timeout(PATIENCE):
        await nanny.finished()
    assert not nanny.is_alive()
    await scheduler.close()
