from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:  # the tests of the pure core, below, run without what these import
    from headrace import Worker
    from tests.worker.fake import FakeScheduler


@pytest.fixture(params=["tcp://127.0.0.1:0", "inproc://"], ids=["tcp", "inproc"])
async def scheduler(request: Any) -> AsyncIterator[FakeScheduler]:
    from tests.worker.fake import FakeScheduler

    async with FakeScheduler() as fake:
        await fake.server.listen(request.param)
        yield fake


@pytest.fixture
async def worker(scheduler: FakeScheduler, tmp_path: Any) -> AsyncIterator[Worker]:
    from headrace import Worker

    async with Worker(scheduler.address, name="a", nthreads=1, validate=True, local_directory=str(tmp_path)) as started:
        yield started
