"""Workers' processes that are forked: each as clean as an interpreter of its own, and watched as closely."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import dask.config
import psutil
import pytest

import headrace
from headrace import Client, LocalCluster, Nanny, Scheduler
from headrace.nanny import forkserver
from headrace.nanny.environment import interpreter_arguments, module_path, process_environment
from headrace.testing.clusters import gen_cluster
from headrace.testing.helpers.polling import async_poll_for, poll_for

pytestmark = pytest.mark.skipif(not forkserver.is_possible(), reason="workers are not forked here")
NO_WORKERS: list[Any] = []


@pytest.fixture(autouse=True)
def from_the_first_worker_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forkserver, "ALONE", 0)


def start(**keywords: Any) -> LocalCluster:
    return LocalCluster(**{"threads_per_worker": 1, "dashboard_address": None, **keywords})


def look() -> dict[str, Any]:
    import random
    import threading
    import uuid

    return {
        "parent": os.getppid(),
        "group": os.getpgid(0) == os.getpid(),
        "random": (random.random(), uuid.uuid4().hex),
        "hash": hash("text"),
        "path": sys.path[:-1],  # the last one is the worker's own
        "directory": os.getcwd(),
        "environment": dict(os.environ),
        "umask": (before := os.umask(0), os.umask(before))[0],
        "main": threading.main_thread().name,
        "daemon": __import__("multiprocessing").current_process().daemon,
        "interrupts": signal.getsignal(signal.SIGINT),
        "descriptors": len(os.listdir("/proc/self/fd")),
        "defaults": __import__("dask").config.get("distributed.worker.memory.target"),
    }


def servers() -> list[psutil.Process]:
    """Fork servers that this process has."""
    found = []
    for child in psutil.Process().children():
        if any("headrace.nanny.forking" in word for word in child.cmdline()):
            found.append(child)
    return found


def test_the_first_workers_are_started_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forkserver, "ALONE", 2)
    with start(n_workers=2) as cluster, Client(cluster) as client:
        assert servers() == []
        cluster.scale(3)
        client.wait_for_workers(3, timeout=30)
        (server,) = servers()
        parents = [seen["parent"] for seen in client.run(look).values()]
        assert sorted(parents) == sorted([os.getpid(), os.getpid(), server.pid])
    assert servers() == []


def test_forked_workers_are_as_clean_as_started_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    with dask.config.set({"distributed.worker.memory.target": 0.55}):
        with start(n_workers=2) as cluster, Client(cluster) as client:
            (server,) = servers()
            forked = list(client.run(look).values())
            assert [seen["parent"] for seen in forked] == [server.pid] * 2
            assert server.num_threads() == 1
        with (
            dask.config.set({"distributed.nanny.fork-server": False}),
            start(n_workers=1) as cluster,
            Client(cluster) as client,
        ):
            (alone,) = client.run(look).values()
            assert servers() == []
    assert alone["parent"] == os.getpid()
    for seen in forked:
        for same in ("hash", "path", "directory", "umask", "main", "daemon", "interrupts", "defaults"):
            assert seen[same] == alone[same], same
        assert seen["defaults"] == 0.55
        assert seen["group"], "a process group of its own"
        assert set(seen["environment"]) == set(alone["environment"])
        assert abs(seen["descriptors"] - alone["descriptors"]) <= 3
    assert forked[0]["random"] != forked[1]["random"]


def test_what_a_server_imports_makes_copies_neither_alike_nor_unsafe() -> None:
    code = """
import contextlib, importlib, sys, threading
from headrace.nanny.forking import MODULES
for name in MODULES:
    with contextlib.suppress(ImportError):
        importlib.import_module(name)
assert threading.active_count() == 1
print(*sys.modules)
"""
    said = subprocess.run([sys.executable, "-c", code], env=process_environment(), capture_output=True, check=True)
    modules = said.stdout.decode().split()
    assert "headrace.worker.server" in modules
    # The former would start threads, and read variables that workers have of their own; the latter draws random
    # numbers, by which names are told apart.
    assert not [name for name in modules if name.partition(".")[0] == "numpy" or name.startswith("headrace.client")]


def test_what_a_worker_prints_goes_where_its_nanny_prints() -> None:
    source = str(Path(headrace.__file__).parents[1])
    code = """
import sys
from headrace import Client, LocalCluster
from headrace.nanny import forkserver
forkserver.ALONE = 0
with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as cluster, Client(cluster) as client:
    client.submit(print, "from the worker", file=None).result()
    client.submit(exec, "import sys; print('and its errors', file=sys.stderr)").result()
