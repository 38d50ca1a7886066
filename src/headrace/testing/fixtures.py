"""pytest fixtures; import those that a test module uses into it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from headrace.rpc import LoopRunner
from headrace.security import Security

from .clusters import cluster
from .leaks import clean


@pytest.fixture
def cleanup() -> Iterator[None]:
    """Fail if the test leaves threads or processes behind."""
    with clean():
        yield


@pytest.fixture
def loop_in_thread(cleanup: None) -> Iterator[Any]:
    """An event loop that runs in a thread."""
    runner = LoopRunner()
    runner.start()
    try:
        yield runner.loop
    finally:
        runner.stop()


@pytest.fixture
def loop(loop_in_thread: Any) -> Any:
    """An event loop that runs in a thread."""
    return loop_in_thread


@pytest.fixture
def cluster_fixture(loop: Any) -> Iterator[Any]:
    """A scheduler and two workers, each in a process of its own."""
    with cluster() as servers:
        yield servers


@pytest.fixture
def s(cluster_fixture: Any) -> Any:
    """The scheduler of `cluster_fixture`: `{"address": …}`."""
    return cluster_fixture[0]


@pytest.fixture
def a(cluster_fixture: Any) -> Any:
    """The first worker of `cluster_fixture`."""
    return cluster_fixture[1][0]


@pytest.fixture
def b(cluster_fixture: Any) -> Any:
    """The second worker of `cluster_fixture`."""
    return cluster_fixture[1][1]


@pytest.fixture
def client(loop: Any, cluster_fixture: Any) -> Iterator[Any]:
    """A client of `cluster_fixture`."""
    from headrace.client import Client

    with Client(cluster_fixture[0]["address"], loop=loop) as connected:
        yield connected


c = client


@pytest.fixture
def client_no_amm(client: Any) -> Iterator[Any]:
    """`client`, with the active memory manager stopped while the test runs."""
    was_running = client.amm.running()
    if was_running:
        client.amm.stop()
    yield client
    if was_running:
        client.amm.start()


@pytest.fixture
def client_secondary(loop: Any, cluster_fixture: Any) -> Iterator[Any]:
    """Another client of `cluster_fixture`."""
    from headrace.client import Client

    with Client(cluster_fixture[0]["address"], loop=loop) as connected:
        yield connected


@pytest.fixture
def tls_security() -> Security:
    """Certificates for all roles."""
    return Security.temporary()


security = tls_security


@pytest.fixture
def tls_cluster(loop: Any, tls_security: Security) -> Iterator[Any]:
    """A scheduler and two workers with TLS, each in a process of its own."""
    keywords = {"security": tls_security, "protocol": "tls"}
    with cluster(scheduler_kwargs=keywords, worker_kwargs=keywords) as servers:
        yield servers


@pytest.fixture
def tls_client(tls_cluster: Any, loop: Any, tls_security: Security) -> Iterator[Any]:
    """A client of `tls_cluster`."""
    from headrace.client import Client

    with Client(tls_cluster[0]["address"], security=tls_security, loop=loop) as connected:
        yield connected
