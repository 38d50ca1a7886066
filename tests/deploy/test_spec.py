"""SpecCluster: workers by specification, whoever makes them."""

from __future__ import annotations

import asyncio
from typing import Any

import dask
import pytest

from headrace import Client, Nanny, Scheduler, SpecCluster, Worker
from headrace.common.status import Status
from headrace.deploy.cluster import Cluster
from headrace.deploy.spec import ProcessInterface, init_spec, run_spec
from headrace.rpc import rpc
from headrace.testing.helpers.polling import async_poll_for, poll_for

LOCAL = {"host": "127.0.0.1", "port": 0}
SCHEDULER = {"cls": Scheduler, "options": LOCAL}
WORKER = {"cls": Worker, "options": {"nthreads": 1, "host": "127.0.0.1"}}


def inc(x: int) -> int:
    return x + 1


class Job(ProcessInterface):
    """As of a batch system: `start` submits, and the workers come later."""

    running: int = 0

    def __init__(self, scheduler: str, name: Any = None, processes: int = 1, nthreads: int = 1) -> None:
        super().__init__(scheduler=scheduler, name=name)
        self.scheduler = scheduler
        self.name = name
        suffixes = [""] if processes == 1 else [f"-{number}" for number in range(processes)]
        self.servers = [
            Worker(scheduler, nthreads=nthreads, host="127.0.0.1", name=f"{name}{suffix}") for suffix in suffixes
        ]

    async def start(self) -> None:
        self.submitted = asyncio.gather(*self.servers)
        Job.running += 1
        await super().start()

    async def close(self) -> None:
        await self.submitted
        await asyncio.gather(*[server.close() for server in self.servers])
        Job.running -= 1
        await super().close()


async def test_workers_of_several_kinds() -> None:
    workers = {
        "a": WORKER,
        "b": {"cls": Nanny, "options": {"nthreads": 2, "host": "127.0.0.1"}},
        "c": {"cls": "distributed.Worker", "options": {"nthreads": 3, "host": "127.0.0.1"}},
    }
    async with SpecCluster(workers, SCHEDULER, asynchronous=True, name="mixed") as cluster:
        assert cluster.observed == cluster.plan == cluster.requested == {"a", "b", "c"}
        assert [type(worker) for worker in cluster.workers.values()] == [Worker, Nanny, Worker]
        assert "SpecCluster(mixed" in repr(cluster)
        assert "threads=6" in repr(cluster)
        async with Client(cluster, asynchronous=True) as client:
            assert await client.submit(inc, 1) == 2
    assert cluster.status is Status.closed
    assert all(worker.status is Status.closed for worker in (cluster.scheduler,))


def test_synchronous_with_scale() -> None:
    with SpecCluster(scheduler=SCHEDULER, worker=WORKER) as cluster:
        assert cluster.plan == set()
        cluster.scale(2)
        assert list(cluster.worker_spec) == [0, 1]
        cluster.wait_for_workers(2, timeout=20)
        cluster.scale(1)
        poll_for(lambda: cluster.observed == {0}, 20)
        cluster.scale(cores=2)
        cluster.wait_for_workers(2, timeout=20)
        with pytest.raises(ValueError, match="memory"):
            cluster.scale(memory="1GB")
        with pytest.raises(ValueError, match="-1"):
            cluster.scale(-1)
        assert len(cluster.plan) == 2


async def test_a_changed_specification_is_kept_to_when_awaited() -> None:
    async with SpecCluster({"x": WORKER}, SCHEDULER, asynchronous=True) as cluster:
        cluster.worker_spec["y"] = WORKER
        await cluster
        assert cluster.observed == {"x", "y"}
        del cluster.worker_spec["x"]
        await cluster
        assert cluster.observed == {"y"}


async def test_scaled_before_it_starts() -> None:
    cluster = SpecCluster(scheduler=SCHEDULER, worker=WORKER, asynchronous=True)
    cluster.scale(2)
    async with cluster:
        assert len(cluster.workers) == 2


