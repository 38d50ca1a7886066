"""A worker computes what a scheduler asks for, over sockets and in memory."""

from __future__ import annotations

import asyncio
import operator
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from typing import Any

import pytest
from dask._task_spec import Alias, DataNode, Dict, List, Task, TaskRef

from headrace import Worker
from headrace.common.keys import to_wire
from headrace.exceptions import Reschedule, SerializationError
from headrace.messages.worker import (
    AddKeys,
    ComputeTask,
    FreeKeys,
    LongRunning,
    RescheduleTask,
    StealAnswer,
    StealRequest,
    TaskExtras,
    TaskFailed,
)
from headrace.protocol import Serialize, loads, loads_exception, loads_traceback
from headrace.rpc import rpc
from headrace.worker import get_worker, rejoin, secede
from headrace.worker.execution.run_spec import run_node
from tests.worker.fake import FakeScheduler


async def test_a_small_result_rides_on_the_answer(scheduler: FakeScheduler, worker: Worker) -> None:
    scheduler.compute("a", "x", operator.add, 1, 2, attempt=7)
    message = await scheduler.finished("a", "x")
    assert (message.attempt, message.type, loads(message.result)) == (7, "int", 3)
    assert message.nbytes == (3).__sizeof__()
    assert message.stop >= message.start > 1e9
    assert message.thread not in (0, threading.get_ident())
    assert worker.data == {"x": 3}
    assert worker.executed_count == 1


async def test_large_or_unwanted_results_stay(scheduler: FakeScheduler, worker: Worker) -> None:
    scheduler.compute("a", "large", bytes, 20_000)
    assert (await scheduler.finished("a", "large")).result is None
    scheduler.compute("a", "unwanted", operator.add, 1, 2, report=False)
    assert (await scheduler.finished("a", "unwanted")).result is None


async def test_a_result_that_cannot_be_pickled_stays_usable_here(scheduler: FakeScheduler, worker: Worker) -> None:
    scheduler.compute("a", "lock", threading.Lock)
    result = (await scheduler.finished("a", "lock")).result
    assert (result is None) == worker.address.startswith("tcp")
    if result is not None:  # to one in the same process it is handed over
        assert result.value is worker.data["lock"]
    scheduler.compute("a", "used", type, TaskRef("lock"), dependencies=["lock"], who_has=[[]], nbytes=[1])
    assert (await scheduler.finished("a", "used")).type == "type"
    if worker.address.startswith("tcp"):
        async with rpc(worker.address) as proxy:
            with pytest.raises(SerializationError, match="lock"):
                await proxy.get_data(keys=["lock"])


async def test_references_are_resolved_wherever_they_stand(scheduler: FakeScheduler, worker: Worker) -> None:
    names = {"t": to_wire(("t", 0)), "b": to_wire(b"b")}
    for key, value in (("s", 1), (names["t"], 2), (names["b"], 3)):
        scheduler.compute("a", key, int, value)
    arguments = [TaskRef("s"), {"k": (TaskRef(("t", 0)), 5)}, {TaskRef(b"b")}, List(TaskRef("s"), Dict(k=Alias("s")))]
    keys = ["s", names["t"], names["b"]]
    scheduler.compute(
        "a", "all", lambda *args, **kwargs: (args, kwargs), *arguments, kwargs={"extra": [TaskRef("s")]},
        dependencies=keys, who_has=[[]] * 3, nbytes=[1] * 3,
    )  # fmt: skip
    message = await scheduler.finished("a", "all")
    assert loads(message.result) == ((1, {"k": (2, 5)}, {3}, [1, {"k": 1}]), {"extra": [1]})


async def test_graph_nodes_are_run_whole(scheduler: FakeScheduler, worker: Worker) -> None:
    scheduler.compute("a", "plain", run_node, Task("plain", operator.add, 1, Task("inner", operator.mul, 2, 3)))
    assert loads((await scheduler.finished("a", "plain")).result) == 7
    scheduler.compute("a", "data", run_node, DataNode("data", [1]))
    assert loads((await scheduler.finished("a", "data")).result) == [1]
    node = Task("sum", sum, List(TaskRef("plain"), TaskRef("plain")))
    scheduler.compute("a", "sum", run_node, node, dependencies=["plain"], who_has=[[]], nbytes=[1])
    assert loads((await scheduler.finished("a", "sum")).result) == 14


