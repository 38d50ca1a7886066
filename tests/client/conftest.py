"""A fake scheduler on the background loop, and a synchronous client of it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from fake_scheduler import FakeScheduler

from headrace.client import Client
from headrace.rpc import LoopRunner, sync


@pytest.fixture
def scheduler() -> Iterator[FakeScheduler]:
    runner = LoopRunner()
    loop = runner.start()
    fake = FakeScheduler()
    sync(loop, fake.__aenter__)
    yield fake
    sync(loop, fake.__aexit__)
    runner.stop()


@pytest.fixture
def client(scheduler: FakeScheduler) -> Iterator[Client]:
    with Client(scheduler.address, timeout=5) as client:
        yield client
