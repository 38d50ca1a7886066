"""The examples of the documentation's page "Python API (advanced)", verbatim, each as a program of its own.

Those that run until somebody stops them are stopped from outside, after they have been seen to work.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from headrace.rpc import rpc
from headrace.testing.helpers.polling import async_poll_for

EXAMPLES = Path(__file__).parent / "examples"
LIMIT = 30


@contextlib.asynccontextmanager
async def running(script: Path) -> AsyncIterator[subprocess.Popen[bytes]]:
    """A program that has ended by itself, without errors, when the block ends."""
    process = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        yield process
        output, errors = await asyncio.to_thread(process.communicate, timeout=LIMIT)
    except BaseException:
        process.kill()
        output, errors = process.communicate()
        print(output.decode(), errors.decode())
        raise
    assert process.returncode == 0, errors.decode()
    assert b"Traceback" not in errors, errors.decode()


async def scheduler_of(process: subprocess.Popen[bytes]) -> str:
    """The address of the scheduler in a program, found among the ports that it listens on."""
    found: list[str] = []

    async def look() -> bool:
        assert process.poll() is None, process.communicate()
        for connection in psutil.Process(process.pid).net_connections("tcp"):
            if connection.status != psutil.CONN_LISTEN:
                continue
            host = connection.laddr.ip
            address = f"tcp://{'127.0.0.1' if host in ('0.0.0.0', '::') else host}:{connection.laddr.port}"
            async with rpc(address) as server:
                if (await server.identity())["type"] == "Scheduler":
                    found.append(address)
                    return True
        return False

    await async_poll_for(look, LIMIT, period=0.02)
    return found[0]


async def workers_of(scheduler: Any, count: int) -> dict[str, Any]:
    async def there() -> bool:
        return len((await scheduler.identity())["workers"]) == count

    await async_poll_for(there, LIMIT, period=0.02)
    return dict((await scheduler.identity())["workers"])


@pytest.mark.parametrize("name", ["full", "with_client"])
def test_a_computation_is_run_and_everything_closes(name: str) -> None:
    done = subprocess.run([sys.executable, EXAMPLES / f"{name}.py"], capture_output=True, timeout=LIMIT, check=False)
    assert done.stdout.decode().strip() == "11", done.stderr.decode()
    assert done.returncode == 0
    assert b"Traceback" not in done.stderr


async def test_a_scheduler_runs_until_it_is_told_to_stop() -> None:
    async with running(EXAMPLES / "scheduler.py") as process, rpc(await scheduler_of(process)) as scheduler:
        await scheduler.terminate(reply=False)


@pytest.mark.parametrize("name", ["many", "context_managers"])
async def test_scheduler_and_worker_run_in_one_loop_until_told_to_stop(name: str) -> None:
    async with running(EXAMPLES / f"{name}.py") as process, rpc(await scheduler_of(process)) as scheduler:
        assert len(await workers_of(scheduler, 1)) == 1
        await scheduler.terminate(reply=False)


async def test_a_nanny_takes_the_place_of_a_worker(tmp_path: Path) -> None:
    text = (EXAMPLES / "context_managers.py").read_text()
    # as the document says: "we can replace Worker with Nanny"
    text = text.replace("import Scheduler, Worker", "import Scheduler, Nanny").replace("Worker(s", "Nanny(s")
    script = tmp_path / "nanny.py"
    script.write_text(text)
    async with running(script) as process, rpc(await scheduler_of(process)) as scheduler:
        workers = await workers_of(scheduler, 1)
        assert all(worker["nanny"] for worker in workers.values())
        assert len(psutil.Process(process.pid).children()) >= 1
        await scheduler.terminate(reply=False)


async def test_a_worker_joins_the_scheduler_that_it_is_given(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", 8786))
        except OSError:
            pytest.skip("port 8786, which the example names, is in use")
    from headrace import Scheduler

    async with Scheduler(host="127.0.0.1", port=8786) as scheduler, running(EXAMPLES / "worker.py"):
        await async_poll_for(lambda: len(scheduler.workers) == 1, LIMIT, period=0.02)
        scheduler.close_worker(next(iter(scheduler.workers)))
        await async_poll_for(lambda: not scheduler.workers, LIMIT, period=0.02)


async def test_servers_are_closed_by_awaiting_close() -> None:
    from dask.distributed import Scheduler

    s = Scheduler()
    s = await s
    await s.close()
    await asyncio.wait_for(s.finished(), 5)
