"""Preloads of schedulers, workers and nannies."""

from __future__ import annotations

import functools
import http.server
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import dask
import pytest

from headrace import Nanny, Scheduler, Worker
from headrace.compat.preloading import validate_preload_argv
from headrace.preloading import is_webaddress, process_preloads
from headrace.testing.clusters import gen_cluster, gen_test

PLAIN = """
def dask_setup(server):
    server.set_up = True

async def dask_teardown(server):
    server.torn_down = True
"""

COMMAND = """
import click

@click.command()
@click.option("--number", type=int, default=1)
@click.argument("words", nargs=-1)
async def dask_setup(server, number, words):
    server.number, server.words = number, words
"""


@pytest.fixture
def plain(tmp_path: Path) -> Iterator[str]:
    path = tmp_path / "plain_preload.py"
    path.write_text(PLAIN)
    yield str(path)
    sys.modules.pop("plain_preload", None)


@pytest.fixture
def command(tmp_path: Path) -> Iterator[str]:
    path = tmp_path / "command_preload.py"
    path.write_text(COMMAND)
    yield str(path)
    sys.modules.pop("command_preload", None)


@gen_test()
async def test_scheduler_worker_and_nanny(plain: str) -> None:
    with dask.config.set({"distributed.scheduler.preload": [plain], "distributed.nanny.preload": [plain]}):
        scheduler: Any = await Scheduler(host="127.0.0.1", port=0)
        worker: Any = await Worker(scheduler.address, preload=[plain])
        nanny: Any = await Nanny(scheduler.address, nthreads=1, preload=plain)
        assert scheduler.set_up
        assert worker.set_up
        assert nanny.set_up
        servers = [nanny, worker, scheduler]
        for server in servers:
            assert not hasattr(server, "torn_down")
            await server.close()
            assert server.torn_down


@gen_test()
async def test_commands_get_their_arguments(command: str, plain: str) -> None:
    async with Scheduler(
        host="127.0.0.1", port=0, preload=[command, plain], preload_argv=[["--number", "5", "a", "b"], []]
    ) as scheduler:
        server: Any = scheduler
        assert (server.number, server.words) == (5, ("a", "b"))
        assert server.set_up
    async with Scheduler(host="127.0.0.1", port=0, preload=command, preload_argv=["--number", "6"]) as scheduler:
        assert scheduler.number == 6  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="2 preloads and 1 lists"):
        Scheduler(preload=[command, plain], preload_argv=[["--number", "5"]])


@gen_cluster(nthreads=[])
async def test_text_modules_and_addresses(s: Scheduler, plain: str, tmp_path: Path) -> None:
    async with Worker(s.address, preload=["def dask_setup(worker): worker.from_text = 1"]) as worker:
        assert worker.from_text == 1  # type: ignore[attr-defined]
    sys.path.insert(0, str(tmp_path))
    try:
        async with Worker(s.address, preload="plain_preload") as worker:
            assert worker.set_up  # type: ignore[attr-defined]
    finally:
        sys.path.remove(str(tmp_path))

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(tmp_path))) as web:
        thread = threading.Thread(target=web.serve_forever)
        thread.start()
        try:
            address = f"http://127.0.0.1:{web.server_port}/plain_preload.py"
            async with Worker(s.address, preload=[address]) as worker:
                assert worker.set_up  # type: ignore[attr-defined]
            with pytest.raises(ImportError, match=r"absent\.py"):
                await Worker(s.address, preload=[address.replace("plain_preload", "absent")])
        finally:
            web.shutdown()
            thread.join()


@gen_cluster(nthreads=[])
async def test_failures(s: Scheduler, tmp_path: Path, caplog: Any) -> None:
    with pytest.raises(ImportError, match=r"absent\.py"):
        await Worker(s.address, preload=[str(tmp_path / "absent.py")])
    with pytest.raises(ModuleNotFoundError, match="absent_module"):
        await Worker(s.address, preload=["absent_module"])
    async with Worker(s.address, preload=["def dask_setup(worker): raise ValueError('in setup')"]):
        assert "in setup" in caplog.text
    async with Worker(s.address, preload=["def dask_teardown(worker): raise ValueError('in teardown')"]):
        pass
    assert "in teardown" in caplog.text


def test_arguments_without_a_preload_are_nobodys() -> None:
    @click.command()
    @click.option("--preload", multiple=True, is_eager=True)
    @click.argument("preload_argv", nargs=-1, callback=validate_preload_argv)
    def run(preload: Any, preload_argv: Any) -> None:
        assert preload_argv

    assert run.main(["--preload", "x", "a"], standalone_mode=False) is None
    with pytest.raises(click.UsageError, match=r"unexpected extra argument: \(a\)"):
        run.main(["a"], standalone_mode=False)
    assert is_webaddress("https://x/y.py")
    assert [preload.name for preload in process_preloads(None, "x", None)] == ["x"]
    assert len(process_preloads(None, None, None)) == 0