def fails(what: Any) -> None:
    raise ValueError(what)


async def test_the_traceback_begins_in_the_users_code(scheduler: FakeScheduler, worker: Worker) -> None:
    scheduler.compute("a", "x", fails, "no good")
    message = await scheduler.failed("a", "x")
    assert str(loads_exception(message.exception)) == "no good"
    assert "no good" in message.exception_text
    traceback = loads_traceback(message.traceback)
    assert traceback is not None
    assert traceback.tb_frame.f_code.co_name == "fails"
    assert "executor.py" not in message.traceback_text
    assert worker.state.tasks["x"].state == "error"
    scheduler.compute("a", "x", int, 1, attempt=2)
    assert (await scheduler.finished("a", "x")).attempt == 2


@pytest.mark.parametrize("error", [SystemExit(1), KeyboardInterrupt(), GeneratorExit()])
async def test_no_exception_ends_the_worker(scheduler: FakeScheduler, worker: Worker, error: BaseException) -> None:
    def give_up(error: BaseException) -> None:
        raise error

    scheduler.compute("a", "x", give_up, error)
    assert type(error).__name__ in (await scheduler.failed("a", "x")).exception_text
    scheduler.compute("a", "y", int, 1)
    await scheduler.finished("a", "y")


async def test_what_cannot_be_unpickled_fails_the_task(scheduler: FakeScheduler, worker: Worker) -> None:
    scheduler.compute("a", "x", int, 1)
    await scheduler.finished("a", "x")
    scheduler.send("a", ComputeTask("y", 1, (0, 0, 0), 0, b"\x80garbage", -1.0, True))
    assert "unsupported pickle protocol" in (await scheduler.failed("a", "y")).exception_text


async def test_reschedule(scheduler: FakeScheduler, worker: Worker) -> None:
    def elsewhere() -> None:
        raise Reschedule

    scheduler.compute("a", "x", elsewhere)
    assert (await scheduler.wait("a", RescheduleTask)).key == "x"
    assert worker.state.tasks == {}


async def test_coroutines_run_on_the_loop(scheduler: FakeScheduler, worker: Worker) -> None:
    async def where(x: int) -> Any:
        await asyncio.sleep(0)
        return threading.get_ident(), get_worker().name, get_worker().get_current_task(), x

    scheduler.compute("a", "x", where, 3)
    assert loads((await scheduler.finished("a", "x")).result) == (threading.get_ident(), "a", "x", 3)

    async def bad() -> None:
        raise ValueError("no")

    scheduler.compute("a", "y", bad)
    message = await scheduler.failed("a", "y")
    assert message.traceback_text.count("File") == 1


async def test_short_tasks_are_queued_ahead_and_can_be_taken_back(scheduler: FakeScheduler, worker: Worker) -> None:
    gate = GATES["ahead"] = threading.Event()
    scheduler.compute("a", "first", wait_for, "ahead")
    for i in range(3):
        scheduler.compute("a", f"next-{i}", operator.neg, i, duration=0.0001)
    async with asyncio.timeout(10):
        while len(worker.state.executing) < 4 or not worker.threads:
            await asyncio.sleep(0.001)
    scheduler.send("a", FreeKeys(["next-0"]), StealRequest("next-1", 1), StealRequest("first", 1))
    assert (await scheduler.wait("a", StealAnswer)).state == "ready"
    assert (await scheduler.wait("a", StealAnswer)).state == "executing"
    gate.set()
    await scheduler.finished("a", "first")
    await scheduler.finished("a", "next-2")
    assert worker.executed_count == 2
    assert sorted(worker.data) == ["first", "next-2"]


GATES: dict[str, threading.Event] = {}


