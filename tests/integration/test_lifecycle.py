"""Scheduler files, idle and death timeouts, lifetimes, extensions, and workers' resources: servers in one process."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path
from typing import Any

import dask
import pytest

from headrace import Client, Nanny, Scheduler, Status, Worker
from headrace.exceptions import NoValidWorkerError, NoWorkerError
from headrace.rpc import slow_waits
from headrace.testing.clusters import gen_cluster, gen_test
from headrace.testing.helpers.polling import async_poll_for


def inc(x: int) -> int:
    return x + 1


@gen_test()
async def test_everybody_finds_the_scheduler_by_its_file(tmp_path: Path) -> None:
    path = str(tmp_path / "scheduler.json")
    worker = Worker(scheduler_file=path, name="early")
    nanny = Nanny(scheduler_file=path, name="nanny", nthreads=1)
    client = Client(scheduler_file=path, asynchronous=True)
    starting = [asyncio.ensure_future(thing.start()) for thing in (worker, nanny)]
    starting.append(asyncio.ensure_future(client._wait_started()))
    async with Scheduler(host="127.0.0.1", port=0, scheduler_file=path) as scheduler:
        assert json.loads(Path(path).read_text())["address"] == scheduler.address
        await asyncio.gather(*starting)
        assert {state.name for state in scheduler.workers.values()} == {"early", "nanny"}
        assert await client.submit(inc, 1) == 2
        await client.close()
        await asyncio.gather(worker.close(), nanny.close())
    assert not list(tmp_path.glob("scheduler.json*"))


@gen_test()
async def test_a_scheduler_leaves_the_file_of_its_successor(tmp_path: Path) -> None:
    path = tmp_path / "scheduler.json"
    async with Scheduler(host="127.0.0.1", port=0, scheduler_file=str(path)):
        async with Scheduler(host="127.0.0.1", port=0, scheduler_file=str(path)) as second:
            assert json.loads(path.read_text())["id"] == second.id
        assert not path.exists()
    path.write_text("{}")
    with pytest.raises(ValueError, match="names no address"):
        Worker(scheduler_file=str(path))


@gen_test()
async def test_nobody_waits_longer_than_the_time_allows(tmp_path: Path) -> None:
    path = str(tmp_path / "never.json")
    with pytest.raises(TimeoutError, match=r"never\.json"):
        await Worker(scheduler_file=path, death_timeout=0.2)
    with pytest.raises(TimeoutError, match=r"never\.json"):
        await Nanny(scheduler_file=path, death_timeout=0.2)
    with pytest.raises(OSError, match=r"never\.json"):
        await Client(scheduler_file=path, timeout=0.2, asynchronous=True)
    with pytest.raises(TimeoutError, match=r"127\.0\.0\.1:1"):
        await Worker("tcp://127.0.0.1:1", death_timeout="200 ms")


@gen_test()
async def test_whoever_waits_for_the_scheduler_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(slow_waits, "NOTICE_SECONDS", 0)
    caplog.set_level("INFO", "distributed")
    for waiting in (Worker, Nanny):
        with pytest.raises((TimeoutError, RuntimeError)):
            await waiting("tcp://127.0.0.1:1", death_timeout="300 ms")
        assert "Waiting for the scheduler at tcp://127.0.0.1:1 to answer, for 0 s at most" in caplog.text
        caplog.clear()
    with pytest.raises(TimeoutError):
        await Worker(scheduler_file=str(tmp_path / "never.json"), death_timeout="300 ms")
    assert caplog.text.count("Waiting for the scheduler file") == 1


@gen_test()
async def test_an_idle_scheduler_closes() -> None:
    async with Scheduler(host="127.0.0.1", port=0, idle_timeout="200 ms") as scheduler:
        assert scheduler.idle_timeout == 0.2
        await scheduler.finished()
    async with Scheduler(host="127.0.0.1", port=0) as scheduler:
        assert scheduler.idle_timeout is None
        assert "idle-timeout" not in scheduler.periodic_callbacks
    with dask.config.set({"distributed.scheduler.idle-timeout": "1 hour"}):
        assert Scheduler(port=0).idle_timeout == 3600
    with pytest.raises(ValueError, match="idle-timeout"):
        Scheduler(port=0, idle_timeout="soon")


@gen_cluster(client=True, nthreads=[("127.0.0.1", 1)], scheduler_kwargs={"idle_timeout": "1 hour"})
async def test_work_is_not_idleness(c: Client, s: Scheduler, a: Worker) -> None:
    s.check_idle()
    assert s.check_idle() is not None
    assert s.idle_since is not None
    await c.submit(inc, 1)
    assert s.check_idle() is None  # something has happened since the last look
    assert s.check_idle() is not None
    waiting = c.submit(inc, 2, workers="nowhere")
    await async_poll_for(lambda: bool(s.unrunnable), timeout=10)
    assert s.check_idle() is None
    assert s.check_idle() is None
    s.idle_timeout = 0
    assert s.check_idle() is None
    del waiting
    await async_poll_for(lambda: not s.unrunnable, timeout=10)
    await async_poll_for(lambda: s.check_idle() is not None, timeout=10)
    s.check_idle()
    await s.finished()


@gen_cluster(nthreads=[("127.0.0.1", 1)])
async def test_a_worker_leaves_at_the_end_of_its_lifetime(s: Scheduler, a: Worker) -> None:
    worker = await Worker(s.address, name="short", lifetime="100 ms", lifetime_stagger="20 ms")
    assert worker.life.seconds is not None
    assert 0.08 <= worker.life.seconds <= 0.12
    await worker.finished()
    assert worker.close_reason == "worker-lifetime-reached"
    assert "short" not in s.aliases
    with dask.config.set(
        {"distributed.worker.lifetime.duration": "1 hour", "distributed.worker.lifetime.restart": True}
    ):
        configured = Worker(s.address)
    assert configured.life.seconds == 3600
    assert configured.life.restart
    with pytest.raises(ValueError, match="negative"):
        Worker(s.address, lifetime=-1)


@gen_cluster(client=True, nthreads=[("127.0.0.1", 1), ("127.0.0.1", 1)])
async def test_nothing_is_lost_when_a_worker_leaves_gracefully(c: Client, s: Scheduler, a: Worker, b: Worker) -> None:
    futures = c.map(inc, range(10), workers=a.address)
    await c.gather(futures)
    log = s.transition_counter
    await a.close_gracefully()
    assert set(b.data) == {future.key for future in futures}
    assert s.transition_counter == log


@gen_cluster(nthreads=[])
async def test_a_nanny_starts_another_after_a_lifetime(s: Scheduler, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "distributed.nanny")
    async with Nanny(s.address, name="again", nthreads=1, lifetime="300 ms", lifetime_restart=True) as nanny:
        first = nanny.pid
        await async_poll_for(lambda: nanny.pid != first and "again" in s.aliases, timeout=25)
    assert "again" not in s.aliases
    assert f"Worker process {first} ended: " in caplog.text
    assert "died" not in caplog.text  # it was meant to end


@gen_cluster(nthreads=[])
async def test_a_nanny_ends_with_its_workers_lifetime(s: Scheduler) -> None:
    nanny = await Nanny(s.address, nthreads=1, lifetime="300 ms")
    await nanny.finished()
    assert not s.workers


def computed(path: str) -> int:
    """Leaves a line each time it runs."""
    with open(path, "a") as file:
        file.write("computed\n")
    return 42


def end_lifetime(dask_worker: Worker) -> None:
    dask_worker.life._over()


@gen_cluster(client=True, nthreads=[])
async def test_nothing_is_computed_again_when_all_lifetimes_end_at_once(
    c: Client, s: Scheduler, tmp_path: Path
) -> None:
    path = tmp_path / "runs"
    options = {"nthreads": 1, "lifetime": "1 hour", "lifetime_restart": True}
    async with Nanny(s.address, name="a", **options) as a, Nanny(s.address, name="b", **options) as b:
        first = {a.pid, b.pid}
        futures = [c.submit(computed, str(path), workers=name, key=name, allow_other_workers=True) for name in "ab"]
        await c.gather(futures)
        await c.run(end_lifetime)
        await async_poll_for(
            lambda: not first & {a.pid, b.pid} and {"a", "b"} <= {w.name for w in s.workers.values()}, timeout=25
        )
        assert await c.gather(futures) == [42, 42]
        assert path.read_text() == 2 * "computed\n"


@gen_cluster(client=True, nthreads=[])
async def test_the_last_worker_waits_for_somebody_to_take_its_results(c: Client, s: Scheduler) -> None:
    last = await Worker(s.address, name="last", lifetime="200 ms")
    future = c.submit(inc, 1)
    await future
    await async_poll_for(
        lambda: s.parts.departures.about_to_leave() == {s.workers[last.address]} and bool(s.parts.departures._line),
        timeout=10,
    )
    assert last.status.name == "running"
    log = s.transition_counter
    async with Worker(s.address, name="next") as other:
        await last.finished()
        assert set(other.data) == {future.key}
        assert s.transition_counter == log


class Beating:
    """An extension on both sides."""

    def __init__(self, server: Any) -> None:
        self.server = server
        self.heard: list[Any] = []

    def heartbeat(self, *args: Any) -> Any:
        self.heard.append(args)
        return {"said": 1}

    async def close(self) -> None:
        self.heard.append("closed")


class Broken:
    def __init__(self, server: Any) -> None:
        pass

    def close(self) -> None:
        raise ValueError("broken at its end")

    def heartbeat(self) -> None:
        raise ValueError("broken extension")


@pytest.mark.parametrize("protocol", ["tcp", "inproc"])
async def test_the_scheduler_is_closed_after_shutdown(protocol: str) -> None:
    host = {"host": "127.0.0.1"} if protocol == "tcp" else {}
    async with (
        Scheduler(protocol=protocol, port=0, dashboard_address=None, **host) as scheduler,
        Worker(scheduler.address) as worker,
        Client(scheduler.address, asynchronous=True) as client,
    ):
        assert await client.submit(inc, 1) == 2
        await client.shutdown()
        assert scheduler.status is Status.closed
        await worker.finished()


@gen_cluster(nthreads=[], scheduler_kwargs={"extensions": {"beating": Beating}})
async def test_extensions(s: Scheduler) -> None:
    async with Worker(s.address, extensions={"broken": Broken, "beating": Beating}) as worker:
        extension = s.extensions["beating"]
        assert extension.server is s
        assert worker.extensions["beating"].server is worker
        await async_poll_for(lambda: bool(extension.heard), timeout=10)
        state, said = extension.heard[0]
        assert (state.address, said) == (worker.address, {"said": 1})
    assert worker.extensions["beating"].heard[-1] == "closed"


@gen_cluster(client=True, nthreads=[("127.0.0.1", 1)], config={"distributed.scheduler.no-workers-timeout": "200 ms"})
async def test_tasks_that_no_worker_may_run_err(c: Client, s: Scheduler, a: Worker) -> None:
    waiting = c.submit(inc, 1, workers=["nowhere", "tcp://1.2.3.4:5"], resources={"GPU": 1}, key="waiting")
    with pytest.raises(NoValidWorkerError) as caught:
        await waiting
    error = caught.value
    assert (error.task, error.timeout) == ("waiting", 0.2)
    assert error.host_restrictions == {"nowhere"}
    assert error.worker_restrictions == {"tcp://1.2.3.4:5"}
    assert error.resource_restrictions == {"GPU": 1}
    assert "nowhere" in str(error)
    await a.close()
    with pytest.raises(NoWorkerError, match="no worker was running"):
        await c.submit(inc, 1, key="alone")


@gen_cluster(client=True, nthreads=[("127.0.0.1", 2, {"resources": {"A": 1}}), ("127.0.0.1", 2)])
async def test_resources(c: Client, s: Scheduler, a: Worker, b: Worker) -> None:
    with dask.annotate(resources={"A": 1}):
        first = c.map(inc, range(3))
    assert await c.gather(first) == [1, 2, 3]
    assert set(a.data) == {future.key for future in first}
    future = c.submit(inc, 1, resources={"A": 2, "B": 1}, pure=False)
    await async_poll_for(lambda: bool(s.unrunnable), timeout=10)
    await b.set_resources(A=2, B=1)
    assert s.workers[b.address].resources == {"A": 2, "B": 1}
    assert s.resources == {"A": {a.address: 1, b.address: 2}, "B": {b.address: 1}}
    assert await future == 2
    assert future.key in b.data
    with pytest.raises(ValueError, match="cannot have"):
        s.add_resources(b.address, {"A": -1})
    with pytest.raises(ValueError, match="no worker"):
        s.add_resources("tcp://1.2.3.4:5", {"A": 1})


@gen_cluster(client=True, nthreads=[("127.0.0.1", 4)], config={"distributed.worker.resources": {"A": 2}})
async def test_resources_are_never_exceeded(c: Client, s: Scheduler, a: Worker) -> None:
    assert s.workers[a.address].resources == {"A": 2}
    lowest: list[float] = []

    class Watch:
        def transition(self, key: Any, start: str, finish: str, **kwargs: Any) -> None:
            lowest.append(a.state.available_resources["A"])
            state = s.workers[a.address]
            assert state.used_resources["A"] <= state.resources["A"]

    a.plugins["watch"] = Watch()
    a.watch_transitions()
    assert await c.gather(c.map(inc, range(30), resources={"A": 1})) == list(range(1, 31))
    assert min(lowest) == 0
    assert a.state.available_resources == {"A": 2}


@gen_cluster(client=True, nthreads=[("127.0.0.1", 1)])
async def test_an_unknown_executor_is_an_error_of_the_task(c: Client, s: Scheduler, a: Worker) -> None:
    with dask.annotate(executor="nope"):
        future = c.submit(inc, 1, key="the-task")
    with pytest.raises(ValueError, match=r"nope.*the-task.*default.*offload"):
        await future
    with dask.annotate(executor="offload"):
        assert await c.submit(inc, 1, key="offloaded") == 2
    assert "offload" in a.executors


@gen_cluster(client=True, nthreads=[("127.0.0.1", 1, {"name": "alice"}), ("127.0.0.1", 1, {"name": "bob"})])
async def test_restrictions_of_all_kinds(c: Client, s: Scheduler, a: Worker, b: Worker, caplog: Any) -> None:
    caplog.set_level(logging.ERROR)
    host, _, port = b.address.removeprefix("tcp://").rpartition(":")
    for name in ("bob", ["bob"], b.address, b, (host, int(port)), f"{host}:{port}", {"bob"}):
        future = c.submit(inc, 1, workers=name, pure=False)
        await future
        assert future.key in b.data, name
    values = dask.delayed(inc)(1), dask.delayed(inc)(2)
    for future in c.compute(values, workers="bob"):
        await future
        assert future.key in b.data
    with dask.annotate(workers=["alice"]):
        kept = dask.delayed(inc)(10)
        persisted = c.persist(kept)
    (key,) = persisted.__dask_keys__()
    await c.compute(persisted)
    assert [worker.address for worker in s.tasks[key].who_has] == [a.address]
    loose = c.submit(inc, 5, workers="nobody", allow_other_workers=True, pure=False)
    assert await loose == 6
    with pytest.raises(ValueError, match="allow_other_workers"):
        c.submit(inc, 1, allow_other_workers=True)
