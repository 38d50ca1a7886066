"""A result whose sending kills the worker that holds it: fetching it ends in an error that says so."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator

import dask
import pytest

from headrace import Client, LocalCluster
from headrace.exceptions import KilledWorker
from headrace.testing.leaks import clean

from .conftest import PATIENCE

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")


@pytest.fixture
def client() -> Iterator[Client]:
    """Of a cluster of one worker process, with which few deaths are put down to chance."""
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 1}),
        clean(),
        LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        yield client


def heavy() -> object:
    import os
    import signal

    class Heavy:
        def __sizeof__(self) -> int:
            return 1 << 20  # too large to ride along with the news that it is there

        def __reduce__(self) -> tuple[object, ...]:
            os.kill(os.getpid(), signal.SIGKILL)
            return int, ()

    return Heavy()


def large() -> bytes:
    return bytes(1 << 20)


def test_a_result_that_kills_whoever_sends_it(client: Client) -> None:
    future = client.submit(heavy, key="heavy")
    with pytest.raises(
        KilledWorker, match=r"2 workers died while the result of task 'heavy' was fetched.*SIGKILL.*memory_limit"
    ):
        future.result(timeout=2 * PATIENCE)
    assert client.submit(sum, (1, 2)).result(timeout=PATIENCE) == 3


def test_deaths_at_other_times_do_not_count(client: Client) -> None:
    future = client.submit(large)
    for _ in range(2):
        assert len(future.result(timeout=PATIENCE)) == 1 << 20
        (process,) = client.run(os.getpid).values()
        os.kill(process, signal.SIGKILL)
    assert len(future.result(timeout=PATIENCE)) == 1 << 20
