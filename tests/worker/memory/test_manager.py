"""Workers on this loop: tasks and peers get what lies on disk, the process's memory decides about pausing."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import dask
import pytest
from dask._task_spec import TaskRef

from headrace import Worker
from headrace.comm import frame_memory as comm_memory
from headrace.common.status import Status
from headrace.messages.worker import FreeKeys, ReleasedData, RescheduleTask, TaskExtras, WorkerStatus
from headrace.protocol import dumps
from headrace.rpc import rpc
from headrace.testing.helpers.polling import async_poll_for
from headrace.worker.memory import MemoryOptions, SpillBuffer, manager
from tests.worker.fake import FakeScheduler

LIMIT = 1_000_000
SPILL_ONLY = {"memory_spill_fraction": False, "memory_pause_fraction": False}


def make(scheduler: FakeScheduler, tmp_path: Path, **options: Any) -> Worker:
    return Worker(
        scheduler.address,
        **{
            "name": "a",
            "nthreads": 1,
            "validate": True,
            "memory_limit": LIMIT,
            "local_directory": str(tmp_path),
            **SPILL_ONLY,
            **options,
        },
    )


class Block:
    """Something of some size that tells in which thread it was pickled."""

    def __init__(self, number: int) -> None:
        self.content = bytes([number]) * 100_000
        self.threads = (0, threading.get_ident())

    def __getstate__(self) -> Any:
        return {"content": self.content, "threads": (threading.get_ident(), 0)}

    def __setstate__(self, state: Any) -> None:
        self.__dict__.update(state, threads=(state["threads"][0], threading.get_ident()))

    def __sizeof__(self) -> int:
        return len(self.content)


async def test_tasks_use_what_lies_on_disk(scheduler: FakeScheduler, tmp_path: Path) -> None:
    def look(block: Block) -> tuple[int, int, tuple[int, int], int]:
        return block.content[0], len(block.content), block.threads, threading.get_ident()

    async with make(scheduler, tmp_path) as worker:
        for number in range(20):
            scheduler.compute("a", f"block-{number}", Block, number, report=False)
            await scheduler.finished("a", f"block-{number}")
        assert isinstance(worker.data, SpillBuffer)
        await async_poll_for(lambda: len(worker.data.disk) == 15, timeout=10)  # type: ignore[attr-defined]
        storage = Path(worker.local_directory) / "storage"
        await async_poll_for(lambda: len(list(storage.iterdir())) == 15, timeout=10)
        spilled = (await scheduler.heartbeat("a")).metrics["spilled_bytes"]
        assert spilled["memory"] == sum(worker.nbytes[key] for key in worker.data.disk) >= 1_500_000
        assert spilled["disk"] == sum(path.stat().st_size for path in storage.iterdir())
        for number in range(20):
            key = f"look-{number}"
            dependency = f"block-{number}"
            scheduler.compute(
                "a", key, look, TaskRef(dependency), dependencies=[dependency], who_has=[[worker.address]], nbytes=[1]
            )
            await scheduler.finished("a", key)
            content, length, (pickled, unpickled), thread = worker.data[key]
            assert (content, length) == (number, 100_000)
            if pickled:
                assert pickled not in (threading.get_ident(), thread)
                assert unpickled == thread
        scheduler.send("a", FreeKeys([f"block-{number}" for number in range(20)]))
        await async_poll_for(lambda: not list(storage.iterdir()), timeout=10)
        assert not worker.data.disk
        assert worker.state.nbytes == sum(task.nbytes for task in worker.state.tasks.values())
    assert list(tmp_path.iterdir()) == []
    assert not [thread for thread in threading.enumerate() if thread.name == "Headrace-Spill"]


async def test_peers_get_what_lies_on_disk_as_it_is(
    scheduler: FakeScheduler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with make(scheduler, tmp_path, memory_target_fraction=0.01) as worker:
        buffer = worker.memory_manager.buffer
        assert buffer is not None
        scheduler.compute("a", "small", bytes, 10)
        scheduler.compute("a", "large", bytes, 50_000)
        await scheduler.finished("a", "small")
        await scheduler.finished("a", "large")
        await async_poll_for(lambda: set(buffer.disk) == {"large"}, timeout=10)
        monkeypatch.delattr(buffer.storage.__class__, "read")
        threads: list[int] = []
        original = buffer.storage.read_frames

        def read_frames(stored: Any, spent: Any) -> Any:
            threads.append(threading.get_ident())
            return original(stored, spent)

        monkeypatch.setattr(buffer.storage, "read_frames", read_frames)
        async with rpc(worker.address) as proxy:
            reply = await proxy.get_data(keys=["small", "large", "unknown"])
        found = {key: getattr(value, "value", value) for key, value in reply["data"].items()}
        found = {key: value.load() if hasattr(value, "load") else value for key, value in found.items()}
        assert found == {"small": bytes(10), "large": bytes(50_000)}
        assert threads
        assert threading.get_ident() not in threads
        assert set(buffer.disk) == {"large"}


async def test_a_peer_does_not_get_what_cannot_be_read_back(scheduler: FakeScheduler, tmp_path: Path) -> None:
    async with make(scheduler, tmp_path, memory_target_fraction=0.01) as worker, rpc(worker.address) as proxy:
        buffer = worker.memory_manager.buffer
        assert buffer is not None
        for again in (False, True):
            for key in ("lost", "kept"):
                scheduler.compute("a", key, bytes, 50_000)
                await scheduler.finished("a", key)
            await async_poll_for(lambda: set(buffer.disk) == {"lost", "kept"}, timeout=10)
            os.unlink(buffer._files["lost"].path)
            if again:  # there is no end to it otherwise
                with pytest.raises(Exception, match="'lost' was spilled"):
                    await proxy.get_data(keys=["lost", "kept"])
            else:
                assert set((await proxy.get_data(keys=["lost", "kept"]))["data"]) == {"kept"}
                assert await scheduler.wait("a", ReleasedData) == ReleasedData("lost")
                assert "lost" not in worker.data
            scheduler.messages["a"].clear()


async def test_a_task_whose_input_cannot_be_read_back_is_placed_anew(scheduler: FakeScheduler, tmp_path: Path) -> None:
    async with make(scheduler, tmp_path, memory_target_fraction=0.01) as worker:
        buffer = worker.memory_manager.buffer
        assert buffer is not None
        for again in (False, True):
            scheduler.compute("a", "x", bytes, 50_000)
            await scheduler.finished("a", "x")
            await async_poll_for(lambda: set(buffer.disk) == {"x"}, timeout=10)
            os.unlink(buffer._files["x"].path)
            scheduler.compute("a", "y", len, TaskRef("x"), dependencies=["x"], who_has=[[worker.address]], nbytes=[1])
            if again:  # there is no end to it otherwise
                failed = await scheduler.failed("a", "y")
                assert "'x' was spilled" in failed.exception_text
            else:
                assert (await scheduler.wait("a", RescheduleTask)).key == "y"
                assert ReleasedData("x") in scheduler.messages["a"]
                assert not worker.state.tasks
                assert not worker.data
            scheduler.messages["a"].clear()
        scheduler.compute("a", "z", len, b"abc")  # and the worker goes on
        await scheduler.finished("a", "z")


@pytest.mark.slow
async def test_other_processes_get_what_lies_on_disk(scheduler: FakeScheduler, tmp_path: Path) -> None:
    import multiprocessing

    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        async with make(scheduler, tmp_path, memory_target_fraction=0.01, executor={"processes": pool}) as worker:
            buffer = worker.memory_manager.buffer
            assert buffer is not None
            scheduler.compute("a", "x", bytes, 50_000)
            await scheduler.finished("a", "x")
            await async_poll_for(lambda: set(buffer.disk) == {"x"}, timeout=10)
            scheduler.compute(
                "a",
                "y",
                len,
                TaskRef("x"),
                dependencies=["x"],
                who_has=[[worker.address]],
                nbytes=[1],
                extras=TaskExtras(annotations={"executor": "processes"}),
            )
            await scheduler.finished("a", "y")
            assert worker.data["y"] == 50_000


async def test_scattered_values_are_spilled_too(scheduler: FakeScheduler, tmp_path: Path) -> None:
    async with make(scheduler, tmp_path, memory_target_fraction=0.01) as worker:
        worker.operations.update_data({"x": b"x" * 100_000})
        buffer = worker.memory_manager.buffer
        assert buffer is not None
        await async_poll_for(lambda: set(buffer.disk) == {"x"}, timeout=10)
        assert worker.nbytes == {"x": 100_000}


async def test_near_the_limit_large_values_are_given_away_one_at_a_time(
    scheduler: FakeScheduler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = 0
    async with make(scheduler, tmp_path) as worker, rpc(worker.address) as peer:
        monkeypatch.setattr(worker.monitor, "get_process_memory", lambda: process)
        worker.operations.update_data({"small": b"s", "large": bytes(LIMIT // 10)})
        for process, others, key, status in [
            (LIMIT, 0, "large", "OK"),
            (LIMIT, 1, "large", "busy"),
            (LIMIT, 1, "small", "OK"),
            (LIMIT // 2, 1, "large", "OK"),
        ]:
            worker.transfers.outgoing_count = others
            reply = await peer.get_data(keys=[key], who="somebody")
            worker.transfers.outgoing_count = 0
            assert reply["status"] == status, (process, others, key)


async def test_a_worker_pauses_and_resumes(
    scheduler: FakeScheduler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    process = 100
    worker = make(
        scheduler, tmp_path, memory_limit=1000, memory_pause_fraction=0.8, memory_monitor_interval="1ms", nthreads=1
    )
    monkeypatch.setattr(worker.monitor, "get_process_memory", lambda: process)
    async with worker:
        scheduler.compute("a", "before", len, b"abc")
        await scheduler.finished("a", "before")
        process = 900
        message = await scheduler.wait("a", WorkerStatus)
        assert message.status == "paused"
        assert worker.status is Status.paused
        scheduler.compute("a", "after", len, b"abc")
        await async_poll_for(lambda: "after" in worker.state.tasks, timeout=10)
        assert worker.state.tasks["after"].state == "ready"
        process = 200
        message = await scheduler.wait("a", WorkerStatus)
        assert message.status == "running"
        await scheduler.finished("a", "after")
    assert "Worker is at 90% memory usage. Pausing worker." in caplog.text
    assert "Resuming worker." in caplog.text


async def test_the_process_over_its_share_evicts(
    scheduler: FakeScheduler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = 100
    dropped: list[bool] = []
    monkeypatch.setattr(manager, "drop_kept", lambda: dropped.append(True))
    worker = make(scheduler, tmp_path, memory_spill_fraction=0.7, memory_monitor_interval="1ms")
    monkeypatch.setattr(worker.monitor, "get_process_memory", lambda: process)
    async with worker:
        buffer = worker.memory_manager.buffer
        assert buffer is not None
        for name in "abc":
            scheduler.compute("a", name, bytes, 10_000)
            await scheduler.finished("a", name)
        assert set(buffer.memory) == set("abc")
        assert not dropped
        process = 800_000
        await async_poll_for(lambda: set(buffer.disk) == set("abc"), timeout=10)
        assert dropped
        process = 100
        await async_poll_for(lambda: not buffer.pressed, timeout=10)
        scheduler.send("a", FreeKeys(list("abc")))
        await async_poll_for(lambda: not buffer.crowded, timeout=10)


async def test_a_users_mapping_that_can_evict(
    scheduler: FakeScheduler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = 100
    calls: list[int] = []

    class Mapping(dict[Any, Any]):
        def evict(self) -> int:
            calls.append(threading.get_ident())
            return -1 if len(calls) == 3 else 10

    async with make(
        scheduler, tmp_path, data=Mapping, memory_spill_fraction=0.7, memory_monitor_interval="1ms"
    ) as worker:
        assert type(worker.data) is Mapping
        monkeypatch.setattr(worker.monitor, "get_process_memory", lambda: process)
        process = 900_000
        await async_poll_for(lambda: len(calls) >= 3, timeout=10)
        process = 100
    assert threading.get_ident() not in calls


@pytest.mark.parametrize("options", [{"memory_limit": 0}, {"memory_target_fraction": False}, {"data": dict}])
async def test_without_spilling_results_are_in_a_dictionary(
    scheduler: FakeScheduler, tmp_path: Path, options: dict[str, Any]
) -> None:
    async with make(scheduler, tmp_path, **options) as worker:
        assert type(worker.data) is dict
        assert worker.memory_manager.spilled() == {"memory": 0, "disk": 0}
        assert "memory_monitor" not in worker.periodic_callbacks
        scheduler.compute("a", "x", len, b"abc")
        await scheduler.finished("a", "x")
        assert worker.data == {"x": 3}


async def test_the_documented_attributes(scheduler: FakeScheduler, tmp_path: Path) -> None:
    with dask.config.set({"distributed.worker.memory.max-spill": "1 MB", "distributed.worker.memory.pause": 0.9}):
        worker = make(scheduler, tmp_path, memory_limit="2 MB", memory_target_fraction=0.5, memory_spill_fraction=0.7)
    memory = worker.memory_manager
    assert (memory.memory_limit, memory.max_spill) == (2_000_000, 1_000_000)
    assert (memory.memory_target_fraction, memory.memory_spill_fraction) == (0.5, 0.7)
    assert memory.memory_pause_fraction is False
    assert memory.memory_monitor_interval == 0.1
    async with worker:
        assert memory.data is worker.data
        assert worker.data.target == 1_000_000  # type: ignore[attr-defined]
        await memory.memory_monitor(worker)
        assert comm_memory._kept.bound == 200_000


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"memory_target_fraction": 60}, "memory.target is 60; it must be a share"),
        ({"memory_pause_fraction": "many"}, "memory.pause is 'many'"),
        ({"memory_monitor_interval": 0}, "monitor-interval must be positive"),
    ],
)
def test_senseless_options(keywords: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MemoryOptions.from_config(keywords)


def test_options_come_from_the_configuration() -> None:
    with dask.config.set(
        {"distributed.worker.memory.spill": False, "distributed.worker.memory.spill-compression": None}
    ):
        options = MemoryOptions.from_config()
    assert (options.target, options.spill, options.compression) == (0.6, False, None)
    assert MemoryOptions.from_config({"max_spill": "1 kB"}).max_spill == 1000
    assert dumps(options)


async def test_what_is_changed_while_it_runs_counts(scheduler: FakeScheduler, tmp_path: Path) -> None:
    worker = make(scheduler, tmp_path, memory_pause_fraction=0.8, memory_monitor_interval="1ms")
    worker.monitor.get_process_memory = lambda: LIMIT // 2  # type: ignore[method-assign]
    async with worker:
        scheduler.compute("a", "x", bytes, LIMIT // 10)
        await scheduler.finished("a", "x")
        assert worker.status is Status.running
        worker.memory_manager.memory_pause_fraction = 0.4
        assert (await scheduler.wait("a", WorkerStatus)).status == "paused"
        worker.memory_manager.memory_pause_fraction = False
        assert (await scheduler.wait("a", WorkerStatus)).status == "running"
        assert not worker.data.slow  # type: ignore[attr-defined]
        worker.memory_manager.memory_spill_fraction = 0.4
        await async_poll_for(lambda: "x" in worker.data.slow, timeout=10)  # type: ignore[attr-defined]
        assert not worker.data.fast  # type: ignore[attr-defined]


class _Store(dict[Any, Any]):
    def __init__(self, worker_local_directory: str, size: int) -> None:
        super().__init__()
        self.made = worker_local_directory, size


async def test_a_class_for_results_is_told_the_directory(scheduler: FakeScheduler, tmp_path: Path) -> None:
    async with make(scheduler, tmp_path, data=(_Store, {"size": 3})) as worker:
        assert worker.data.made == (worker.local_directory, 3)  # type: ignore[attr-defined]


async def test_a_mapping_for_results_is_empty_at_first(scheduler: FakeScheduler, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="must be empty"):
        make(scheduler, tmp_path, data={"x": 1})
    with pytest.raises(RuntimeError, match="must be empty"):
        await make(scheduler, tmp_path, data=lambda: {"x": 1})