def wait_for(name: str) -> bool:
    return GATES[name].wait(10)


async def test_a_freed_task_that_runs_leaves_nothing(scheduler: FakeScheduler, worker: Worker) -> None:
    gate = GATES["freed"] = threading.Event()
    scheduler.compute("a", "x", wait_for, "freed")
    async with asyncio.timeout(10):
        while not worker.threads:
            await asyncio.sleep(0.001)
    scheduler.send("a", FreeKeys(["x"]))
    scheduler.compute("a", "y", int, 1)
    gate.set()
    await scheduler.finished("a", "y")
    assert worker.data == {"y": 1}
    assert list(worker.tasks) == ["y"]


async def test_seceded_tasks_let_others_run(scheduler: FakeScheduler, worker: Worker) -> None:
    gate = GATES["seceded"] = threading.Event()
    scheduler.compute("a", "long", _long_task)
    assert (await scheduler.wait("a", LongRunning)).key == "long"
    scheduler.compute("a", "short", int, 1)
    await scheduler.finished("a", "short")
    assert worker.state.tasks["long"].state == "long-running"
    gate.set()
    assert loads((await scheduler.finished("a", "long")).result) is True
    scheduler.compute("a", "after", threading.active_count)
    await scheduler.finished("a", "after")


def _long_task() -> bool:
    secede()
    assert GATES["seceded"].wait(10)
    rejoin()
    return True


async def test_resources_bound_what_runs_together(scheduler: FakeScheduler, tmp_path: Any) -> None:
    async with Worker(
        scheduler.address, name="r", nthreads=4, resources={"GPU": 1}, validate=True, local_directory=str(tmp_path)
    ) as worker:
        gate = GATES["gpu"] = threading.Event()
        extras = TaskExtras({"GPU": 1.0})
        for key in "xyz":
            scheduler.compute("r", key, wait_for, "gpu", extras=extras)
        scheduler.compute("r", "free", int, 1)
        await scheduler.finished("r", "free")
        assert sorted(task.state for task in worker.tasks.values()) == [
            "constrained", "constrained", "executing", "memory",
        ]  # fmt: skip
        gate.set()
        for key in "xyz":
            await scheduler.finished("r", key)
        assert worker.state.available_resources == {"GPU": 1}


async def test_other_executors(scheduler: FakeScheduler, tmp_path: Any) -> None:
    with ThreadPoolExecutor(1, thread_name_prefix="mine") as mine, ThreadPoolExecutor(1, "default") as default:
        executors = {"mine": mine, "default": default}
        async with Worker(
            scheduler.address, name="e", nthreads=2, executor=executors, local_directory=str(tmp_path)
        ) as worker:
            assert worker.executor is default
            scheduler.compute("e", "x", thread_name)
            assert loads((await scheduler.finished("e", "x")).result).startswith("default")
            scheduler.compute("e", "y", thread_name, extras=TaskExtras(annotations={"executor": "mine"}))
            assert loads((await scheduler.finished("e", "y")).result).startswith("mine")
            scheduler.compute("e", "z", thread_name, extras=TaskExtras(annotations={"executor": "none"}))
            assert "Invalid executor 'none'" in (await scheduler.failed("e", "z")).exception_text


def thread_name() -> str:
    assert get_worker().name == "e"
    return threading.current_thread().name


async def test_a_process_pool_as_executor(scheduler: FakeScheduler, tmp_path: Any) -> None:
    import multiprocessing
    import os

    pool = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))
    with pool:
        async with Worker(scheduler.address, name="p", nthreads=1, executor=pool, local_directory=str(tmp_path)):
            scheduler.compute("p", "x", os.getpid)
            assert loads((await scheduler.finished("p", "x")).result) != os.getpid()
            scheduler.compute("p", "y", operator.truediv, 1, 0)
            assert "ZeroDivision" in (await scheduler.failed("p", "y")).exception_text


