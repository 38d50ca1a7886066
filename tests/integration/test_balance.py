"""Balance on real workers within one event loop: stealing, copies, and workers that are retired."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from headrace.common.status import Status
from headrace.exceptions import UnknownWorkerError
from headrace.extensions.stealing.scheduler import StealingExtension
from headrace.testing.clusters import gen_cluster
from headrace.testing.helpers.polling import async_poll_for
from headrace.testing.helpers.sample_functions import inc

FOUR = [("127.0.0.1", 1)] * 4
QUICK = {"distributed.scheduler.work-stealing-interval": "20ms"}
NO_STEALING = {"distributed.scheduler.work-stealing": False}
NO_AMM = {"distributed.scheduler.active-memory-manager.start": False}


def slow(value: Any, seconds: float = 0.01) -> Any:
    time.sleep(seconds)
    return value


class Gate:
    """Tasks of this process that wait until it is opened."""

    def __init__(self) -> None:
        self.runs: list[Any] = []
        self.opened = threading.Event()


GATES: dict[str, Gate] = {}


def held_up(value: Any, gate: str) -> Any:
    GATES[gate].runs.append(value)
    GATES[gate].opened.wait(10)
    return value


# Stealing


@gen_cluster(client=True, nthreads=FOUR, config=QUICK)
async def test_tasks_that_all_start_on_one_worker_are_evened_out(c: Any, s: Any, *workers: Any) -> None:
    first = workers[0].address
    futures = c.map(slow, range(200), workers=[first], allow_other_workers=True)
    assert await c.gather(futures) == list(range(200))
    held = [len(s.workers[worker.address].has_what) for worker in workers]
    assert sum(held) == 200
    assert min(held) > 20


@gen_cluster(client=True, nthreads=FOUR, config=QUICK)
async def test_strict_restrictions_hold(c: Any, s: Any, *workers: Any) -> None:
    first, second = workers[0].address, workers[1].address
    futures = c.map(slow, range(100), workers=[first, second])
    await c.gather(futures)
    assert {w.address for f in futures for w in s.tasks[f.key].who_has} <= {first, second}


@gen_cluster(client=True, nthreads=FOUR, config=QUICK)
async def test_what_was_stolen_is_logged(c: Any, s: Any, *workers: Any) -> None:
    futures = c.map(slow, range(100), workers=[workers[0].address], allow_other_workers=True)
    await c.gather(futures)
    stealing = s.extensions["stealing"]
    assert isinstance(stealing, StealingExtension)
    moved = next(f.key for f in futures if s.workers[workers[0].address] not in s.tasks[f.key].who_has)
    assert [line[0] for line in stealing.story(moved)] == ["request", "confirm"]
    assert s.get_events("stealing")
    assert not stealing.in_flight


@gen_cluster(client=True, nthreads=FOUR, config={**QUICK, **NO_STEALING})
async def test_it_can_be_switched_off(c: Any, s: Any, *workers: Any) -> None:
    futures = c.map(slow, range(60), workers=[workers[0].address], allow_other_workers=True)
    await c.gather(futures)
    assert len(s.workers[workers[0].address].has_what) == 60
    assert not s.get_events("stealing")


@gen_cluster(client=True, nthreads=FOUR[:2], config=NO_STEALING)
async def test_a_pausing_worker_gives_back_what_it_has_not_started(c: Any, s: Any, a: Any, b: Any) -> None:
    gate = GATES["pausing"] = Gate()
    others = {"workers": [a.address], "allow_other_workers": True}
    held = c.submit(held_up, 0, gate="pausing", **others)
    await async_poll_for(lambda: gate.runs == [0], 5)
    futures = c.map(inc, range(20), **others)
    fixed = c.submit(inc, -1, workers=[a.address])
    await async_poll_for(lambda: len(s.workers[a.address].processing) == 22, 5)
    a.set_status(Status.paused)
    try:
        assert await asyncio.wait_for(c.gather(futures), 10) == list(range(1, 21))
        assert {future.key for future in futures} <= b.data.keys()
        assert {task.key for task in s.workers[a.address].processing} == {held.key, fixed.key}
    finally:
        gate.opened.set()
    assert await held == 0
    assert fixed.status == "pending"
    a.set_status(Status.running)
    assert await asyncio.wait_for(fixed, 10) == 0


# Retire


@gen_cluster(client=True, nthreads=FOUR[:3])
async def test_only_copies_are_moved(c: Any, s: Any, a: Any, b: Any, d: Any) -> None:
    futures = c.map(inc, range(30), workers=[a.address])
    await c.gather(futures)
    shared = await c.scatter("shared", broadcast=True)
    retired = await c.retire_workers([a.address])
    assert list(retired) == [a.address]
    assert a.address not in s.workers
    assert {f.status for f in futures} == {"finished"}
    assert await c.gather(futures) == list(range(1, 31))
    assert await shared == "shared"
    assert sum(len(w.has_what) for w in s.workers.values()) == 32


@gen_cluster(client=True, nthreads=FOUR[:2])
async def test_with_nobody_to_take_its_data_a_worker_stays_and_works(c: Any, s: Any, a: Any, b: Any) -> None:
    future = c.submit(inc, 1, workers=[a.address])
    other = c.submit(inc, 2, workers=[b.address])
    await c.gather([future, other])
    assert await c.retire_workers([a.address, b.address]) == {}
    assert [s.workers[w.address].status for w in (a, b)] == [Status.running] * 2
    assert await c.submit(inc, 5) == 6
    assert await c.gather([future, other]) == [2, 3]


@gen_cluster(client=True, nthreads=FOUR[:2])
async def test_all_may_go_when_they_hold_nothing(c: Any, s: Any, a: Any, b: Any) -> None:
    assert set(await c.retire_workers([a.address, b.address])) == {a.address, b.address}
    assert not s.workers


@gen_cluster(client=True, nthreads=FOUR + FOUR)
async def test_many_at_once(c: Any, s: Any, *workers: Any) -> None:
    futures = c.map(inc, range(80))
    await c.gather(futures)
    await asyncio.gather(*[c.retire_workers([w.address]) for w in workers[1:]])
    assert list(s.workers) == [workers[0].address]
    assert await c.gather(futures) == list(range(1, 81))


@gen_cluster(client=True, nthreads=FOUR[:2])
async def test_scattered_data_are_not_lost(c: Any, s: Any, a: Any, b: Any) -> None:
    data = await c.scatter({f"x{n}": n for n in range(20)}, workers=[a.address])
    await c.retire_workers(names=[a.name])
    assert await c.gather(data) == {f"x{n}": n for n in range(20)}


@gen_cluster(client=True, nthreads=[("127.0.0.1", 2), ("127.0.0.1", 1)], config=NO_STEALING)
async def test_waiting_tasks_go_elsewhere_and_running_ones_do_not_hold_it_up(c: Any, s: Any, a: Any, b: Any) -> None:
    gate = GATES["elsewhere"] = Gate()
    futures = c.map(held_up, range(8), gate="elsewhere", workers=[a.address], allow_other_workers=True)
    await async_poll_for(lambda: len(gate.runs) == 2, 5)
    try:
        await asyncio.wait_for(c.retire_workers([a.address], close_workers=True), 10)
    finally:
        gate.opened.set()
    assert await c.gather(futures) == list(range(8))
    assert list(s.workers) == [b.address]


@gen_cluster(client=True, nthreads=FOUR[:2])
async def test_a_task_that_finishes_late_has_its_result_moved(c: Any, s: Any, a: Any, b: Any) -> None:
    gate = GATES["late"] = Gate()
    future = c.submit(held_up, 1, gate="late", workers=[a.address], allow_other_workers=True)
    await async_poll_for(lambda: gate.runs == [1], 5)
    worker = s.workers[a.address]
    s.state.set_worker_status(worker, "closing_gracefully", time.time())
    s.flush()
    gate.opened.set()
    await future
    assert list(await c.retire_workers([a.address])) == [a.address]
    assert await future == 1
    assert gate.runs == [1]


@gen_cluster(client=True, nthreads=FOUR[:2])
async def test_remove_false_leaves_it_known_without_work(c: Any, s: Any, a: Any, b: Any) -> None:
    assert list(await s.retire_workers([a.address], remove=False)) == [a.address]
    assert s.workers[a.address].status is Status.closing_gracefully
    futures = c.map(inc, range(20))
    await c.gather(futures)
    assert not s.workers[a.address].has_what


@gen_cluster(client=True, nthreads=FOUR[:2])
async def test_a_recipient_that_goes_meanwhile_is_replaced(c: Any, s: Any, a: Any, b: Any) -> None:
    future = c.submit(inc, 1, workers=[a.address])
    await future
    retiring = asyncio.ensure_future(c.retire_workers([a.address]))
    await s.remove_worker(b.address, close=False, reason="test")
    await retiring
    assert await future == 2


@gen_cluster(client=True, nthreads=FOUR[:2])
async def test_workers_and_names_are_not_both_taken(c: Any, s: Any, a: Any, b: Any) -> None:
    with pytest.raises(TypeError, match="not both"):
        await s.retire_workers([a.address], names=[0])


# Copies


@gen_cluster(client=True, nthreads=FOUR, config=NO_AMM)
async def test_replicate_to_all_and_back(c: Any, s: Any, *workers: Any) -> None:
    futures = c.map(inc, range(10))
    await c.replicate(futures)
    assert all(len(s.tasks[f.key].who_has) == 4 for f in futures)
    assert s.replicated_tasks == {s.tasks[f.key] for f in futures}
    await c.replicate(futures, n=2)
    assert all(len(s.tasks[f.key].who_has) == 2 for f in futures)
    await async_poll_for(lambda: sum(len(w.data) for w in workers) == 20, 5)
    await c.replicate(futures, n=1)
    await async_poll_for(lambda: sum(len(w.data) for w in workers) == 10, 5)
    assert not s.replicated_tasks
    assert await c.gather(futures) == list(range(1, 11))


@gen_cluster(client=True, nthreads=FOUR[:2], config=NO_AMM)
async def test_replicate_says_what_is_wrong(c: Any, s: Any, a: Any, b: Any) -> None:
    future = c.submit(inc, 1)
    await future
    with pytest.raises(ValueError, match="fewer than one"):
        await c.replicate([future], n=0)
    assert await s.replicate(["absent"]) == {"status": "partial-fail", "keys": ["absent"]}


@gen_cluster(client=True, nthreads=FOUR[:2], config=NO_AMM)
async def test_what_could_not_be_replicated_is_named_in_the_log(c: Any, s: Any, a: Any, b: Any) -> None:
    good, bad = c.submit(inc, 1), c.submit(inc, "text", key="bad")
    logger, lines = logging.getLogger("distributed.client"), []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    logger.addHandler(handler)
    try:
        await c.replicate([good])
        assert lines == []
        await c.replicate([good, bad])
    finally:
        logger.removeHandler(handler)
    assert lines == ["Could not replicate 1 of 2 results: 'bad'"]
    assert len(s.tasks[good.key].who_has) == 2


@gen_cluster(client=True, nthreads=FOUR[:2], config=NO_AMM, worker_kwargs={"memory_limit": 0})
async def test_rebalance(c: Any, s: Any, a: Any, b: Any) -> None:
    futures = await c.scatter([bytes(10_000) + bytes([n]) for n in range(60)], workers=[a.address])
    s.MEMORY_REBALANCE_MEASURE = "managed"
    await async_poll_for(lambda: all(worker.metrics.get("memory") for worker in s.workers.values()), 5)
    await c.rebalance()
    held = [len(s.workers[w.address].has_what) for w in (a, b)]
    assert sum(held) == 60
    assert min(held) >= 25
    await async_poll_for(lambda: sorted([len(a.data), len(b.data)]) == sorted(held), 5)
    assert [value[-1] for value in await c.gather(futures)] == list(range(60))


@gen_cluster(client=True, nthreads=FOUR[:2], config=NO_AMM)
async def test_workers_that_are_not_there_are_named(c: Any, s: Any, a: Any, b: Any) -> None:
    (future,) = await c.scatter([1], workers=[a.name])
    questions: list[Callable[[list[Any]], Any]] = [
        lambda workers: c.rebalance(workers=workers),
        lambda workers: c.rebalance([future], workers=workers),
        lambda workers: c.replicate([future], workers=workers),
        lambda workers: c.nthreads(workers),
        lambda workers: c.has_what(workers),
        lambda workers: c.processing(workers),
        lambda workers: c.get_worker_logs(workers=workers),
        lambda workers: c.run(int, workers=workers),
        lambda workers: c.run(int, workers=workers, nanny=True),
        lambda workers: c.scatter([1], workers=workers),
    ]
    there_are = ", ".join(sorted([a.address, b.address]))
    for ask in questions:
        for workers in (["nope"], [a.address, "nope"], [7]):
            with pytest.raises(UnknownWorkerError, match=f"no worker is called '(nope|7)'; there are {there_are}$"):
                await ask(workers)
    assert await c.who_has([future]) == {future.key: (a.address,)}


@gen_cluster(client=True, nthreads=FOUR[:2], config=NO_AMM)
async def test_an_address_may_be_of_a_worker_that_has_gone(c: Any, s: Any, a: Any, b: Any) -> None:
    (future,) = await c.scatter([1], workers=[a.address])
    gone = b.address
    await b.close()
    assert await c.nthreads([a.address, gone]) == {a.address: 1}
    assert await c.has_what([gone]) == {gone: ()}
    await c.replicate([future], workers=[a.address, gone])
    for ask in (c.replicate, c.rebalance):
        with pytest.raises(KeyError, match=gone):
            await ask([future], workers=[gone])
    with pytest.raises(UnknownWorkerError, match=gone):
        await c.scatter([1], workers=[gone])


@gen_cluster(client=True, nthreads=FOUR[:2], config=NO_AMM)
async def test_workers_go_by_names_that_are_numbers_and_by_hosts(c: Any, s: Any, a: Any, b: Any) -> None:
    assert (a.name, b.name) == (0, 1)
    (future,) = await c.scatter([1], workers=[1])
    assert await c.has_what([1]) == {b.address: (future.key,)}
    assert await c.run(lambda dask_worker: dask_worker.name, workers=[0]) == {a.address: 0}
    assert await c.run(lambda dask_worker: dask_worker.name, workers="127.0.0.1") == {a.address: 0, b.address: 1}
    assert await c.nthreads("127.0.0.1") == {a.address: 1, b.address: 1}


@gen_cluster(client=True, nthreads=FOUR[:2], config=NO_AMM)
async def test_no_workers_are_not_all_workers(c: Any, s: Any, a: Any, b: Any) -> None:
    assert await c.run(int, workers=[]) == await c.nthreads([]) == await c.has_what([]) == await c.processing([]) == {}
    assert await c.get_worker_logs(workers=[]) == await c.retire_workers([]) == {}
    assert len(await c.run(int)) == 2


@gen_cluster(client=True, nthreads=FOUR[:2], config=NO_AMM)
async def test_rebalance_of_what_is_not_there(c: Any, s: Any, a: Any, b: Any) -> None:
    assert await s.rebalance(keys=["absent"]) == {"status": "partial-fail", "keys": ["absent"]}
    assert await s.rebalance() == {"status": "OK"}


@gen_cluster(client=True, nthreads=FOUR, config=NO_AMM)
async def test_the_memory_manager_reduces_copies(c: Any, s: Any, *workers: Any) -> None:
    futures = await c.scatter(list(range(10)), broadcast=True)
    assert not await c.amm.running()
    await c.amm.run_once()
    await async_poll_for(lambda: sum(len(w.data) for w in workers) == 10, 5)
    assert all(len(s.tasks[f.key].who_has) == 1 for f in futures)
    await c.amm.start()
    assert await c.amm.running()
    await c.amm.stop()
    assert not s.extensions["amm"].running
    assert await c.gather(futures) == list(range(10))
