"""The production worker alone, without the documented members; and a scheduler that it does not understand."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest

from headrace import Worker
from headrace.messages.worker import FreeKeys, ReleasedData, RequestWhoHas
from headrace.worker.server import WorkerServer
from headrace.worker.state import WorkerCore
from tests.worker.fake import FakeScheduler


async def test_it_computes_and_drops(scheduler: FakeScheduler, tmp_path: Path) -> None:
    async with WorkerServer(scheduler.address, name="a", nthreads=1, local_directory=str(tmp_path)) as worker:
        scheduler.compute("a", "x", int, "3")
        await scheduler.finished("a", "x")
        assert worker.data["x"] == 3
        assert type(worker.core) is WorkerCore
        scheduler.send("a", FreeKeys(["x"]))
        scheduler.compute("a", "y", int, "4")
        await scheduler.finished("a", "y")
        assert list(worker.data) == ["y"]
        assert not hasattr(worker, "handle_stimulus")
        assert not {"data", "rng", "handle_stimulus"} & set(dir(worker.core))


async def test_the_documented_state_is_a_view_of_the_core(worker: Worker) -> None:
    assert type(worker.core) is WorkerCore
    assert worker.state.core is worker.core
    assert worker.state.tasks is worker.core.tasks
    assert worker.state.data is worker.data
    worker.state.transfer_incoming_count_limit = 7
    assert worker.core.transfer_incoming_count_limit == 7


@pytest.mark.parametrize("scheduler", ["inproc://"], indirect=True)
async def test_an_unknown_message_ends_the_connection(scheduler: FakeScheduler, worker: Worker, caplog: Any) -> None:
    scheduler.compute("a", "x", int, "3")
    await scheduler.finished("a", "x")
    first = scheduler.streams["a"]
    with caplog.at_level(logging.ERROR, "distributed.worker"):
        scheduler.send("a", FreeKeys(["x"]), RequestWhoHas(["x"]), FreeKeys(["y"]))
        async with asyncio.timeout(10):
            while scheduler.streams["a"] is first:
                await asyncio.sleep(0.005)
    [line] = [record.getMessage() for record in caplog.records]
    assert "RequestWhoHas" in line
    assert not worker.core.tasks, "what came before it has been taken"
    assert worker.is_running
    scheduler.compute("a", "z", int, "5")
    await scheduler.finished("a", "z")
    assert not [message for message in scheduler.messages["a"] if isinstance(message, ReleasedData)]
