"""Clusters for tests of limits: real processes, one thread each, and little patience with what was interrupted."""

from __future__ import annotations

from collections.abc import Iterator

import dask
import pytest

from headrace import Client, LocalCluster
from headrace.testing.leaks import check_process_leak

#: Seconds that anything may take that is expected to happen.
PATIENCE = 30


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    """One worker process with one thread."""
    with (
        check_process_leak(),
        dask.config.set({"distributed.worker.interrupt-grace": "300ms"}),
        LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as cluster,
    ):
        yield cluster


@pytest.fixture
def client(cluster: LocalCluster) -> Iterator[Client]:
    with Client(cluster, set_as_default=False) as client:
        yield client
