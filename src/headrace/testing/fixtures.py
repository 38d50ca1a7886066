"""pytest fixtures; import those that a test module uses into it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from headrace.compat.worker_state_machine import WorkerState
from headrace.messages.worker import ComputeTask, DefineFunction, TaskExtras
from headrace.rpc import LoopRunner
from headrace.security import Security
from headrace.worker.state.events import ExecuteSeceded

from .clusters import cluster
from .helpers.guards import wait_for_default_ports
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


def tls_security() -> Security:
    """Certificates for all roles."""
    return Security.temporary()


@pytest.fixture
def security() -> Security:
    """Certificates for all roles."""
    return tls_security()


@pytest.fixture
def tls_cluster(loop: Any, security: Security) -> Iterator[Any]:
    """A scheduler and two workers with TLS, each in a process of its own."""
    keywords = {"security": security, "protocol": "tls"}
    with cluster(scheduler_kwargs=keywords, worker_kwargs=keywords) as servers:
        yield servers


@pytest.fixture
def tls_client(tls_cluster: Any, loop: Any, security: Security) -> Iterator[Any]:
    """A client of `tls_cluster`."""
    from headrace.client import Client

    with Client(tls_cluster[0]["address"], security=security, loop=loop) as connected:
        yield connected


@pytest.fixture
def name_of_test(request: Any) -> str:
    """The name of the test that runs."""
    return str(request.node.nodeid)


@pytest.fixture
def requires_default_ports(name_of_test: str) -> None:
    """Wait until ports 8786 and 8787 are free."""
    try:
        wait_for_default_ports()
    except TimeoutError as error:
        pytest.skip(f"{name_of_test}: {error}")


@pytest.fixture
def no_time_resync() -> None:
    """Nothing: clocks are not corrected here while tests run."""


@pytest.fixture
def ws() -> WorkerState:
    """The state of a worker without tasks."""
    return WorkerState(address="127.0.0.1:1", validate=True, transition_counter_max=50_000)


@pytest.fixture(params=["executing", "long-running"])
def ws_with_running_task(ws: WorkerState, request: Any) -> WorkerState:
    """The state of a worker that runs a task `x` with the resource `R`; the test runs with it seceded as well."""
    ws.total_resources["R"] = ws.available_resources["R"] = 1
    ws.core.handle(DefineFunction(1, b""))
    ws.core.handle(ComputeTask("x", 1, (0, 0, 0), 1, b"", 1.0, False, extras=TaskExtras(resources={"R": 1})))
    if request.param == "long-running":
        ws.core.handle(ExecuteSeceded("x", 1.0))
    assert ws.tasks["x"].state == request.param
    ws.core.drain()
    return ws