async def test_data_come_from_a_peer(scheduler: FakeScheduler, worker: Worker, tmp_path: Any) -> None:
    async with Worker(scheduler.address, name="b", nthreads=1, validate=True, local_directory=str(tmp_path)) as other:
        scheduler.compute("b", "x", bytes, 100_000)
        size = (await scheduler.finished("b", "x")).nbytes
        scheduler.compute(
            "a", "y", len, TaskRef("x"), dependencies=["x"], who_has=[[other.address]], nbytes=[size]
        )  # fmt: skip
        assert loads((await scheduler.finished("a", "y")).result) == 100_000
        assert (await scheduler.wait("a", AddKeys)).keys == ["x"]
        assert worker.nbytes["x"] == 100_000
        async with rpc(worker.address) as proxy:
            assert await proxy.gather(who_has={"x": [other.address], "none": [other.address]}) == {
                "status": "partial-fail",
                "keys": ["none"],
            }


async def test_data_that_cannot_be_sent_or_opened_fail_what_needs_them(
    scheduler: FakeScheduler, worker: Worker, tmp_path: Any
) -> None:
    if worker.address.startswith("inproc"):
        pytest.skip("values are handed over as they are")
    async with Worker(scheduler.address, name="b", nthreads=1, local_directory=str(tmp_path)) as other:
        scheduler.compute("b", "lock", threading.Lock)
        scheduler.compute("b", "trap", make_trap)
        scheduler.compute("b", "good", int, 5)
        for key in ("lock", "trap", "good"):
            await scheduler.finished("b", key)
        for key in ("lock", "trap", "good"):
            scheduler.compute(
                "a", f"with-{key}", str, TaskRef(key), dependencies=[key], who_has=[[other.address]], nbytes=[1]
            )  # fmt: skip
        assert (
            "Could not serialize object of type _thread.lock"
            in (await scheduler.failed("a", "with-lock")).exception_text
        )
        assert "it is a trap" in (await scheduler.failed("a", "with-trap")).exception_text
        await scheduler.finished("a", "with-good")


class Trap:
    def __reduce__(self) -> Any:
        return spring, ()


def make_trap() -> Trap:
    return Trap()


def spring() -> None:
    raise RuntimeError("it is a trap")


async def test_scattered_data(scheduler: FakeScheduler, worker: Worker) -> None:
    async with rpc(worker.address) as proxy:
        reply = await proxy.update_data(data={"x": Serialize([1, 2]), "y": Serialize("text")})
        assert reply == {"status": "OK", "nbytes": worker.nbytes}
        reply = await proxy.get_data(keys=["x", "absent"])
        assert reply["data"] == {"x": [1, 2]}
        assert sorted(await proxy.keys()) == ["x", "y"]
    scheduler.send("a", FreeKeys(["x"]))
    scheduler.compute("a", "z", len, TaskRef("y"), dependencies=["y"], who_has=[[]], nbytes=[4])
    assert loads((await scheduler.finished("a", "z")).result) == 4
    assert sorted(worker.data) == ["y", "z"]


async def test_a_function_nobody_defined_closes_the_worker(scheduler: FakeScheduler, worker: Worker) -> None:
    scheduler.send("a", ComputeTask("x", 1, (0, 0, 0), 99, b"", -1.0, True))
    async with asyncio.timeout(10):
        await worker.finished()
    assert "function 99, which was not defined" in worker.close_reason


async def test_many_tasks(scheduler: FakeScheduler, tmp_path: Any) -> None:
    async with Worker(scheduler.address, name="m", nthreads=2, local_directory=str(tmp_path)) as worker:
        for i in range(2000):
            scheduler.compute("m", f"x-{i}", operator.neg, i, priority=(0, 0, i), duration=0.00001)
        async with asyncio.timeout(10):
            while len(worker.data) < 2000:
                await asyncio.sleep(0.001)
        await scheduler.finished("m", "x-1999")
        assert TaskFailed not in map(type, scheduler.messages["m"])
        scheduler.send("m", FreeKeys([f"x-{i}" for i in range(2000)]))
        async with asyncio.timeout(10):
            while worker.data or worker.tasks:
                await asyncio.sleep(0.001)
