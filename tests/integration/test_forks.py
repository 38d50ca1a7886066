"""Processes that are forked from one with a cluster and a client end as they want to."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import dask
import psutil
import pytest

from headrace import Client, LocalCluster, get_worker
from headrace.testing.helpers.polling import poll_for
from headrace.testing.leaks import clean

from .conftest import PATIENCE

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")

SCRIPT = """
import os, sys
from headrace import Client, LocalCluster

if __name__ == "__main__":
    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as cluster, Client(cluster) as client:
        assert client.submit(abs, -1).result() == 1
        process = os.fork()
        if not process:
            sys.exit(3)
        _, status = os.waitpid(process, 0)
        assert client.submit(abs, -2).result() == 2
    print(os.waitstatus_to_exitcode(status))
"""


@needs_fork
def test_a_forked_child_ends_by_sys_exit() -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SCRIPT], capture_output=True, text=True, timeout=60, env=environment
    )
    assert done.stdout == "3\n", done.stderr


def slow(x: int) -> int:
    time.sleep(0.5)
    return x


def in_child(do: Any) -> int:
    """The exit code of a child that a task forks."""
    process = os.fork()
    if not process:
        return do()  # type: ignore[no-any-return]  # and the child comes back from the task
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def fail() -> int:
    raise ValueError("in the child")


def terminated_children(count: int) -> set[int]:
    codes = set()
    for _ in range(count):
        process = os.fork()
        if not process:
            time.sleep(60)
            os._exit(1)
        os.kill(process, signal.SIGTERM)
        codes.add(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]))
    return codes


def pools(count: int) -> list[int]:
    found = []
    for number in range(count):
        with multiprocessing.get_context("fork").Pool(2) as pool:
            found += pool.map(abs, [-number])
    return found


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    """Of a cluster of one worker process, whose tasks may start processes."""
    with (
        clean(),
        dask.config.set({"distributed.worker.daemon": False}),
        LocalCluster(n_workers=1, threads_per_worker=2, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        client.worker_pid = client.submit(os.getpid).result()  # type: ignore[attr-defined]
        yield client


@needs_fork
def test_children_of_tasks_are_terminated_and_nobody_else(client: Client) -> None:
    beside = client.submit(slow, 1)
    assert client.submit(terminated_children, 50).result(timeout=PATIENCE) == {-signal.SIGTERM}
    assert client.submit(pools, 5).result(timeout=PATIENCE) == [0, 1, 2, 3, 4]
    assert beside.result(timeout=PATIENCE) == 1
    assert client.submit(os.getpid, pure=False).result(timeout=PATIENCE) == client.worker_pid  # type: ignore[attr-defined]


@needs_fork
@pytest.mark.parametrize(
    ("do", "code"), [(partial(sys.exit, 3), 3), (partial(sys.exit, "why"), 1), (fail, 1), (partial(abs, -5), 0)]
)
def test_a_child_that_comes_back_from_the_task_ends(client: Client, do: Any, code: int) -> None:
    """It must not wait for more tasks."""
    assert client.submit(in_child, do, pure=False).result(timeout=PATIENCE) == code
    assert client.submit(os.getpid, pure=False).result(timeout=PATIENCE) == client.worker_pid  # type: ignore[attr-defined]


@contextmanager
def worker_alone(client: Client, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """A worker that has no nanny, and is called "alone"; it must end well when it is terminated, if it runs then."""
    assert client.cluster is not None
    command = ["worker", client.cluster.scheduler_address, "--no-nanny", "--name", "alone", *options]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    program = subprocess.Popen([sys.executable, "-m", "headrace.cli", *command], env=environment)
    try:
        client.wait_for_workers(2, timeout=PATIENCE)
        yield program
    finally:
        if program.poll() is None:
            program.terminate()
            assert program.wait(PATIENCE) == 0
    poll_for(lambda: len(client.scheduler_info()["workers"]) == 1, timeout=PATIENCE)


@needs_fork
def test_children_of_a_worker_without_nanny_are_terminated_and_nobody_else(client: Client) -> None:
    with worker_alone(client) as program:
        future = client.submit(terminated_children, 50, workers="alone", pure=False)
        assert future.result(timeout=PATIENCE) == {-signal.SIGTERM}
        assert client.submit(os.getpid, workers="alone", pure=False).result(timeout=PATIENCE) == program.pid


def child_that_stays(seconds: float) -> int:
    process = os.fork()
    if not process:
        time.sleep(seconds)
        os._exit(0)
    return process


@needs_fork
def test_a_child_that_outlives_its_worker_hides_that_from_nobody(client: Client) -> None:
    with worker_alone(client) as program:
        address = client.submit(lambda: get_worker().address, workers="alone", pure=False).result(timeout=PATIENCE)
        child = client.submit(child_that_stays, 10 * PATIENCE, workers="alone", pure=False).result(timeout=PATIENCE)
        try:
            program.kill()
            program.wait()
            poll_for(lambda: len(client.scheduler_info()["workers"]) == 1, timeout=PATIENCE)
            with worker_alone(client, "--worker-port", address.rpartition(":")[2]):
                assert client.submit(abs, -1, workers="alone", pure=False).result(timeout=PATIENCE) == 1
        finally:
            os.kill(child, signal.SIGKILL)


OWNER = """
import os, time
from headrace import Client, LocalCluster

if __name__ == "__main__":
    cluster = LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None)
    client = Client(cluster)
    worker = client.submit(os.getpid).result()
    child = os.fork()
    if child:
        print(worker, child, flush=True)
    time.sleep(1000)
"""


@needs_fork
def test_a_child_that_outlives_the_owner_of_workers_does_not_keep_them() -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-W", "ignore", "-c", OWNER]
    program = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    assert program.stdout is not None
    worker, child = map(int, program.stdout.readline().split())
    try:
        program.kill()
        program.wait()
        poll_for(lambda: not runs(worker), timeout=PATIENCE)
        assert runs(child)
    finally:
        os.kill(child, signal.SIGKILL)
        program.stdout.close()


def runs(process: int) -> bool:
    try:
        return psutil.Process(process).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
