"""The documented keywords, state and methods of a Worker, row by row; those of other topics have tests of their own."""

from __future__ import annotations

import asyncio
import json
import operator
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psutil
import pytest

from headrace import Client, Scheduler, Worker, get_worker
from headrace.testing.clusters import gen_cluster
from headrace.testing.helpers.polling import async_poll_for, wait_for_state
from tests.gate import Gate, hold

ONE = [("127.0.0.1", 1)]
TWO = [("127.0.0.1", 1)] * 2
NONE: list[Any] = []


# Keywords


@gen_cluster(nthreads=NONE)
async def test_how_the_scheduler_is_named(s: Scheduler) -> None:
    host, port = s.address.removeprefix("tcp://").split(":")
    for arguments in ((s.address,), (host, int(port)), (host, port), (f"{host}:{port}",)):
        async with Worker(*arguments, nthreads=1) as w:
            assert w.scheduler_address == s.address
            assert (await w.scheduler.identity())["id"] == s.id
    with pytest.raises(ValueError, match="name the scheduler"):
        Worker()


@gen_cluster(nthreads=NONE)
async def test_scheduler_file(s: Scheduler) -> None:
    import tempfile

    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(s.identity(), file)
        file.flush()
        async with Worker(scheduler_file=file.name) as w:
            assert w.scheduler_address == s.address


@gen_cluster(nthreads=NONE)
async def test_threads_name_and_directory(s: Scheduler) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as base:
        async with Worker(s.address, ncores=3, name="alice", local_dir=base) as w:
            assert w.nthreads == s.workers[w.address].nthreads == 3
            assert w.name == s.workers[w.address].name == "alice"
            assert os.path.dirname(w.local_directory) == base
            assert w.local_dir == w.local_directory
            assert os.path.isdir(w.local_directory)
            directory = w.local_directory
        assert not os.path.exists(directory)
        async with Worker(s.address, nthreads=2, local_directory=base) as w:
            assert w.name == w.address
            assert w.nthreads == 2
    with pytest.raises(ValueError, match="nthreads"):
        Worker(s.address, nthreads=-1)


@gen_cluster(nthreads=NONE)
async def test_memory_limit(s: Scheduler) -> None:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    async with Worker(s.address, nthreads=1, memory_limit="5GB") as w:
        assert w.memory_limit == s.workers[w.address].memory_limit == 5 * 10**9
    async with Worker(s.address, nthreads=1, memory_limit=0) as w:
        assert not w.memory_limit
    async with Worker(s.address, nthreads=1, memory_limit="auto") as one, Worker(s.address, nthreads=2 * cores) as all_:
        assert one.memory_limit is not None
        assert all_.memory_limit is not None
        assert one.memory_limit <= psutil.virtual_memory().total
        assert one.memory_limit == pytest.approx(all_.memory_limit / cores, rel=0.01)


@gen_cluster(nthreads=NONE, client=True)
async def test_executor_data_and_resources(c: Client, s: Scheduler) -> None:
    data: dict[Any, Any] = {}
    with ThreadPoolExecutor(1, thread_name_prefix="mine") as executor:
        async with Worker(s.address, executor=executor, data=data, resources={"GPU": 2}) as w:
            assert w.executor is executor
            assert w.total_resources == s.workers[w.address].resources == {"GPU": 2}
            future = c.submit(lambda: threading.current_thread().name, key="x")
            assert (await future).startswith("mine")
            assert set(data) == {"x"}
            assert w.data is data
            del future


@gen_cluster(nthreads=NONE)
async def test_where_it_listens_and_is_reached(s: Scheduler) -> None:
    async with Worker(s.address, host="127.0.0.1", protocol="tcp", contact_address=None) as w:
        assert w.address.startswith("tcp://127.0.0.1:")
        assert w.worker_address == w.address
    async with Worker(s.address, host="127.0.0.1", port="20000:60000") as w:
        assert 20000 <= w.port <= 60000


@gen_cluster(nthreads=NONE)
async def test_metrics_and_startup_information(s: Scheduler) -> None:
    metrics = {"answer": lambda worker: 42, "name_of": lambda worker: worker.name}
    information = {"pid": lambda worker: os.getpid()}
    async with Worker(s.address, name="alice", metrics=metrics, startup_information=information) as w:
        record = s.workers[w.address]
        assert record.extra == {"pid": os.getpid()}
        await async_poll_for(lambda: record.metrics.get("answer") == 42, 15)
        assert record.metrics["name_of"] == "alice"


@gen_cluster(nthreads=NONE)
async def test_keywords_that_are_accepted_and_those_that_are_not(s: Scheduler) -> None:
    accepted = {"loop": None, "services": None, "service_ports": None, "service_kwargs": None, "reconnect": None}
    async with Worker(
        s.address, **accepted, low_level_profiler=False, dashboard_address=None, validate=True, silence_logs=None
    ) as w:
        assert w.state.validate
    with pytest.raises(TypeError, match="nonsense"):
        Worker(s.address, nonsense=1)


async def test_death_timeout() -> None:
    worker = Worker("tcp://127.0.0.1:1", death_timeout="100 ms")
    with pytest.raises((TimeoutError, OSError)):
        await worker
    assert worker.status.name == "failed"


# Informational and volatile state


