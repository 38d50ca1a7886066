"""A pytest plugin that runs dask's own test files with a client as their scheduler: see run.py beside it.

One local cluster serves the whole run. `UNDER` in the environment says whose: `headrace`, `distributed` (the peer, to
compare with) or `none` (dask's own schedulers). Many of dask's tests ask for the synchronous scheduler so that
debuggers work in them; with `UNDER_SYNC=1` these go to the client as well.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

UNDER = os.environ.get("UNDER", "headrace")
PROCESSES = os.environ.get("UNDER_PROCESSES", "1") == "1"
SYNC_TOO = os.environ.get("UNDER_SYNC", "0") == "1"


def _client() -> Any:
    if UNDER == "headrace":
        import headrace  # noqa: F401  # from now on `distributed` is headrace, whatever else is installed
    from distributed import Client, LocalCluster

    cluster = LocalCluster(
        n_workers=2, threads_per_worker=2, processes=PROCESSES, host="127.0.0.1", dashboard_address=None
    )
    return cluster, Client(cluster)


@pytest.fixture(scope="session", autouse=True)
def everything_under_a_client() -> Iterator[None]:
    if UNDER == "none":
        yield
        return
    from dask.base import named_schedulers

    with ExitStack() as stack:
        cluster, client = _client()
        stack.enter_context(cluster)
        stack.enter_context(client)
        before = dict(named_schedulers)
        if SYNC_TOO:
            named_schedulers.update(dict.fromkeys(("sync", "synchronous", "single-threaded"), client.get))
        yield
        named_schedulers.update(before)


def pytest_report_header(config: pytest.Config) -> str:
    return f"under: {UNDER}, processes: {PROCESSES}, synchronous too: {SYNC_TOO}"
