"""pytest fixtures; import those that a test module uses into it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from headrace import Client
from headrace.compat.worker_state_machine import WorkerState
from headrace.messages.worker import ComputeTask, DefineFunction, TaskExtras
from headrace.rpc import LoopRunner
from headrace.rpc.loops.loop import IOLoop
from headrace.security import Security
from headrace.testing.clusters import StartedServer, cluster
from headrace.testing.leaks import clean
from headrace.worker.state.events import ExecuteSeceded

from .certificates import tls_only_security
from .guards import wait_for_default_ports

#: A scheduler and its workers, each in a process of its own.
TwoWorkers = tuple[StartedServer, list[StartedServer]]


@pytest.fixture
def cleanup() -> Iterator[None]:
    """Fail if the test leaves threads or processes behind."""
    with clean():
        yield


@pytest.fixture
def loop_in_thread(cleanup: None) -> Iterator[IOLoop]:
    """An event loop that runs in a thread."""
    runner = LoopRunner()
    runner.start()
    try:
        yield runner.loop
    finally:
        runner.stop()


@pytest.fixture
def loop(loop_in_thread: IOLoop) -> IOLoop:
    """An event loop that runs in a thread."""
    return loop_in_thread


@pytest.fixture
def cluster_fixture(loop: IOLoop) -> Iterator[TwoWorkers]:
    """A scheduler and two workers, each in a process of its own."""
    with cluster() as servers:
        yield servers


@pytest.fixture
def s(cluster_fixture: TwoWorkers) -> StartedServer:
    """The scheduler of `cluster_fixture`: `{"address": …}`."""
    return cluster_fixture[0]


@pytest.fixture
def a(cluster_fixture: TwoWorkers) -> StartedServer:
    """The first worker of `cluster_fixture`."""
    return cluster_fixture[1][0]


@pytest.fixture
def b(cluster_fixture: TwoWorkers) -> StartedServer:
    """The second worker of `cluster_fixture`."""
    return cluster_fixture[1][1]


@pytest.fixture
def client(loop: IOLoop, cluster_fixture: TwoWorkers) -> Iterator[Client]:
    """A client of `cluster_fixture`."""
    with Client(cluster_fixture[0]["address"], loop=loop) as connected:
        yield connected


c = client


@pytest.fixture
def client_no_amm(client: Client) -> Iterator[Client]:
    """`client`, with the active memory manager stopped while the test runs."""
    was_running = client.amm.running()
    if was_running:
        client.amm.stop()
    yield client
    if was_running:
        client.amm.start()


@pytest.fixture
def client_secondary(loop: IOLoop, cluster_fixture: TwoWorkers) -> Iterator[Client]:
    """Another client of `cluster_fixture`."""
    with Client(cluster_fixture[0]["address"], loop=loop) as connected:
        yield connected


def tls_security() -> Security:
    """A `Security` with the certificates of `get_cert` for all roles, that requires encryption."""
    return tls_only_security()


@pytest.fixture
def security() -> Security:
    """Certificates for all roles."""
    return tls_security()


@pytest.fixture
def tls_cluster(loop: IOLoop, security: Security) -> Iterator[TwoWorkers]:
    """A scheduler and two workers with TLS, each in a process of its own."""
    keywords = {"security": security, "protocol": "tls"}
    with cluster(scheduler_kwargs=keywords, worker_kwargs=keywords) as servers:
        yield servers


@pytest.fixture
def tls_client(tls_cluster: TwoWorkers, loop: IOLoop, security: Security) -> Iterator[Client]:
    """A client of `tls_cluster`."""
    with Client(tls_cluster[0]["address"], security=security, loop=loop) as connected:
        yield connected


@pytest.fixture
def name_of_test(request: pytest.FixtureRequest) -> str:
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
def ws_with_running_task(ws: WorkerState, request: pytest.FixtureRequest) -> WorkerState:
    """The state of a worker that runs a task `x` with the resource `R`; the test runs with it seceded as well."""
    ws.total_resources["R"] = ws.available_resources["R"] = 1
    ws.core.handle(DefineFunction(1, b""))
    ws.core.handle(ComputeTask("x", 1, (0, 0, 0), 1, b"", 1.0, False, extras=TaskExtras(resources={"R": 1})))
    if request.param == "long-running":
        ws.core.handle(ExecuteSeceded("x", 1.0))
    assert ws.tasks["x"].state == request.param
    ws.core.drain()
    return ws