@gen_cluster(nthreads=ONE, client=True)
async def test_informational_state(c: Client, s: Scheduler, w: Worker) -> None:
    assert w.services == {"dashboard": w.http_server}
    assert w.service_ports == {"dashboard": w.http_server.port}
    assert w.total_out_connections == 50
    assert w.total_in_connections == 10
    assert w.total_comm_nbytes == 50_000_000
    assert w.batched_stream is not None
    assert w.batched_stream.peer_address
    await c.submit(abs, -1, key="x")
    assert w.story("x")
    assert len(w.log) > 0


@gen_cluster(nthreads=ONE, client=True)
async def test_what_runs_and_waits(c: Client, s: Scheduler, w: Worker) -> None:
    Gate.close()
    assert w.executing_count == w.executed_count == 0
    x = c.submit(hold, key="x")
    low = c.submit(abs, -1, key="low", priority=0)
    high = c.submit(abs, -2, key="high", priority=10)
    await async_poll_for(Gate.entered.is_set, 15)
    await wait_for_state("high", "ready", w)
    await wait_for_state("low", "ready", w)
    assert [task.key for _, _, task in sorted(w.ready)] == ["high", "low"], "highest priority first"
    assert w.executing_count == 1
    assert {task.key for task in w.executing} == {"x"}
    (thread,) = w.active_threads
    assert w.active_threads == {thread: "x"}
    assert w.threads == {"x": thread}
    assert w.task_state == {"x": "executing", "low": "ready", "high": "ready"}
    assert not w.long_running
    Gate.opened.set()
    assert await x == thread
    await c.gather([low, high])
    assert w.executed_count == 3
    assert w.executing_count == 0
    assert w.active_threads == w.threads == {}
    assert set(w.tasks) == set(w.data) == set(w.nbytes) == set(w.keys()) == {"x", "low", "high"}
    assert w.nbytes["low"] == s.tasks["low"].nbytes


@gen_cluster(nthreads=ONE, client=True, worker_kwargs={"resources": {"GPU": 1}})
async def test_constrained(c: Client, s: Scheduler, w: Worker) -> None:
    Gate.close()
    futures = [c.submit(hold, number, key=f"x-{number}", resources={"GPU": 1}) for number in range(2)]
    await async_poll_for(Gate.entered.is_set, 15)
    await wait_for_state("x-1", "constrained", w)
    assert w.constrained
    Gate.opened.set()
    await c.gather(futures)


@gen_cluster(nthreads=TWO, client=True)
async def test_data_on_their_way(c: Client, s: Scheduler, a: Worker, b: Worker) -> None:
    served = asyncio.Event()
    serve = a.server.handlers["get_data"]

    async def held(comm: Any, **kwargs: Any) -> Any:
        await served.wait()
        answer = serve(comm=comm, **kwargs)
        return await answer if asyncio.iscoroutine(answer) else answer

    a.server.handlers["get_data"] = held
    x = c.submit(abs, -1, key="x", workers=a.address)
    await x
    y = c.submit(operator.neg, x, key="y", workers=b.address)
    await wait_for_state("x", "flight", b)
    assert {task.key for task in b.in_flight_tasks} == {"x"}
    assert set(b.in_flight_workers) == {a.address}
    assert b.comm_bytes > 0
    assert b.waiting_for_data_count == 1
    assert b.has_what == {a.address: {b.tasks["x"]}}
    assert b.pending_data_per_worker.get(a.address, []) == []
    served.set()
    await y
    assert b.comm_bytes == b.waiting_for_data_count == 0
    assert not b.in_flight_tasks
    assert not b.in_flight_workers
    assert not b.data_needed


# Methods


@gen_cluster(nthreads=ONE, client=True)
async def test_current_task_and_executor(c: Client, s: Scheduler, w: Worker) -> None:
    assert await c.submit(lambda: get_worker().get_current_task(), key=("x", 1)) == ("x", 1)
    with pytest.raises(ValueError, match="not called from a task"):
        w.get_current_task()
    assert await w.executor_submit("key", operator.add, 1, 2) == 3
    assert await w.executor_submit("key", int, "11", base=2) == 3
    with pytest.raises(ZeroDivisionError):
        await w.executor_submit("key", operator.truediv, 1, 0)
    await w.memory_monitor()
    assert w.status.name == "running"


@gen_cluster(nthreads=TWO, client=True)
async def test_close_gracefully_moves_data_first(c: Client, s: Scheduler, a: Worker, b: Worker) -> None:
    x = c.submit(abs, -5, key="x", workers=a.address, allow_other_workers=True)
    await x
    await a.close_gracefully()
    assert a.status.name == "closed"
    assert set(s.workers) == {b.address}
    assert set(b.data) == {"x"}
    assert await x == 5
    assert [line.finish for line in s.story("x")].count("processing") == 1, "it was not computed again"


@gen_cluster(nthreads=TWO, client=True)
async def test_close(c: Client, s: Scheduler, a: Worker, b: Worker) -> None:
    finished = asyncio.ensure_future(a.finished())
    assert await a.close(reason="enough") == "OK"
    await finished
    assert a.close_reason == "enough"
    await async_poll_for(lambda: set(s.workers) == {b.address}, 15)
    assert await a.close() == "OK"


@gen_cluster(nthreads=ONE)
async def test_identity_and_repr(s: Scheduler, w: Worker) -> None:
    identity = w.identity()
    assert identity["type"] == "Worker"
    assert identity["scheduler"] == s.address
    assert identity["address"] == w.address
    assert identity["nthreads"] == 1
    assert w.address in repr(w)
    w.validate_state()