async def test_what_only_closed_workers_hold_goes_to_others() -> None:
    async with (
        SpecCluster(worker=WORKER, workers={0: WORKER}, scheduler=SCHEDULER, asynchronous=True) as cluster,
        Client(cluster, asynchronous=True) as client,
    ):
        await cluster.scale(4)
        futures = await client.scatter(list(range(20)))
        await cluster.scale(1)
        assert len(cluster.observed) == 1
        assert await client.gather(futures) == list(range(20))
        assert "closing worker 3" in (await cluster.get_logs())["Cluster"]


async def test_jobs_with_several_workers_each() -> None:
    spec = {"cls": Job, "options": {"processes": 2}, "group": ["-0", "-1"]}
    async with SpecCluster(scheduler=SCHEDULER, worker=spec, asynchronous=True) as cluster:
        await cluster.scale(2)
        assert cluster.plan == cluster.requested == {"0-0", "0-1", "1-0", "1-1"}
        await cluster.wait_for_workers(4, timeout=20)
        assert cluster.observed == cluster.plan
        assert cluster.specifications_for(3) == 2
        key = cluster.worker_key
        assert key is not None
        assert {key(worker) for worker in cluster.scheduler.workers.values()} == {"0", "1"}
        await cluster.scale_down(["1-0"])
        assert cluster.plan == {"0-0", "0-1"}
        assert cluster.observed == cluster.plan
        assert Job.running == 1
        cluster.adapt(minimum=4, maximum=4, interval="20ms")
        await async_poll_for(lambda: len(cluster.observed) == 4 and len(cluster.plan) == 4, 20)
    assert Job.running == 0


class Broken(ProcessInterface):
    async def start(self) -> None:
        raise OSError("the queue is closed")


async def test_a_job_that_does_not_start_is_a_clear_error_and_the_others_go_on() -> None:
    with pytest.raises(OSError, match="the queue is closed") as caught:
        await SpecCluster({0: {"cls": Broken}}, SCHEDULER, asynchronous=True)
    assert caught.value.__notes__ == ["worker 0 of SpecCluster did not start"]
    async with SpecCluster({}, SCHEDULER, asynchronous=True) as cluster:
        cluster.worker_spec.update({"bad": {"cls": Broken}, "good": WORKER})
        with pytest.raises(OSError, match="the queue is closed"):
            await cluster
        assert cluster.observed == {"good"}
        assert list(cluster.workers) == ["good"]


class Stuck(ProcessInterface):
    async def start(self) -> None:
        await asyncio.Event().wait()


async def test_closing_does_not_wait_for_a_job_that_never_starts() -> None:
    async with SpecCluster({0: WORKER}, SCHEDULER, worker={"cls": Stuck}, asynchronous=True) as cluster:
        scaling = cluster.scale(2)
        await async_poll_for(lambda: 1 in cluster.workers, 20)
    with pytest.raises(RuntimeError, match="was closed while workers started"):
        await scaling
    assert not cluster.workers


@pytest.mark.parametrize("spec", [{"options": {}}, {"cls": None}, "Worker", []])
def test_a_specification_without_class_is_refused(spec: Any) -> None:
    with pytest.raises(ValueError, match="specification of 'x' must be"):
        SpecCluster({"x": spec}, SCHEDULER)


def test_scaling_without_a_specification_of_new_workers_says_so() -> None:
    with SpecCluster({"x": WORKER}, SCHEDULER) as cluster, pytest.raises(ValueError, match="worker="):
        cluster.scale(2)


def test_a_scheduler_that_does_not_start_leaves_nothing() -> None:
    with pytest.raises(RuntimeError, match="the scheduler of SpecCluster did not start: No module") as caught:
        SpecCluster(scheduler={"cls": "nowhere.Scheduler"})
    assert isinstance(caught.value.__cause__, ImportError)


async def test_a_worker_that_was_lost_is_let_go_of_and_comes_back_when_asked_for() -> None:
    with dask.config.set({"distributed.deploy.lost-worker-timeout": "10ms"}):
        cluster = SpecCluster(
            {0: WORKER, 1: WORKER}, SCHEDULER, worker=WORKER, asynchronous=True, scheduler_sync_interval="10ms"
        )
        async with cluster:
            await async_poll_for(lambda: cluster._seen == {0, 1}, 20)
            await cluster.workers[0].close()
            await async_poll_for(lambda: cluster.requested == {1}, 20)
            assert cluster.plan == {0, 1}
            await cluster.scale(2)
            assert cluster.observed == {0, 1}


