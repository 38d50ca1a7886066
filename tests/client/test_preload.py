"""Preloads of clients, as configured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dask
import pytest

from headrace import Client, Scheduler
from headrace.testing.clusters import gen_cluster

CODE = """
async def dask_setup(client):
    client.log = [(await client.scheduler.identity())["type"]]

def dask_teardown(client):
    client.log.append(client.status)
"""


@gen_cluster(nthreads=[])
async def test_a_client_runs_its_preloads(s: Scheduler, tmp_path: Path) -> None:
    path = tmp_path / "client_preload.py"
    path.write_text(CODE)
    with dask.config.set({"distributed.client.preload": [str(path)]}):
        async with Client(s.address, asynchronous=True, set_as_default=False) as client:
            log: Any = client.log  # type: ignore[attr-defined]
            assert log == ["Scheduler"]
    assert log == ["Scheduler", "running"]


@gen_cluster(nthreads=[])
async def test_a_preload_that_is_not_there(s: Scheduler) -> None:
    with (
        dask.config.set({"distributed.client.preload": ["no_such_preload"]}),
        pytest.raises(ImportError, match="no_such_preload"),
    ):
        await Client(s.address, asynchronous=True, set_as_default=False)
