"""A fake scheduler on the background loop, and a synchronous client of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:  # at run time in the fixtures: the tests of the pure core have neither dask nor sockets
    from headrace.client import Client
    from tests.client.fake_scheduler import FakeScheduler


@pytest.fixture
def scheduler() -> Iterator[FakeScheduler]:
    from headrace.rpc import LoopRunner, sync
    from tests.client.fake_scheduler import FakeScheduler

    runner = LoopRunner()
    loop = runner.start()
    fake = FakeScheduler()
    sync(loop, fake.__aenter__)
    yield fake
    sync(loop, fake.__aexit__)
    runner.stop()


@pytest.fixture
def client(scheduler: FakeScheduler) -> Iterator[Client]:
    from headrace.client import Client

    with Client(scheduler.address, timeout=5) as client:
        yield client