async def test_a_worker_that_dies_at_once_is_missed_as_one_that_lived() -> None:
    """The cluster is told, and does not have to have looked while the worker was there."""
    with dask.config.set({"distributed.deploy.lost-worker-timeout": "10ms"}):
        cluster = SpecCluster({0: WORKER, 1: WORKER}, SCHEDULER, asynchronous=True, scheduler_sync_interval="1h")
        async with cluster:
            await cluster.workers[0].close()
            await async_poll_for(lambda: cluster.requested == {1}, 20)
        assert not [name for name in cluster.scheduler.plugins if name.startswith("cluster-")]


async def test_a_job_is_lost_with_the_last_of_its_workers() -> None:
    job = {"cls": Job, "options": {"processes": 2}, "group": ["-0", "-1"]}
    with dask.config.set({"distributed.deploy.lost-worker-timeout": "10ms"}):
        async with SpecCluster({"j": job}, SCHEDULER, asynchronous=True, scheduler_sync_interval="1h") as cluster:
            first, second = await cluster.workers["j"].submitted
            assert cluster.observed == {"j-0", "j-1"}
            await first.close()
            await async_poll_for(lambda: cluster.observed == {"j-1"}, 20)
            assert list(cluster.workers) == ["j"]
            await second.close()
            await async_poll_for(lambda: not cluster.workers, 20)


class KnownScheduler(ProcessInterface):
    """One that others run: no more is known of it than its address."""

    def __init__(self, address: str) -> None:
        super().__init__()
        self.address = address


async def test_a_scheduler_elsewhere_tells_of_its_workers() -> None:
    async with (
        Scheduler(**LOCAL) as scheduler,
        SpecCluster(
            {0: WORKER, 1: WORKER},
            {"cls": KnownScheduler, "options": {"address": scheduler.address}},
            asynchronous=True,
            shutdown_scheduler=False,
            scheduler_sync_interval="1h",
        ) as cluster,
    ):
        with dask.config.set({"distributed.deploy.lost-worker-timeout": "10ms"}):
            async with Worker(scheduler.address, host="127.0.0.1", name="other"):
                await async_poll_for(lambda: cluster.observed == {0, 1, "other"}, 20)
            await cluster.workers[0].close()
            await async_poll_for(lambda: cluster.requested == {1} and cluster.observed == {1}, 20)


class OwnStart(SpecCluster):
    """As clusters of clouds: they find out how to make their machines as they start."""

    async def _start(self) -> None:
        while self.status is Status.starting:
            await asyncio.sleep(0.01)
        assert self.status is Status.created
        self.scheduler_spec = SCHEDULER
        self.new_spec = WORKER
        self.worker_spec = {"machine-0": WORKER}
        await super()._start()


async def test_a_start_of_ones_own() -> None:
    async with OwnStart(asynchronous=True) as cluster:
        assert cluster.status is Status.running
        assert cluster.observed == {"machine-0"}


