"""How workers start, register, answer requests and close."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
from collections import UserDict
from pathlib import Path
from typing import Any

import pytest

from headrace import Worker
from headrace.common.status import Status
from headrace.messages.worker import AddKeys, CloseWorker, WorkerEvent, WorkerStatus
from headrace.protocol import Serialize, dumps, loads, loads_exception
from headrace.rpc import rpc
from headrace.rpc.server_life import scheduler_address_of
from headrace.worker import context, get_worker
from tests.worker.fake import FakeScheduler


async def test_registration_tells_what_the_worker_is(scheduler: FakeScheduler, tmp_path: Path) -> None:
    worker = Worker(
        scheduler.address,
        name="alice",
        nthreads=3,
        resources={"GPU": 2},
        memory_limit="1 GB",
        local_directory=str(tmp_path),
        startup_information={"answer": lambda worker: 42},
    )
    assert worker.status is Status.created
    async with worker:
        details = scheduler.workers["alice"]
        assert details["address"] == worker.address
        assert details["nthreads"] == 3
        assert details["resources"] == {"GPU": 2}
        assert details["memory_limit"] == 10**9
        assert details["pid"] == os.getpid()
        assert details["extra"] == {"answer": 42}
        assert worker.status is Status.running
        assert Path(worker.local_directory).parent == tmp_path
        assert worker.address.partition(":")[0] == scheduler.address.partition(":")[0]
        assert "alice" in repr(worker)
    assert worker.status is Status.closed
    assert list(tmp_path.iterdir()) == []
    await worker.finished()
    with pytest.raises(RuntimeError, match="make a new one"):
        await worker


async def test_heartbeats_carry_metrics(scheduler: FakeScheduler, tmp_path: Path) -> None:
    async def ask(worker: Worker) -> str:
        return worker.name

    async def fail(worker: Worker) -> None:
        raise OSError("no answer")

    metrics = {"answer": lambda worker: 42, "broken": lambda worker: 1 / 0, "asked": ask, "failed": fail}
    async with Worker(scheduler.address, name="a", metrics=metrics, local_directory=str(tmp_path)):
        first = await scheduler.heartbeat("a")
        second = await scheduler.heartbeat("a")
    assert second.now > first.now
    assert second.metrics["memory"] > 10**6
    assert second.metrics["answer"] == 42
    assert second.metrics["asked"] == "a"
    assert second.metrics.keys().isdisjoint({"broken", "failed"})
    assert {"incoming_bytes", "outgoing_bytes", "outgoing_count_total"} <= second.metrics["transfer"].keys()
    assert {"cpu", "managed_bytes", "executing", "in_memory", "ready", "in_flight"} <= second.metrics.keys()


async def test_refused_registration(scheduler: FakeScheduler, tmp_path: Path) -> None:
    scheduler.refusal = "name taken"
    worker = Worker(scheduler.address, local_directory=str(tmp_path))
    with pytest.raises(RuntimeError, match="refused this worker: name taken"):
        await worker
    assert worker.status is Status.failed
    assert list(tmp_path.iterdir()) == []


async def test_no_scheduler_at_the_address(tmp_path: Path, unused_tcp_port: int) -> None:
    address = f"tcp://127.0.0.1:{unused_tcp_port}"
    with pytest.raises(TimeoutError, match=address):
        await Worker(address, death_timeout=0.1, local_directory=str(tmp_path))


def test_bad_arguments() -> None:
    with pytest.raises(TypeError, match=r"keyword.*bogus"):
        Worker("tcp://127.0.0.1:1", bogus=1)
    with pytest.raises(ValueError, match="name the scheduler"):
        Worker()
    with pytest.raises(TypeError, match="address must be text"):
        Worker(3)
    with pytest.raises(ValueError, match="nthreads"):
        Worker("tcp://127.0.0.1:1", nthreads=-1)
    with pytest.raises(TypeError, match="executor"):
        Worker("tcp://127.0.0.1:1", executor=3)


def test_scheduler_addresses(tmp_path: Path) -> None:
    assert scheduler_address_of("127.0.0.1", 8786, None) == "tcp://127.0.0.1:8786"
    assert scheduler_address_of("tls://h:1", None, None) == "tls://h:1"
    assert scheduler_address_of("h:1", None, None) == "tcp://h:1"
    (tmp_path / "s.json").write_text('{"address": "tcp://h:2"}')
    assert scheduler_address_of(None, None, str(tmp_path / "s.json")) == "tcp://h:2"


async def test_a_worker_whose_connection_breaks_comes_back_with_its_keys(
    scheduler: FakeScheduler, worker: Worker
) -> None:
    scheduler.compute("a", "x", int, 1)
    await scheduler.finished("a", "x")
    first = scheduler.streams["a"]
    first.abort()
    await until(lambda: scheduler.streams["a"] is not first)
    assert scheduler.workers["a"]["keys"] == {"x": 28}
    scheduler.compute("a", "y", int, 2, attempt=2)
    assert loads((await scheduler.finished("a", "y")).result) == 2
    assert await scheduler.heartbeat("a")


async def test_what_runs_while_the_connection_is_broken(scheduler: FakeScheduler, worker: Worker) -> None:
    go = threading.Event()
    gates[scheduler.address] = go
    scheduler.compute("a", "x", wait_for_gate, scheduler.address)
    scheduler.compute("a", "later", int, 1)
    await until(lambda: "later" in worker.state.tasks and worker.task_executor.executing(0))
    first = scheduler.streams["a"]
    first.abort()
    await until(lambda: scheduler.streams["a"] is not first)
    await until(lambda: worker.batched_stream is not None)
    assert list(worker.state.tasks) == ["x"]
    go.set()
    assert (await scheduler.finished("a", "x")).attempt == 1


async def test_what_ends_while_the_worker_registers_again(scheduler: FakeScheduler, worker: Worker) -> None:
    go = threading.Event()
    gates[scheduler.address] = go
    scheduler.compute("a", "x", wait_for_gate, scheduler.address)
    await until(lambda: worker.task_executor.executing(0))
    first = scheduler.streams["a"]
    scheduler.slow = asyncio.Event()
    first.abort()
    await until(lambda: worker.batched_stream is None)
    go.set()
    await until(lambda: "x" in worker.data)
    scheduler.slow.set()
    await until(lambda: scheduler.streams["a"] is not first)
    if "x" not in scheduler.workers["a"]["keys"]:  # it had asked before
        assert (await scheduler.wait("a", AddKeys)).keys == ["x"]


gates: dict[str, threading.Event] = {}


def wait_for_gate(name: str) -> None:
    assert gates.pop(name).wait(10)


async def until(condition: Any) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


async def test_another_scheduler_at_the_same_address(scheduler: FakeScheduler, worker: Worker) -> None:
    scheduler.compute("a", "x", int, 1)
    await scheduler.finished("a", "x")
    first = scheduler.streams["a"]
    scheduler.id = "another"
    first.abort()
    await until(lambda: scheduler.streams["a"] is not first)
    assert scheduler.workers["a"]["scheduler_id"] == "s"
    await until(lambda: not worker.state.tasks)
    assert dict(worker.data) == {}


async def test_a_worker_that_shall_not_reconnect_closes(scheduler: FakeScheduler, tmp_path: Path) -> None:
    async with Worker(scheduler.address, name="a", reconnect=False, local_directory=str(tmp_path)) as worker:
        scheduler.streams["a"].abort()
        async with asyncio.timeout(10):
            await worker.finished()
    assert "scheduler" in worker.close_reason


async def test_the_scheduler_is_gone_for_good(scheduler: FakeScheduler, tmp_path: Path) -> None:
    worker = Worker(scheduler.address, name="a", death_timeout=0.5, local_directory=str(tmp_path))
    async with worker:
        scheduler.server.stop_listening()
        scheduler.streams["a"].abort()
        async with asyncio.timeout(10):
            await worker.finished()
    assert "could not be reached again within 0.5 s" in worker.close_reason


async def test_the_scheduler_asks_to_close(scheduler: FakeScheduler, worker: Worker) -> None:
    scheduler.send("a", CloseWorker("enough"))
    async with asyncio.timeout(10):
        await worker.finished()
    assert worker.close_reason == "enough"
    assert (await scheduler.wait("a", WorkerStatus)).status == "closing"


async def test_terminate(scheduler: FakeScheduler, worker: Worker) -> None:
    async with rpc(worker.address) as proxy:
        assert await proxy.terminate() == {"status": "OK"}
        async with asyncio.timeout(10):
            await worker.finished()


async def test_port_ranges(scheduler: FakeScheduler, tmp_path: Path, unused_tcp_port_factory: Any) -> None:
    port = unused_tcp_port_factory()
    options: dict[str, Any] = {"host": "127.0.0.1", "protocol": "tcp", "local_directory": str(tmp_path)}
    async with Worker(scheduler.address, port=f"{port}:{port + 20}", **options) as first:
        assert first.port >= port
        async with Worker(scheduler.address, port=f"{first.port}:{first.port + 20}", **options) as second:
            assert second.port > first.port
        with pytest.raises(RuntimeError, match="Could not listen"):
            await Worker(scheduler.address, port=first.port, **options)


async def test_data_may_be_a_mapping_of_the_users(scheduler: FakeScheduler, tmp_path: Path) -> None:
    mapping: UserDict[Any, Any] = UserDict()
    async with Worker(scheduler.address, name="a", data=mapping, local_directory=str(tmp_path)) as worker:
        assert worker.data is mapping
        scheduler.compute("a", "x", int, 1)
        await scheduler.finished("a", "x")
        assert dict(mapping) == {"x": 1}
    with pytest.raises(RuntimeError, match="mutable mapping"):
        await Worker(scheduler.address, data=lambda: 3, local_directory=str(tmp_path))

    class Sized(UserDict[Any, Any]):
        def __init__(self, size: int) -> None:
            super().__init__()
            self.size = size

    made = (Sized, {"size": 1})
    async with Worker(scheduler.address, name="b", data=made, local_directory=str(tmp_path)) as worker:
        assert worker.data.size == 1  # type: ignore[attr-defined]


async def test_a_mapping_that_fails_fails_the_task(scheduler: FakeScheduler, tmp_path: Path) -> None:
    class Full(UserDict[Any, Any]):
        def __setitem__(self, key: Any, value: Any) -> None:
            raise OSError("no space left")

    async with Worker(scheduler.address, name="a", data=Full, local_directory=str(tmp_path)):
        scheduler.compute("a", "x", int, 1)
        assert "no space left" in (await scheduler.failed("a", "x")).exception_text


async def test_run_calls_functions_on_the_worker(worker: Worker) -> None:
    async def later(x: int, dask_worker: Worker) -> Any:
        await asyncio.sleep(0)
        with pytest.raises(ValueError, match="may take a parameter dask_worker"):
            get_worker()
        return dask_worker.name, x

    def fail() -> None:
        raise KeyError("absent")

    async with rpc(worker.address) as proxy:
        reply = await proxy.run(function=Serialize(later), args=Serialize((5,)), kwargs=Serialize({}))
        assert reply == {"status": "OK", "result": ("a", 5)}
        reply = await proxy.run(function=dumps(len), args=dumps(([1],)))
        assert reply == {"status": "OK", "result": 1}
        reply = await proxy.run(function=Serialize(fail))
        assert reply["status"] == "error"
        exception = reply["exception"]
        if not isinstance(exception, BaseException):
            exception = loads_exception(exception if isinstance(exception, bytes) else exception.payload)
        assert isinstance(exception, KeyError)
        assert await proxy.run(function=Serialize(len), args=Serialize(([],)), wait=False) is None


async def test_identity_and_friends(scheduler: FakeScheduler, worker: Worker) -> None:
    async with rpc(worker.address) as proxy:
        identity = await proxy.identity()
        assert identity["type"] == "Worker"
        assert identity["address"] == worker.address
        assert (await proxy.versions())["packages"]["python"] == ".".join(map(str, sys.version_info))
        logging.getLogger("distributed.worker").warning("a line")
        assert ("WARNING", "a line") in [(level, text.split(" - ")[-1]) for level, text in await proxy.get_logs()]
        scheduler.compute("a", "x", int, 1)
        await scheduler.finished("a", "x")
        assert [entry[0] for entry in await proxy.get_story(keys_or_stimuli=["x"])] == ["x", "x"]
        assert (await proxy.call_stack()) == {}
        assert worker.nbytes == {"x": 28}
        assert worker.stateof("x")["data"]
        worker.validate_state()


class Plugin:
    name = "plugin"

    def __init__(self) -> None:
        self.seen: list[Any] = []

    async def setup(self, worker: Worker) -> None:
        self.seen.append(("setup", worker.status))
        worker.plugged = self  # type: ignore[attr-defined]

    def teardown(self, worker: Worker) -> None:
        self.seen.append("teardown")

    def transition(self, key: Any, start: str, finish: str, **kwargs: Any) -> None:
        self.seen.append((key, start, finish))


async def test_plugins(scheduler: FakeScheduler, tmp_path: Path) -> None:
    plugin = Plugin()
    async with Worker(scheduler.address, name="a", plugins=[plugin], local_directory=str(tmp_path)) as worker:
        scheduler.compute("a", "x", int, 1)
        await scheduler.finished("a", "x")
        async with rpc(worker.address) as proxy:
            assert await proxy.plugin_remove(name="plugin") == {"status": "OK"}
        assert plugin.seen == [
            ("setup", Status.starting),
            ("x", "released", "executing"),
            ("x", "executing", "memory"),
            "teardown",
        ]
        async with rpc(worker.address) as proxy:
            assert await proxy.plugin_add(plugin=dumps(Plugin())) == {"status": "OK"}
            assert "plugin" in worker.plugins
            assert (await proxy.plugin_add(plugin=dumps(Broken())))["status"] == "error"


class Broken:
    def setup(self, worker: Worker) -> None:
        raise RuntimeError("no")


async def test_plugins_that_come_with_the_registration(scheduler: FakeScheduler, tmp_path: Path) -> None:
    scheduler.plugins = {"given": dumps(Plugin())}
    async with Worker(scheduler.address, local_directory=str(tmp_path)) as worker:
        assert list(worker.plugins) == ["given"]


async def test_uploaded_files_can_be_imported(worker: Worker, scheduler: FakeScheduler) -> None:
    def value() -> Any:
        import uploaded_module_of_a_test  # type: ignore[import-not-found]

        return uploaded_module_of_a_test.value

    try:
        async with rpc(worker.address) as proxy:
            for n in (1, 22):
                name = "uploaded_module_of_a_test.py"
                reply = await proxy.upload_file(filename=name, data=f"value = {n}".encode())
                assert reply["status"] == "OK"
                scheduler.compute("a", f"x{n}", value)
                assert loads((await scheduler.finished("a", f"x{n}")).result) == n
            reply = await proxy.upload_file(filename="bad.py", data=b"1 +")
            assert reply["status"] == "error"
            with pytest.raises(ValueError, match="without directories"):
                await proxy.upload_file(filename="../x.py", data=b"")
    finally:
        sys.modules.pop("uploaded_module_of_a_test", None)


async def test_print_and_warn_reach_the_clients(scheduler: FakeScheduler, worker: Worker) -> None:
    scheduler.compute("a", "x", context.print, "hello", 3)
    event = await scheduler.wait("a", WorkerEvent)
    assert event.topics == ["print"]
    assert list(event.event["args"]) == ["hello", "3"]

    def complain() -> None:
        import warnings

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            context.warn("careful")

    scheduler.compute("a", "y", complain)
    event = await scheduler.wait("a", WorkerEvent)
    assert event.topics == ["warn"]
    assert loads(event.event["message"]) == "careful"


async def test_print_outside_of_tasks_is_only_that(scheduler: FakeScheduler, worker: Worker) -> None:
    context.print("of the process in which a worker is, too")
    scheduler.compute("a", "x", context.print, "of a task")
    event = await scheduler.wait("a", WorkerEvent)
    assert list(event.event["args"]) == ["of a task"]


async def test_context_outside_of_tasks() -> None:
    with pytest.raises(ValueError, match="running task"):
        context.secede()
    with pytest.raises(ValueError, match="not called from a task"):
        context.get_current_task()
    with pytest.raises(ValueError, match="No worker found"):
        get_worker()
