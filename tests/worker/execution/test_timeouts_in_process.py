"""Timeouts in other executors than the worker's own, and a worker that closes; all in this process."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import dask
import pytest

from headrace import Client, Scheduler, TaskTimeout, Worker
from headrace.client import FutureCancelledError
from headrace.testing.helpers.log_reading import captured_logger

from .conftest import PATIENCE

_held = threading.Lock()


def wait_in_c() -> None:
    _held.acquire()
    _held.release()


async def test_a_worker_closes_in_spite_of_an_abandoned_thread(tmp_path: Path) -> None:
    with dask.config.set({"distributed.worker.interrupt-grace": "10 ms"}), _held:
        async with Scheduler(host="127.0.0.1", validate=True) as scheduler:
            worker = Worker(scheduler.address, nthreads=1, validate=True, local_directory=str(tmp_path))
            async with worker, Client(scheduler.address, asynchronous=True, set_as_default=False) as client:
                with pytest.raises(TaskTimeout):
                    await client.submit(wait_in_c, timeout=0.01)
                assert await client.submit(abs, -1) == 1
            assert worker.status.name == "closed"
            (left,) = [thread for thread in threading.enumerate() if thread.name.startswith("Headrace-Tasks")]
    left.join(PATIENCE)
    assert not left.is_alive()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["threads", "processes"])
async def test_other_executors_go_on_while_the_task_errs(kind: str, tmp_path: Path) -> None:
    executor: Any
    if kind == "threads":
        executor = ThreadPoolExecutor(1)
    elif sys.platform == "win32":
        pytest.skip("takes long to start")
    else:
        executor = ProcessPoolExecutor(1, mp_context=get_context("spawn"))
    with dask.config.set({"distributed.worker.interrupt-grace": "10 ms"}), executor:
        async with (
            Scheduler(host="127.0.0.1", validate=True) as scheduler,
            Worker(
                scheduler.address, executor={"mine": executor}, nthreads=1, validate=True, local_directory=str(tmp_path)
            ),
            Client(scheduler.address, asynchronous=True, set_as_default=False) as client,
        ):
            with captured_logger("distributed.worker", logging.WARNING) as log:
                with dask.annotate(executor="mine"):
                    future = client.submit(time.sleep, 1, timeout=0.01)
                with pytest.raises(TaskTimeout):
                    await future
                assert "executor" in log.getvalue()
            with dask.annotate(executor="mine"):
                assert await client.submit(abs, -3) == 3  # once the other has ended
            with dask.annotate(executor="mine"):
                slow = client.submit(time.sleep, 0.5)
                await asyncio.sleep(0)
                await client.cancel(slow, running=True)
            with pytest.raises(FutureCancelledError):
                await slow
            with dask.annotate(executor="mine"):
                assert await client.submit(abs, -4) == 4