class Connected(Cluster):
    """As clusters that others run: it knows an address, and how to call it."""

    def __init__(self, address: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.known_address = address

    async def _start(self) -> None:
        self._log("connecting")
        self.scheduler_comm = rpc(self.known_address)
        await super()._start()


async def test_a_cluster_that_only_has_calls_to_its_scheduler() -> None:
    async with (
        Scheduler(**LOCAL) as scheduler,
        Worker(scheduler.address, nthreads=1, host="127.0.0.1", name="w"),
        Connected(scheduler.address, asynchronous=True) as cluster,
    ):
        assert cluster.scheduler_address == scheduler.address
        assert cluster._cluster_manager_logs[-1][1] == "connecting"
        async with Client(cluster, asynchronous=True) as client:
            assert await client.submit(inc, 1) == 2
        assert cluster.observed == {"w"}


async def test_a_worker_that_its_nanny_starts_again_is_not_lost() -> None:
    options = {"cls": Nanny, "options": {"nthreads": 1, "host": "127.0.0.1"}}
    with dask.config.set({"distributed.deploy.lost-worker-timeout": "10ms"}):
        cluster = SpecCluster({0: options}, SCHEDULER, asynchronous=True, scheduler_sync_interval="10ms")
        async with cluster:
            await async_poll_for(lambda: cluster._seen == {0}, 20)
            nanny = cluster.workers[0]
            nanny._pause = 0.5  # as after several deaths: much longer than the cluster waits for lost workers
            first = nanny.worker_address
            nanny.process.kill_now()
            await async_poll_for(lambda: not cluster.observed, 20)
            assert nanny.is_starting_again
            await async_poll_for(lambda: cluster.observed == {0}, 20)
            assert cluster.workers[0] is nanny
            assert nanny.worker_address != first
            await async_poll_for(lambda: not nanny.is_starting_again, 20)


async def test_a_scheduler_elsewhere() -> None:
    class Elsewhere(ProcessInterface):
        """Knows no more than an address."""

        async def start(self) -> None:
            self.real = await Scheduler(**LOCAL)
            self.address = self.real.address
            await super().start()

        async def close(self) -> None:
            await self.real.close()
            await super().close()

    cluster = SpecCluster(
        {0: WORKER}, {"cls": Elsewhere}, worker=WORKER, asynchronous=True, scheduler_sync_interval="20ms"
    )
    async with cluster:
        assert cluster.scheduler_address == cluster.scheduler.address
        await cluster.wait_for_workers(1, timeout=20)
        await cluster.scale(2)
        await cluster.wait_for_workers(2, timeout=20)
        assert cluster.observed == {0, 1}
        logs = await cluster.get_logs()
        assert {"Cluster", "Scheduler"} < set(logs)
        assert len(logs) == 4
        async with Client(cluster, asynchronous=True) as client:
            assert await client.submit(inc, 1) == 2
        adaptive = cluster.adapt(minimum=0, interval="20ms", wait_count=1, worker_key=lambda worker: worker.address)
        await async_poll_for(lambda: not cluster.plan and not cluster.observed, 20)
        assert adaptive.log
    assert cluster.scheduler.real.status is Status.closed


async def test_a_scheduler_that_is_to_stay() -> None:
    cluster = SpecCluster({}, SCHEDULER, asynchronous=True, shutdown_scheduler=False)
    async with cluster:
        pass
    assert cluster.scheduler.status is Status.running
    await cluster.scheduler.close()


def test_logs_and_html() -> None:
    with SpecCluster({0: WORKER}, SCHEDULER, name="<b>") as cluster:
        logs = cluster.get_logs(workers=False)
        assert set(logs) == {"Cluster", "Scheduler"}
        assert "starting worker 0" in logs["Cluster"]
        assert "<summary>Scheduler</summary>" in logs._repr_html_()
        html = cluster._repr_html_()
        assert "&lt;b&gt;" in html
        assert cluster.scheduler_address in html
    assert "closed" in cluster._repr_html_()
    with pytest.raises(NotImplementedError, match="by name"):
        SpecCluster.from_name("x")


async def test_run_spec() -> None:
    async with Scheduler(**LOCAL) as scheduler:
        several = {name: {"cls": "headrace.Worker", "opts": {"host": "127.0.0.1"}} for name in "ab"}
        servers = await run_spec(several, scheduler.address)
        assert {worker.name for worker in scheduler.workers.values()} == set(servers) == {"a", "b"}
        await asyncio.gather(*[server.close() for server in servers.values()])
        (one,) = init_spec({"cls": "headrace.Worker", "opts": {"nthreads": 7}}, scheduler.address).values()
        assert one.nthreads == 7
        with pytest.raises(ValueError, match="specification"):
            init_spec({"a": {"opts": {}}})


async def test_process_interface() -> None:
    async with ProcessInterface("tcp://127.0.0.1:1", name="a") as process:
        assert process.status is Status.running
        assert "running" in repr(process)
        process.status = "paused"  # type: ignore[assignment]
        assert process.status is Status.paused
    assert process.status is Status.closed
    await process.finished()
