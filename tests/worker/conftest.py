from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from worker.fake import FakeScheduler

from headrace import Worker


@pytest.fixture(params=["tcp://127.0.0.1:0", "inproc://"], ids=["tcp", "inproc"])
async def scheduler(request: Any) -> AsyncIterator[FakeScheduler]:
    async with FakeScheduler() as fake:
        await fake.server.listen(request.param)
        yield fake


@pytest.fixture
async def worker(scheduler: FakeScheduler, tmp_path: Any) -> AsyncIterator[Worker]:
    async with Worker(scheduler.address, name="a", nthreads=1, validate=True, local_directory=str(tmp_path)) as started:
        yield started
