"""A peer that is there and does not answer: the data are looked for elsewhere."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from dask._task_spec import TaskRef
from worker.fake import FakeScheduler

from headrace.messages.worker import RefreshWhoHas, RequestWhoHas
from headrace.protocol import Serialize, loads
from headrace.rpc import Server
from headrace.worker import Worker, transfer


async def test_peer_that_does_not_answer_is_given_up(
    scheduler: FakeScheduler, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "PATIENCE", 0.05)
    asked, released = asyncio.Event(), asyncio.Event()

    async def stopped(keys: list[Any], who: str) -> dict[str, Any]:
        asked.set()
        await released.wait()
        return {"status": "OK", "data": {}}

    def lively(keys: list[Any], who: str) -> dict[str, Any]:
        return {"status": "OK", "data": {key: Serialize(b"four") for key in keys}}

    kind = worker.address.partition(":")[0]
    first, second = Server({"get_data": stopped}, {}, name="first"), Server({"get_data": lively}, {}, name="second")
    where = f"{kind}://" if kind == "inproc" else f"{kind}://127.0.0.1:0"
    try:
        await first.listen(where)
        await second.listen(where)
        scheduler.compute("a", "y", len, TaskRef("x"), dependencies=["x"], who_has=[[first.address]], nbytes=[1])
        assert (await scheduler.wait("a", RequestWhoHas)).keys == ["x"]
        assert asked.is_set()
        scheduler.send("a", RefreshWhoHas(["x"], [[second.address]], [1]))
        assert loads((await scheduler.finished("a", "y")).result) == 4
    finally:
        released.set()
        await worker.transfers.close()
        await first.close_comms()
        await second.close_comms()
