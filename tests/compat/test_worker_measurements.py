"""What a Worker tells of its transfers, its tasks and its machine, by the documented names."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import dask
import pytest

from headrace import Client, Scheduler, Worker, wait
from headrace.testing.clusters import gen_cluster
from headrace.testing.helpers.polling import async_poll_for
from tests.gate import Gate, hold

TWO = [("127.0.0.1", 1)] * 2


@gen_cluster(nthreads=TWO, client=True)
async def test_transfers_are_logged_at_both_ends(c: Client, s: Scheduler, a: Worker, b: Worker) -> None:
    x = c.submit(bytes, 2_000_000, key="x", workers=[a.address])
    await c.submit(len, x, workers=[b.address])
    await async_poll_for(lambda: a.transfer_outgoing_log and b.transfer_incoming_log, timeout=10)
    (sent,), (received,) = a.transfer_outgoing_log, b.transfer_incoming_log
    assert (sent["who"], received["who"]) == (b.address, a.address)
    size = s.tasks["x"].nbytes
    for transfer in (sent, received):
        assert transfer["keys"] == {"x": size}
        assert transfer["total"] == size
        assert transfer["start"] <= transfer["middle"] <= transfer["stop"]
        assert transfer["duration"] == pytest.approx(transfer["stop"] - transfer["start"], abs=1e-3)
        assert transfer["bandwidth"] == pytest.approx(size / transfer["duration"])
    assert "compressed" in sent
    assert "compressed" not in received
    assert (a.transfer_outgoing_count, a.transfer_outgoing_count_total) == (0, 1)
    assert (a.transfer_outgoing_bytes, a.transfer_outgoing_bytes_total) == (0, size)
    assert b.digests_total["transfer-duration"] > 0
    assert b.digests is None
    b.transfer_incoming_log.clear()
    assert not b.transfer_incoming_log


@gen_cluster(nthreads=TWO, client=True, worker_kwargs={"heartbeat_interval": "1 hour"})
async def test_bandwidth_by_peer_and_type(c: Client, s: Scheduler, a: Worker, b: Worker) -> None:
    assert b.bandwidth == 100e6
    x = c.submit(bytes, 2_000_000, workers=[a.address])
    await c.submit(len, x, workers=[b.address])
    total, count = b.bandwidth_workers[a.address]
    assert count == 1
    assert b.bandwidth_types == {"bytes": (total, 1)}
    assert b.bandwidth_workers["nobody"] == (0, 0)
    assert b.bandwidth == pytest.approx(100e6 + 0.05 * (total - 100e6))
    b.bandwidth = 5
    assert b.bandwidth == 5


@gen_cluster(nthreads=TWO, client=True, worker_kwargs={"metrics": {"mine": repr}})
async def test_what_runs_now(c: Client, s: Scheduler, a: Worker, b: Worker) -> None:
    Gate.close()
    f = c.submit(hold, key="f", workers=[a.address])
    await async_poll_for(Gate.entered.is_set, timeout=15)
    assert a.active_keys == {"f"}
    assert not b.active_keys
    Gate.opened.set()
    await f
    await async_poll_for(lambda: not a.active_keys, timeout=10)
    assert a.execution_state["worker"] is a
    assert a.execution_state["scheduler"] == s.address
    assert a.metrics == {"mine": repr}
    assert a.latency > 0
    assert a.scheduler_delay == 0
    assert a.thread_id == b.thread_id == s.thread_id
    a.transfer_outgoing_count_limit = 3
    assert a.transfers.incoming_limit == 3


@gen_cluster(nthreads=TWO, client=True)
async def test_readings_of_the_machine(c: Client, s: Scheduler, a: Worker, b: Worker) -> None:
    told: dict[str, Any] = await s.get_worker_monitor_info()
    assert told.keys() == {a.address, b.address}
    readings = told[a.address]["range_query"]
    assert {"cpu", "memory", "time", "num_fds", "host_net_io.read_bps", "host_disk_io.write_bps"} <= readings.keys()
    assert {len(values) for values in readings.values()} == {told[a.address]["count"]}
    assert told[a.address]["last_time"] <= a.monitor.last_time
    recent = a.get_monitor_info(recent=True)["range_query"]
    assert recent == a.monitor.recent()
    metrics = await a.get_metrics()
    assert metrics["host_net_io"].keys() == {"read_bps", "write_bps"}
    assert metrics["num_fds"] > 0
    assert s.monitor.count == 1
    assert s.monitor is s.monitor


@gen_cluster(nthreads=[("127.0.0.1", 1)], worker_kwargs={"lifetime": "1 hour", "lifetime_restart": True})
async def test_a_lifetime_is_a_number(s: Scheduler, w: Worker) -> None:
    assert w.lifetime == 3600
    assert w.lifetime_restart is True
    w.lifetime_restart = False
    assert w.life.restart is False
    async with Worker(s.address, host="127.0.0.1") as other:
        assert other.lifetime is None
        assert other.lifetime_restart is False
        assert len(other.preloads) == 0


def thread_name() -> str:
    return threading.current_thread().name


class Place:
    """An actor that says where it runs."""

    def name(self) -> str:
        return thread_name()


@gen_cluster(nthreads=TWO, client=True)
async def test_executors_that_every_worker_has(c: Client, s: Scheduler, a: Worker, b: Worker) -> None:
    assert a.low_level_profiler is False
    assert set(a.executors) == {"default", "offload", "actor"}
    a.executors["mine"] = a.executors["offload"]
    with dask.annotate(executor="mine", workers=a.address):
        assert "Offload" in await c.submit(thread_name)
    place = await c.submit(Place, actor=True, workers=b.address)
    with dask.annotate(executor="actor", workers=b.address):
        assert await c.submit(thread_name) == await place.name()


@gen_cluster(nthreads=TWO, client=True, config={"distributed.comm.compression": "zlib"})
async def test_what_transfers_take(c: Client, s: Scheduler, a: Worker, b: Worker) -> None:
    x = c.submit(bytes, 2_000_000, key="x", workers=[a.address])
    await c.submit(len, x, key="len-1", workers=[b.address])
    await async_poll_for(lambda: a.transfer_outgoing_log, timeout=10)
    (sent,) = a.transfer_outgoing_log
    assert 0 < sent["compressed"] < sent["total"]
    served = {name[1:]: value for name, value in a.digests_total.items() if name[0] == "get-data"}
    assert served.keys() == {
        ("memory-read", "count"),
        ("memory-read", "bytes"),
        ("serialize", "seconds"),
        ("compress", "seconds"),
        ("network", "seconds"),
    }
    assert (served["memory-read", "count"], served["memory-read", "bytes"]) == (1, sent["total"])
    fetched = {name[1:] for name in b.digests_total if name[0] == "gather-dep"}
    assert fetched == {("network", "seconds"), ("deserialize", "seconds"), ("other", "seconds")}
    assert b.digests_total["execute", None, "len", "memory-read", "bytes"] == sent["total"]
    assert ("execute", "len", "memory-read", "bytes") in b.digests_total_since_heartbeat
    await a.heartbeat()
    assert s.cumulative_worker_metrics["get-data", "memory-read", "bytes"] >= sent["total"]
    assert s.cumulative_worker_metrics["latency"] > 0


@gen_cluster(
    nthreads=TWO,
    client=True,
    worker_kwargs={"memory_limit": "1 GB"},
    config={"distributed.worker.memory.target": 0.0001, "distributed.worker.memory.spill-compression": "zlib"},
)
async def test_what_spilling_takes(c: Client, s: Scheduler, a: Worker, b: Worker) -> None:
    x = c.submit(bytes, 2_000_000, key="x", workers=[a.address])
    await c.submit(len, x, key="len-1", workers=[a.address])
    await async_poll_for(lambda: "x" in a.data.slow, timeout=10)
    before = dict(a.data.cumulative_metrics)
    assert before["disk-write", "count"] >= 1
    assert a.digests_total["memory-monitor", "disk-write", "bytes"] == before["disk-write", "bytes"]
    assert {("serialize", "seconds"), ("compress", "seconds"), ("disk-write", "seconds")} <= before.keys()
    await c.submit(hash, x, key="hash-1", workers=[a.address])
    spent = a.data.cumulative_metrics
    name = ("execute", None, "hash")
    assert a.digests_total[(*name, "disk-read", "count")] == 1
    assert 0 < a.digests_total[(*name, "disk-read", "bytes")] < 2_000_000
    assert {(*name, "decompress", "seconds"), (*name, "deserialize", "seconds")} <= a.digests_total.keys()
    assert spent["disk-read", "count"] == before.get(("disk-read", "count"), 0) + 1
    assert (*name, "memory-read", "count") not in a.digests_total


@gen_cluster(client=True, nthreads=[("127.0.0.1", 1)])
async def test_runs_that_end_otherwise(c: Client, s: Scheduler, a: Worker) -> None:
    async def sleeping() -> None:
        await asyncio.sleep(0)

    Gate.close()
    held = c.submit(hold, key="held-1")
    await async_poll_for(Gate.entered.is_set, timeout=15)
    await held.cancel()
    await async_poll_for(lambda: a.state.tasks["held-1"].state == "cancelled", timeout=10)
    Gate.opened.set()
    await c.submit(sleeping, key="sleeping-1")
    await wait(c.submit(divmod, 1, 0, key="failing-1"))
    names = {(name[2], name[3]) for name in a.digests_total if name[0] == "execute"}
    assert ("held", "cancelled") in names
    assert ("failing", "failed") in names
    assert ("sleeping", "thread-noncpu") in names
    assert ("sleeping", "thread-cpu") not in names


@gen_cluster(client=True, nthreads=[("127.0.0.1", 1)])
async def test_operations_are_counted(c: Client, s: Scheduler, a: Worker) -> None:
    counter = s.counters["op"]
    asked = counter.components[0]["identity"]
    await c.scheduler.identity()
    assert counter.components[0]["identity"] == asked + 1
    before = counter.size()
    counter.shift()
    assert counter.components[0]["identity"] == pytest.approx(0.8 * (asked + 1))
    assert counter.components[1]["identity"] > 0
    assert counter.size() == pytest.approx(before)
    assert a.counters["op"].size() >= 0
    assert s.workers[a.address].metrics["event_loop_interval"] > 0
    assert (await a.get_metrics())["event_loop_interval"] > 0


@gen_cluster(nthreads=[])
async def test_metrics_of_asynchronous_functions(s: Scheduler) -> None:
    count = 0

    async def ask(worker: Worker) -> int:
        nonlocal count
        await asyncio.sleep(0)
        count += 1
        return count

    async with Worker(s.address, metrics={"asked": ask}) as worker:
        assert (await worker.get_metrics())["asked"] >= 1
        await worker.heartbeat()
        assert s.workers[worker.address].metrics["asked"] >= 2


@gen_cluster(nthreads=[])
async def test_a_worker_closes_while_a_metric_is_read(s: Scheduler) -> None:
    begun = asyncio.Event()

    async def ask(worker: Worker) -> None:
        begun.set()
        await asyncio.Event().wait()

    async with Worker(s.address, metrics={"asked": ask}) as worker:
        await begun.wait()
        assert "asked" not in worker.measured.read()
