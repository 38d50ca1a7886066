"""Connections that break: workers come back with their results, clients find their futures again."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
import pytest

from headrace import Client, Scheduler, Worker
from headrace.client import FutureCancelledError
from headrace.exceptions import CommClosedError
from headrace.nanny import WorkerProcess
from headrace.protocol import Serialize
from headrace.rpc import rpc
from headrace.testing.helpers.polling import async_poll_for
from tests.integration.proxy import Proxy

from .conftest import PATIENCE, inc

gates: dict[str, threading.Event] = {}
runs: list[Any] = []


def wait_for_gate(name: str) -> str:
    """Runs in this process."""
    runs.append(name)
    assert gates[name].wait(PATIENCE)
    return name


def large(x: int) -> bytes:
    return bytes([x]) * 100_000


@pytest.fixture(autouse=True)
def gate() -> Iterator[threading.Event]:
    """What `wait_for_gate("gate")` waits for."""
    runs.clear()
    gates["gate"] = threading.Event()
    yield gates["gate"]
    gates["gate"].set()


async def until(condition: Any) -> None:
    await async_poll_for(condition, timeout=PATIENCE, period=0.005)


# Clients


async def test_questions_that_are_cut_off_are_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Scheduler(host="127.0.0.1", validate=True) as scheduler:
        with Proxy(scheduler.address) as proxy:
            asked: list[str] = []

            async def slow(op: str, answer: Any) -> Any:
                asked.append(op)
                if asked.count(op) == 1:
                    proxy.cut()
                    await asyncio.sleep(PATIENCE)
                return answer

            scheduler.server.handlers["who_has"] = lambda keys=None: slow("who_has", {"x": ["tcp://somewhere:1"]})
            scheduler.server.handlers["set_metadata"] = lambda **_: slow("set_metadata", None)
            async with Client(proxy.address, asynchronous=True) as client:
                assert dict(await client.who_has()) == {"x": ("tcp://somewhere:1",)}
                with pytest.raises(CommClosedError):
                    await client.set_metadata("x", 1)
            assert asked == ["who_has", "who_has", "set_metadata"]


async def test_a_client_finds_its_futures_again(gate: threading.Event) -> None:
    async with Scheduler(host="127.0.0.1", validate=True) as scheduler, Worker(scheduler.address, nthreads=2):
        with Proxy(scheduler.address) as proxy:
            async with Client(proxy.address, asynchronous=True) as client:
                small, big = client.submit(inc, 1), client.submit(large, 1)
                failed = client.submit(inc, "text")
                running, waiting = client.submit(wait_for_gate, "gate"), client.submit(inc, 10)
                await small
                await until(lambda: failed.status == "error" and big.status == "finished" and runs)
                events: list[Any] = []
                client._event_handlers["news"] = events.append
                scheduler.event_subscribers["news"] = {client.id}
                assert proxy.cut()
                await until(lambda: client.status == "running" and scheduler.client_comms)
                assert await big == large(1)
                gate.set()
                assert await running == "gate"
                assert await waiting == 11
                assert await small == 2
                assert failed.status == "error"
                assert runs == ["gate"]
                scheduler.log_event("news", 5)
                await until(lambda: events)
                assert isinstance(await failed.exception(), TypeError)
                for future in (small, big, failed, running, waiting):
                    future.release()
                await until(lambda: not scheduler.tasks)
            assert not scheduler.clients.keys() - {"fire-and-forget"}


async def test_what_is_submitted_while_the_connection_is_broken(gate: threading.Event) -> None:
    async with Scheduler(host="127.0.0.1", validate=True) as scheduler, Worker(scheduler.address, nthreads=2):
        with Proxy(scheduler.address) as proxy:
            async with Client(proxy.address, asynchronous=True) as client:
                kept, gone = client.submit(inc, 1, pure=False), client.submit(wait_for_gate, "gate")
                assert await kept == 2
                proxy.refuse = True
                proxy.cut()
                await until(lambda: client.status == "connecting")
                gone_key = gone.key
                await until(lambda: runs)
                gone.release()
                futures = client.map(inc, range(100))
                proxy.refuse = False
                assert await client.gather(futures) == list(range(1, 101))
                await until(lambda: gone_key not in scheduler.tasks)
                assert await kept == 2
                gate.set()


async def test_messages_that_were_on_their_way(gate: threading.Event) -> None:
    """Whether they have come or not: nothing is lost and nothing is done twice."""
    async with Scheduler(host="127.0.0.1", validate=True) as scheduler, Worker(scheduler.address, nthreads=2):
        with Proxy(scheduler.address) as proxy:
            async with Client(proxy.address, asynchronous=True) as client:
                for round_ in range(30):
                    futures = client.map(inc, range(round_ * 100, round_ * 100 + 100), pure=False)
                    more = client.submit(sum, futures)
                    if round_ % 3 == 1:
                        await asyncio.sleep(0)
                    elif round_ % 3 == 2:
                        await futures[0]
                    proxy.cut()
                    assert await client.gather(futures[:50]) == list(range(round_ * 100 + 1, round_ * 100 + 51))
                    assert await more == sum(range(round_ * 100 + 1, round_ * 100 + 101))
                del futures, more
                await until(lambda: not scheduler.tasks)
                session = client.session
                await until(lambda: len(session._delivery) < 20)


async def test_graphs_of_several_messages(gate: threading.Event) -> None:
    import dask.array as da

    async with Scheduler(host="127.0.0.1", validate=True) as scheduler, Worker(scheduler.address, nthreads=2):
        with Proxy(scheduler.address) as proxy:
            async with Client(proxy.address, asynchronous=True) as client:
                for _ in range(5):
                    x = da.ones((100, 100), chunks=(5, 5))
                    total = client.compute((x + x.T).sum())
                    await asyncio.sleep(0)
                    proxy.cut()
                    assert await total == 20_000


async def test_a_client_that_stays_away_is_forgotten(gate: threading.Event) -> None:
    with dask.config.set({"distributed.scheduler.client-reconnect-timeout": "100ms"}):
        scheduler = Scheduler(host="127.0.0.1", validate=True)
    async with scheduler, Worker(scheduler.address, nthreads=2):
        with Proxy(scheduler.address) as proxy:
            async with Client(proxy.address, asynchronous=True) as client:
                future, scattered = client.submit(inc, 1), await client.scatter(1)
                assert await future == 2
                proxy.refuse = True
                proxy.cut()
                await until(lambda: not scheduler.tasks)
                assert client.id not in scheduler.clients
                proxy.refuse = False
                with pytest.raises(FutureCancelledError, match="does not know this key"):
                    await scattered
                assert await future == 2  # it is here
                assert await client.submit(inc, 5) == 6


async def test_a_scheduler_that_is_gone_for_good(gate: threading.Event) -> None:
    async with Scheduler(host="127.0.0.1", validate=True) as scheduler, Worker(scheduler.address, nthreads=1):
        with Proxy(scheduler.address) as proxy:
            async with Client(proxy.address, asynchronous=True, timeout=0.5) as client:
                done, running = client.submit(inc, 1), client.submit(wait_for_gate, "gate")
                assert await done == 2
                proxy.refuse = True
                proxy.cut()
                start = time.monotonic()
                with pytest.raises(FutureCancelledError, match=r"scheduler-connection-lost(?s:.*)again within 0.5 s"):
                    await running
                assert time.monotonic() - start < PATIENCE
                gate.set()
                assert await done == 2
                with pytest.raises(Exception, match=r"could not be reached again within 0\.5 s"):
                    client.submit(inc, 3)


# Workers


async def test_a_worker_comes_back_with_its_results(gate: threading.Event) -> None:
    async with Scheduler(host="127.0.0.1", validate=True) as scheduler:
        with Proxy(scheduler.address) as proxy:
            async with (
                Worker(proxy.address, nthreads=2, validate=True) as worker,
                Client(scheduler.address, asynchronous=True) as client,
            ):
                counted = client.map(count_run, range(20))
                total = client.submit(sum, counted)
                assert await total == 190
                running = client.submit(wait_for_gate, "gate")
                queued = client.map(inc, range(50))
                scattered = await client.scatter({"here": 1})
                await until(lambda: "gate" in runs)
                first = scheduler.stream_comms[worker.address]
                proxy.cut()
                await until(lambda: scheduler.stream_comms.get(worker.address) not in (None, first))
                gate.set()
                assert await running == "gate"
                assert await client.gather(queued) == list(range(1, 51))
                assert await client.gather(counted) == list(range(20))
                assert sorted(run for run in runs if run != "gate") == list(range(20))
                assert await client.submit(inc, total) == 191
                assert set(worker.data) == set(scheduler.tasks)
                assert all(task.suspicious == 0 for task in scheduler.tasks.values())
                del scattered


async def test_data_is_not_freed_if_its_worker_registers_before_it_is_announced() -> None:
    async with Scheduler(host="127.0.0.1", validate=True) as scheduler:
        with Proxy(scheduler.address) as proxy:
            async with (
                Worker(proxy.address, nthreads=1, validate=True) as worker,
                Client(scheduler.address, asynchronous=True) as client,
            ):
                announce = scheduler.server.handlers["update_data"]

                async def announce_late(**news: Any) -> Any:
                    first = scheduler.stream_comms[worker.address]
                    proxy.cut()
                    await until(lambda: scheduler.stream_comms.get(worker.address) not in (None, first))
                    return announce(**news)

                scheduler.server.handlers["update_data"] = announce_late
                scattered = await client.scatter({"here": 1})
                assert await client.submit(inc, scattered["here"]) == 2
                assert await scattered["here"] == 1
                assert worker.data["here"] == 1


async def test_data_that_is_never_announced_is_freed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headrace.worker.scattered.LOOK_SECONDS", 0.01)
    async with (
        Scheduler(host="127.0.0.1", validate=True) as scheduler,
        Worker(scheduler.address, nthreads=1, validate=True) as worker,
        Client(scheduler.address, asynchronous=True) as client,
    ):
        known = await client.scatter({"known": 1})
        await scheduler.shell.worker_rpc(worker.address).update_data(data={"orphan": 2})
        assert set(worker.scattered.unsettled(worker.data)) == {"known", "orphan"}
        monkeypatch.setattr("headrace.worker.scattered.ANNOUNCE_SECONDS", 0.0)
        await until(lambda: set(worker.data) == {"known"})
        assert await known["known"] == 1
        await until(lambda: not worker.scattered.unsettled(worker.data))


def count_run(x: int) -> int:
    runs.append(x)
    return x


async def test_what_ran_meanwhile_is_not_thrown_away(gate: threading.Event) -> None:
    async with Scheduler(host="127.0.0.1", validate=True) as scheduler:
        with Proxy(scheduler.address) as proxy:
            async with (
                Worker(proxy.address, nthreads=1, validate=True) as worker,
                Client(scheduler.address, asynchronous=True) as client,
            ):
                running = client.submit(wait_for_gate, "gate")
                unwanted = client.submit(count_run, 1)
                await until(lambda: runs == ["gate"])
                proxy.refuse = True
                proxy.cut()
                await until(lambda: not scheduler.workers)
                gate.set()
                await until(lambda: running.key in worker.data)
                key = unwanted.key
                del unwanted
                await until(lambda: key not in scheduler.tasks)
                proxy.refuse = False
                assert await running == "gate"
                assert runs == ["gate"]


async def test_a_flaky_connection_does_not_make_tasks_suspect(gate: threading.Event) -> None:
    async with Scheduler(host="127.0.0.1", validate=True) as scheduler:
        with Proxy(scheduler.address) as proxy:
            async with (
                Worker(proxy.address, nthreads=1) as worker,
                Client(scheduler.address, asynchronous=True) as client,
            ):
                running = client.submit(wait_for_gate, "gate")
                await until(lambda: runs == ["gate"])
                for _ in range(8):
                    first = scheduler.stream_comms[worker.address]
                    proxy.cut()
                    await until(lambda first=first: scheduler.stream_comms.get(worker.address) not in (None, first))
                assert running.status != "error"
                gate.set()
                assert await running == "gate"
                assert runs == ["gate"]


async def test_a_worker_that_stays_away_makes_them_suspect(gate: threading.Event) -> None:
    async with Scheduler(host="127.0.0.1", validate=True, allowed_failures=0) as scheduler:
        with Proxy(scheduler.address) as proxy:
            async with (
                Worker(proxy.address, nthreads=1, death_timeout=60),
                Client(scheduler.address, asynchronous=True) as client,
            ):
                running = client.submit(wait_for_gate, "gate")
                await until(lambda: runs == ["gate"])
                proxy.refuse = True
                proxy.cut()
                with pytest.raises(Exception, match=r"1 workers died .* connection"):
                    await running
                gate.set()


async def test_fetching_over_a_connection_that_breaks(gate: threading.Event) -> None:
    async with Scheduler(host="127.0.0.1", validate=True) as scheduler:
        with Proxy() as proxy:
            async with (
                Worker(
                    scheduler.address, nthreads=1, host="127.0.0.1", contact_address=proxy.address, validate=True
                ) as far,
                Worker(scheduler.address, nthreads=1, validate=True),
                Client(scheduler.address, asynchronous=True) as client,
            ):
                proxy.target = far.server.address
                for n in range(10):
                    big = client.submit(large, n, workers=[proxy.address], pure=False)
                    user = client.submit(len, big, workers=[w for w in scheduler.workers if w != proxy.address])
                    await until(lambda big=big: big.status == "finished")
                    proxy.cut()
                    assert await user == 100_000
                    proxy.cut()
                    assert await big == large(n)


async def test_a_holder_that_stops_is_left_for_another_and_then_for_the_scheduler(tmp_path: Path) -> None:
    with dask.config.set({"distributed.scheduler.active-memory-manager.start": False}):  # it would drop the second copy
        scheduler = Scheduler(host="127.0.0.1", validate=True)
    async with (
        scheduler,
        WorkerProcess(
            {"scheduler_ip": scheduler.address, "name": "stops", "nthreads": 1, "local_directory": str(tmp_path)}
        ) as process,
        Worker(scheduler.address, name="a", nthreads=1, local_directory=str(tmp_path)) as a,
        Client(scheduler.address, asynchronous=True) as client,
    ):
        a.transfers.calls.first = client.session.calls.first = scheduler.shell.patient_calls.first = 0.3
        lonely = client.submit(large, 1, workers=["stops"], pure=False)
        await lonely
        assert process.pid is not None
        os.kill(process.pid, signal.SIGSTOP)
        try:
            user = client.submit(len, lonely, workers=["a"])
            asked = asyncio.ensure_future(client.gather(lonely))
            await until(lambda: process.address in a.transfers.calls._next and client.session.calls._next)
            async with Worker(scheduler.address, name="b", nthreads=1, local_directory=str(tmp_path)) as b:
                async with rpc(b.address) as proxy:
                    sizes = (await proxy.update_data(data={lonely.key: Serialize(large(1))}))["nbytes"]
                scheduler.state.add_data(None, {lonely.key: [b.address]}, sizes, {}, 0.0)
                scheduler.flush()
                assert await user == 100_000
                assert await asked == large(1)
        finally:
            os.kill(process.pid, signal.SIGCONT)
        assert await client.submit(inc, 1, workers=["stops"]) == 2
