"""The plugin that kills workers, in real processes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from headrace import Nanny, Scheduler
from headrace.client import Client
from headrace.compat.chaos import MODES, KillWorker
from headrace.testing.helpers.polling import async_poll_for

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs signals")


@pytest.mark.parametrize("mode", MODES)
async def test_killed_workers_are_started_again(mode: str, tmp_path: Path) -> None:
    async with (
        Scheduler(host="127.0.0.1", validate=True) as scheduler,
        Nanny(scheduler.address, name="alice", nthreads=1, local_directory=str(tmp_path)) as nanny,
        Client(scheduler.address, asynchronous=True, set_as_default=False) as client,
    ):
        first = nanny.pid

        def replaced() -> bool:
            return nanny.pid not in (None, first) and len(scheduler.workers) == 1

        await client.register_plugin(KillWorker("10 ms", mode))
        await async_poll_for(lambda: nanny.pid != first, 30)
        await client.unregister_worker_plugin("kill-worker")
        await async_poll_for(replaced, 30)
        assert await client.submit(abs, -1) == 1


@pytest.mark.parametrize("arguments", [{"mode": "gently"}, {"delay": 0}])
def test_what_makes_no_sense_is_refused(arguments: Any) -> None:
    with pytest.raises(ValueError, match="must be"):
        KillWorker(**arguments)