"""
    environment = {**os.environ, "PYTHONPATH": source}
    said = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60)
    assert said.stdout == "from the worker\n"
    assert "and its errors" in said.stderr


@gen_cluster(nthreads=NO_WORKERS, client=True)
async def test_variables_of_each_worker(c: Client, s: Scheduler) -> None:
    """Those that act as a process starts have a server of their own; all are set before anything reads them."""
    ordinary: list[dict[str, Any]] = [{"OMP_NUM_THREADS": 3}, {"OMP_NUM_THREADS": 4}]
    async with Nanny(s.address, nthreads=1, env=ordinary[0]), Nanny(s.address, nthreads=1, env=ordinary[1]):
        assert len(servers()) == 1
        found = await c.run(lambda: os.environ.get("OMP_NUM_THREADS"))
        assert sorted(found.values()) == ["3", "4"]
        async with Nanny(s.address, nthreads=1, env={"MALLOC_TRIM_THRESHOLD_": 77_777, "PYTHONHASHSEED": 5}) as other:
            assert len(servers()) == 2
            parents = await c.run(os.getppid)
            (own,) = [server for server in servers() if server.pid == parents[other.worker_address]]
            assert own.environ()["MALLOC_TRIM_THRESHOLD_"] == "77777"
            assert len(set((await c.run(hash, "text")).values())) == 2
    assert servers() == []


@gen_cluster(nthreads=NO_WORKERS, client=True)
async def test_the_configuration_is_that_of_the_moment(c: Client, s: Scheduler) -> None:
    def target() -> float:
        from headrace import config

        return float(config.get("distributed.worker.memory.target"))

    async with Nanny(s.address, nthreads=1) as first:
        with dask.config.set({"distributed.worker.memory.target": 0.41}):
            async with Nanny(s.address, nthreads=1) as second:
                found = await c.run(target)
                assert found == {first.worker_address: 0.6, second.worker_address: 0.41}
        async with Nanny(s.address, nthreads=1, config={"distributed.worker.memory.target": 0.42}) as third:
            assert (await c.run(target))[third.worker_address] == 0.42
        assert len(servers()) == 1


@gen_cluster(nthreads=NO_WORKERS, client=True)
async def test_how_a_forked_worker_died_is_told(c: Client, s: Scheduler) -> None:
    async with Nanny(s.address, nthreads=1) as nanny:
        for number, code in ((signal.SIGKILL, -9), (signal.SIGSEGV, -11)):
            process, pid = nanny.process, nanny.pid
            assert process is not None
            assert pid is not None
            os.kill(pid, number)
            await process.finished()
            assert process.exit_code == code
            await async_poll_for(lambda pid=pid: nanny.is_alive() and nanny.pid not in (None, pid))
            await c.wait_for_workers(1)
            assert await c.submit(os.getpid, pure=False) == nanny.pid
            assert not psutil.pid_exists(pid), "nobody is left to be waited for"
        process = nanny.process
        assert process is not None
        future = c.submit(os._exit, 7, retries=1)
        await process.finished()
        assert process.exit_code == 7
        await future.cancel()


@gen_cluster(nthreads=NO_WORKERS, client=True)
async def test_workers_outlive_their_server(c: Client, s: Scheduler) -> None:
    async with Nanny(s.address, nthreads=1) as nanny:
        (server,) = servers()
        server.kill()
        server.wait(10)
        process, pid = nanny.process, nanny.pid
        assert process is not None
        assert pid is not None
        assert await c.submit(os.getpid) == pid
        os.kill(pid, signal.SIGKILL)
        await process.finished()
        assert process.exit_code == forkserver.UNSEEN
        assert process.exit_cause == "its process ended, and nobody could see how"
        await async_poll_for(lambda: nanny.is_alive() and nanny.pid not in (None, pid))
        await c.wait_for_workers(1)
        assert await c.submit(os.getpid, pure=False) == nanny.pid
        async with Nanny(s.address, nthreads=1) as other:
            assert await c.submit(os.getpid, workers=[other.worker_address], pure=False) == other.pid
    assert servers() == []


@gen_cluster(nthreads=NO_WORKERS, client=True)
async def test_a_server_stays_when_descriptors_have_run_out(c: Client, s: Scheduler) -> None:
    def fail(self: Any, replies: int) -> Any:
        raise OSError(errno.EMFILE, "Too many open files")

    async with Nanny(s.address, nthreads=1) as first:
        (server,) = servers()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(forkserver._ForkServerProcess, "fork", fail)
            async with Nanny(s.address, nthreads=1) as other:
                assert (await c.run(os.getppid))[other.worker_address] == os.getpid()
        assert servers() == [server]
        assert first.process is not None
        assert first.process.is_alive()


async def test_a_process_that_is_ended_before_it_is_forked() -> None:
    forkserver.keep()
    read, write = os.pipe()
    try:
        forked = forkserver.start(interpreter_arguments(), process_environment(), module_path(), write)
        assert forked is not None
        process, _ = forked
        assert process.poll() is None
        process.send_signal(signal.SIGKILL)
        await async_poll_for(lambda: process.poll() is not None)
        assert process.returncode == -signal.SIGKILL
        assert process.stdin is not None
        process.stdin.close()
        os.close(process.news)
    finally:
        os.close(read)
        os.close(write)
        await forkserver.let_go()
    assert servers() == []


def test_nothing_is_left_when_the_nannies_process_is_killed(tmp_path: Path) -> None:
    source = str(Path(headrace.__file__).parents[1])
    code = """
