"""Workers in processes of their own: start, failure to start, death, and the end of their parents."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import dask
import pytest

from headrace import Nanny, Scheduler
from headrace.nanny import WorkerProcess
from headrace.protocol import Serialize
from headrace.rpc import rpc
from headrace.security import Security
from headrace.testing.helpers.polling import async_poll_for


@pytest.fixture
async def scheduler() -> AsyncIterator[Scheduler]:
    async with Scheduler(host="127.0.0.1") as started:
        yield started


async def call(address: str | None, function: Any) -> Any:
    assert address is not None
    async with rpc(address) as proxy:
        return (await proxy.run(function=Serialize(function)))["result"]


async def until(condition: Any) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


def surroundings() -> Any:
    import os
    import sys

    import dask

    return {
        "main": getattr(sys.modules["__main__"], "__file__", None),
        "path": sys.path,
        "threads": os.environ["OMP_NUM_THREADS"],
        "given": os.environ.get("GIVEN"),
        "home": os.environ.get("HOME"),
        "config": dask.config.get("given"),
        "input": sys.stdin.read(),
        "pid": os.getpid(),
    }


async def test_a_process_has_its_parents_surroundings(scheduler: Scheduler, tmp_path: Path) -> None:
    with dask.config.set(given=5):
        process = WorkerProcess(
            {"scheduler_ip": scheduler.address, "name": "a", "nthreads": 2, "local_directory": str(tmp_path)},
            env={"GIVEN": "1", "HOME": None},
        )
        async with process:
            assert process.address in scheduler.workers
            assert process.name == "a"
            assert scheduler.workers[process.address].nthreads == 2
            found = await call(process.address, surroundings)
    assert found["pid"] == process.pid != os.getpid()
    assert found["main"] is None
    assert {os.path.abspath(entry) for entry in sys.path} <= {os.path.abspath(entry) for entry in found["path"]}
    assert (found["threads"], found["given"], found["home"], found["config"]) == ("1", "1", None, 5)
    assert found["input"] == ""
    assert process.exit_code == 0
    await until(lambda: not scheduler.workers)
    assert list(tmp_path.iterdir()) == []


async def test_a_start_that_fails_says_why(scheduler: Scheduler) -> None:
    with pytest.raises(RuntimeError, match="TypeError: Worker got an unexpected keyword argument 'bogus'"):
        await WorkerProcess({"scheduler_ip": scheduler.address, "bogus": 1})
    with pytest.raises(RuntimeError, match="as it started"):
        await WorkerProcess({"scheduler_ip": scheduler.address}, worker=Suicide)
    with pytest.raises(TimeoutError, match="the worker did not start: TimeoutError: of its own"):
        await WorkerProcess({"scheduler_ip": scheduler.address}, worker=Late)


class Late:
    def __init__(self, **options: Any) -> None:
        raise TimeoutError("of its own")


class Suicide:
    def __init__(self, **options: Any) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


async def test_a_worker_that_hangs_is_killed(scheduler: Scheduler, tmp_path: Path) -> None:
    process = await WorkerProcess({"scheduler_ip": scheduler.address, "nthreads": 1, "local_directory": str(tmp_path)})

    mark = tmp_path / "hangs"

    def hang() -> None:
        import signal
        import time

        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        mark.touch()
        time.sleep(1000)

    address = process.address
    assert address is not None
    asking = asyncio.ensure_future(call(address, hang))
    await async_poll_for(mark.exists, timeout=20, period=0.01)
    await process.close(timeout=0.2)
    assert process.exit_code == -signal.SIGKILL
    with pytest.raises(OSError, match=r"clos|reset|lost|end"):
        await asking


async def test_workers_end_with_their_parent(scheduler: Scheduler, tmp_path: Path) -> None:
    options = {"scheduler_ip": scheduler.address, "nthreads": 1, "local_directory": str(tmp_path)}
    script = textwrap.dedent(
        f"""
        import asyncio, os, signal
        from headrace.nanny import WorkerProcess
        async def main():
            await WorkerProcess({options!r})
            os.kill(os.getpid(), signal.SIGKILL)
        asyncio.run(main())
        """
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    parent = subprocess.Popen([sys.executable, "-c", script], env=environment)
    await until(lambda: parent.poll() is not None)
    assert parent.returncode == -signal.SIGKILL
    await until(lambda: not scheduler.workers)
    await until(lambda: not list(tmp_path.iterdir()))


async def test_nanny_starts_a_dead_worker_again(scheduler: Scheduler, tmp_path: Path) -> None:
    async with Nanny(scheduler.address, name="n", nthreads=1, local_directory=str(tmp_path)) as nanny:
        pid, address = nanny.pid, nanny.worker_address
        assert pid is not None
        assert address is not None
        assert scheduler.workers[address].nanny == nanny.address
        os.kill(pid, signal.SIGKILL)
        await until(lambda: nanny.pid != pid and nanny.worker_address in scheduler.workers)
        await until(lambda: address not in scheduler.workers)
        assert await call(nanny.address, os.getpid) == os.getpid()
        assert await nanny.restart() == "OK"
        await until(lambda: nanny.worker_address in scheduler.workers)
        last = nanny.pid
        assert last is not None
    with pytest.raises(ProcessLookupError):
        os.kill(last, 0)


async def test_nanny_closes_with_its_worker(scheduler: Scheduler, tmp_path: Path) -> None:
    async with Nanny(scheduler.address, nthreads=1, local_directory=str(tmp_path)) as nanny:
        assert nanny.worker_address is not None
        async with rpc(nanny.worker_address) as proxy:
            await proxy.terminate(reason="enough")
        async with asyncio.timeout(20):
            await nanny.finished()
    assert scheduler.workers == {}


async def test_nanny_needs_a_scheduler_that_processes_can_reach() -> None:
    async with Scheduler(protocol="inproc") as scheduler:
        with pytest.raises(RuntimeError, match="inproc"):
            await Nanny(scheduler.address)


async def test_encrypted(tmp_path: Path) -> None:
    security = Security.temporary()
    async with (
        Scheduler(host="127.0.0.1", security=security) as scheduler,
        WorkerProcess(
            {
                "scheduler_ip": scheduler.address,
                "nthreads": 1,
                "security": security,
                "local_directory": str(tmp_path),
            }
        ) as process,
    ):
        assert process.address is not None
        assert process.address.startswith("tls://")
        assert process.address in scheduler.workers


async def test_what_keeps_a_process_from_being_started_is_what_is_raised(
    scheduler: Scheduler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    nanny = Nanny(scheduler.address, nthreads=1)
    with pytest.raises(RuntimeError, match="Nanny failed to start") as failed:
        await nanny
    assert isinstance(failed.value.__cause__, FileNotFoundError)
    assert not nanny.is_alive()
    await nanny.close()
    process = WorkerProcess({"scheduler_ip": scheduler.address})
    with pytest.raises(FileNotFoundError):
        await process
    await process.close()
    await process.finished()
