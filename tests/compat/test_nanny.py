"""The documented keywords and methods of a Nanny, row by row; deaths and restarts have tests of their own."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import dask
import psutil
import pytest

from headrace import Client, Nanny, NannyPlugin, Scheduler, Worker, WorkerPlugin
from headrace.common.status import Status
from headrace.testing.clusters import gen_cluster
from headrace.testing.helpers.polling import async_poll_for

NONE: list[Any] = []


@gen_cluster(nthreads=NONE, client=True)
async def test_a_worker_in_a_process_of_its_own(c: Client, s: Scheduler) -> None:
    async with Nanny(s.address, nthreads=2, name="alice", memory_limit="1 GB", resources={"GPU": 1}) as nanny:
        record = s.workers[nanny.worker_address]
        assert record.nanny == nanny.address
        assert record.pid == nanny.pid != os.getpid()
        assert (record.name, record.nthreads, record.memory_limit) == ("alice", 2, 10**9)
        assert record.resources == {"GPU": 1}
        assert nanny.is_alive()
        assert nanny.worker_dir == nanny.local_dir == record.local_directory
        assert nanny.identity()["worker_address"] == nanny.worker_address
        assert nanny.worker_address in repr(nanny)
        assert await c.run(os.getpid) == {nanny.worker_address: nanny.pid}
        assert await c.run(os.getpid, nanny=True) == {nanny.worker_address: os.getpid()}
        assert await c.run(os.getpid, nanny=True, workers=["alice"]) == {nanny.worker_address: os.getpid()}
        failed = await c.run(divmod, 1, 0, nanny=True, on_error="return", workers=[nanny.worker_address])
        assert {address: type(error) for address, error in failed.items()} == {nanny.worker_address: ZeroDivisionError}
        pid = nanny.pid
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    await async_poll_for(lambda: not s.workers, 15)
    assert nanny.status.name == "closed"
    assert not nanny.is_alive()


@gen_cluster(nthreads=NONE, client=True)
async def test_kill_and_instantiate(c: Client, s: Scheduler) -> None:
    async with Nanny(s.address, nthreads=1) as nanny:
        first = nanny.pid
        await nanny.kill()
        assert not nanny.is_alive()
        await async_poll_for(lambda: not s.workers, 15)
        assert await nanny.instantiate() is Status.running
        assert nanny.is_alive()
        assert nanny.pid != first
        assert nanny.worker_address in s.workers, "known when instantiate returns"
        assert await nanny.instantiate() is Status.running, "there is one already"


@gen_cluster(nthreads=NONE, client=True)
async def test_environment_listening_and_worker_keywords(c: Client, s: Scheduler) -> None:
    async with Nanny(
        s.address,
        nthreads=1,
        env={"HEADRACE_EXAMPLE": "1"},
        worker_port=0,
        listen_address="tcp://127.0.0.1:0",
        quiet=True,
        validate=True,
        death_timeout="60s",
    ) as nanny:
        assert nanny.address.startswith("tcp://127.0.0.1:")
        found = await c.run(lambda dask_worker: (os.environ["HEADRACE_EXAMPLE"], dask_worker.state.validate))
        assert found == {nanny.worker_address: ("1", True)}
    assert "HEADRACE_EXAMPLE" not in os.environ


@gen_cluster(nthreads=NONE)
async def test_close_gracefully_starts_no_other_worker(s: Scheduler) -> None:
    async with Nanny(s.address, nthreads=1) as nanny:
        nanny.close_gracefully()
        assert nanny.status.name == "closing_gracefully"
        assert not nanny.auto_restart
        nanny.memory_monitor()


async def test_a_worker_that_cannot_start() -> None:
    nanny = Nanny("tcp://127.0.0.1:1", nthreads=1, death_timeout="200 ms")
    with pytest.raises((RuntimeError, OSError, TimeoutError)):
        await nanny
    assert not nanny.is_alive()


@pytest.mark.slow
@gen_cluster(nthreads=NONE, client=True)
async def test_what_it_was_made_with(c: Client, s: Scheduler, tmp_path: Path) -> None:
    dask.config.set({"headrace-test.kept": 1})
    made = Nanny(
        s.address,
        nthreads=1,
        resources={"GPU": 1},
        preload="import os\n",
        death_timeout="60s",
        local_directory=str(tmp_path),
        config={"headrace-test": {"new": 2}, "distributed.worker.lifetime.duration": "1 hour"},
    )
    async with made as nanny:
        assert nanny.Worker is Worker
        assert nanny.scheduler_addr == nanny.scheduler.address == s.address
        assert (nanny.resources, nanny.preload, nanny.preload_argv) == ({"GPU": 1}, ["import os\n"], [])
        assert (nanny.death_timeout, nanny.silence_logs, nanny.reconnect, nanny.validate) == (60, None, True, False)
        assert nanny.local_directory == str(tmp_path)
        assert os.path.dirname(nanny.worker_dir) == str(tmp_path)
        assert nanny.worker_kwargs["nthreads"] == 1
        assert nanny.pre_spawn_env["OMP_NUM_THREADS"] == "1"
        assert len(nanny.preloads) == 0
        assert nanny.monitor.recent()["memory"] > 0
        assert nanny.config["headrace-test"] == {"kept": 1, "new": 2}

        def look(dask_worker: Worker) -> Any:
            return dask.config.get("headrace-test"), dask_worker.lifetime, dask.config.get("distributed.comm.timeouts")

        assert await c.run(look) == {
            nanny.worker_address: ({"kept": 1, "new": 2}, 3600, dask.config.get("distributed.comm.timeouts"))
        }
    assert nanny.process is nanny.pid is nanny.worker_address is nanny.worker_dir is None


class _Breaks(NannyPlugin):
    def __init__(self, hook: str) -> None:
        self.name, self.hook = hook, hook

    def setup(self, nanny: Nanny) -> None:
        assert self.hook != "setup"

    def teardown(self, nanny: Nanny) -> None:
        assert self.hook != "teardown"


class _ForWorkers(WorkerPlugin):
    name = "for workers"


@pytest.mark.slow
@gen_cluster(nthreads=NONE, client=True)
async def test_a_plugin_that_fails_is_logged(c: Client, s: Scheduler, caplog: pytest.LogCaptureFixture) -> None:
    for hook in ("setup", "teardown"):
        await c.register_plugin(_Breaks(hook))
    async with Nanny(s.address, nthreads=1, plugins=[_ForWorkers()]) as nanny:
        assert await c.submit(abs, -1) == 1
        assert "for workers" not in nanny.plugins
        assert await c.run(lambda dask_worker: "for workers" in dask_worker.plugins) == {nanny.worker_address: True}
    assert nanny.status is Status.closed
    for hook in ("setup", "teardown"):
        assert f"Plugin {hook} failed in {hook}" in caplog.text