import os, sys, time
from headrace import Client, LocalCluster
from headrace.nanny import forkserver
forkserver.ALONE = 1
cluster = LocalCluster(n_workers=3, threads_per_worker=1, dashboard_address=None)
print(*Client(cluster).run(os.getpid).values(), flush=True)
time.sleep(60)
"""
    environment = {**os.environ, "PYTHONPATH": source, "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        workers = [int(word) for word in process.stdout.readline().split()]
        family = psutil.Process(process.pid).children(recursive=True)
        process.kill()
    assert {worker.pid for worker in family} > set(workers)
    poll_for(lambda: not [one for one in family if one.is_running() and one.status() != psutil.STATUS_ZOMBIE], 20)


def test_a_forked_copy_of_this_process_leaves_its_servers_alone() -> None:
    async def in_copy() -> bool:
        started = forkserver.start(interpreter_arguments(), process_environment(), module_path(), 1)
        await forkserver.let_go()
        return started is None

    with start(n_workers=1) as cluster, Client(cluster) as client:
        (server,) = servers()
        pid = os.fork()
        if pid == 0:
            asyncio.set_event_loop_policy(None)
            os._exit(0 if asyncio.new_event_loop().run_until_complete(in_copy()) else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert server.is_running()
        assert client.submit(os.getppid).result() == server.pid


def test_a_forked_child_that_lives_on_keeps_no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    killed = []
    kill = subprocess.Popen.kill
    monkeypatch.setattr(subprocess.Popen, "kill", lambda process: (killed.append(process.pid), kill(process)))
    waiting, go_on = os.pipe()
    with start(n_workers=1):
        (server,) = servers()
        pid = os.fork()
        if pid == 0:
            os.close(go_on)
            os.read(waiting, 1)
            os._exit(0)
    os.close(waiting)
    os.close(go_on)
    os.waitpid(pid, 0)
    assert servers() == []
    assert server.pid not in killed, "it ends by itself"


def test_a_copy_made_while_another_thread_starts_a_worker_can_have_nannies() -> None:
    with forkserver._lock:
        pid = os.fork()
        if pid == 0:
            signal.alarm(20)
            forkserver.keep()
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


@gen_cluster(nthreads=NO_WORKERS, client=True)
async def test_workers_that_a_server_does_not_come_to_are_started_without_it(c: Client, s: Scheduler) -> None:
    async with Nanny(s.address, nthreads=1):
        (server,) = servers()
        server.suspend()
        other = Nanny(s.address, nthreads=1)
        starting = asyncio.ensure_future(other.start())
        try:
            await async_poll_for(lambda: other.process is not None and other.process.process is not None)
            server.kill()
            await starting
            assert (await c.run(os.getppid))[other.worker_address] == os.getpid()
        finally:
            await other.close()
    assert servers() == []


def test_one_that_has_ended_is_not_there_though_nobody_has_waited_for_it() -> None:
    """As where workers without a parent are inherited by a process that never waits."""
    code = "import os, sys; print(os.fork() or os._exit(0), flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", code]
    orders, for_orders = os.pipe()
    news, for_news = os.pipe()
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as stranger:
        try:
            assert stranger.stdout is not None
            pid = int(stranger.stdout.readline())
            poll_for(lambda: psutil.Process(pid).status() == psutil.STATUS_ZOMBIE, 10)
            os.write(for_news, f"pid {pid}\n".encode())
            os.close(for_news)
            process = forkserver.ForkedProcess(for_orders, news)
            assert process.poll() == forkserver.UNSEEN
            assert process.was_not_seen
            assert not process.was_not_forked
        finally:
            stranger.kill()
    assert process.stdin is not None
    process.stdin.close()
    for descriptor in (orders, news):
        os.close(descriptor)


@gen_cluster(nthreads=NO_WORKERS, client=True)
async def test_a_program_whose_name_is_cut_within_a_character(c: Client, s: Scheduler) -> None:
    """As that of a script that is called itself: Linux keeps 15 bytes of it."""
    with open("/proc/self/comm", "rb") as file:
        before = file.read()
    try:
        Path("/proc/self/comm").write_bytes("fourteen-bytesö".encode())
        async with Nanny(s.address, nthreads=1):
            assert len(servers()) == 1
            assert await c.submit(abs, -1) == 1
    finally:
        Path("/proc/self/comm").write_bytes(before)


def test_a_program_without_standard_input_output_and_errors(tmp_path: Path) -> None:
    code = f"""
import pathlib
from headrace import Client, LocalCluster
from headrace.nanny import forkserver
forkserver.ALONE = 0
with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as cluster, Client(cluster) as client:
    client.submit(print, "to nowhere").result(timeout=20)
    pathlib.Path({str(tmp_path / "result")!r}).write_text(str(client.submit(abs, -1).result(timeout=20)))
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(headrace.__file__).parents[1])}
    command = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", sys.executable, "-c", code]
    subprocess.run(command, env=environment, check=True, timeout=60)
    assert (tmp_path / "result").read_text() == "1"
