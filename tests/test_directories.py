"""The directories of workers: where they are, and that none outlives its worker for long."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import dask

from headrace import Client, Nanny, Scheduler, Worker
from headrace.directories import scratch_directory
from headrace.testing.clusters import gen_cluster

NONE: list[Any] = []


def entries(folder: Path) -> set[str]:
    return {one.name for one in folder.iterdir()}


@gen_cluster(nthreads=NONE)
async def test_below_the_directory_that_dask_is_configured_with(s: Scheduler, tmp_path: Path) -> None:
    with dask.config.set({"temporary-directory": str(tmp_path)}):
        async with Worker(s.address, nthreads=1) as w:
            assert Path(w.local_directory).parent == Path(scratch_directory())
            assert Path(scratch_directory()).parent == tmp_path
            assert os.stat(scratch_directory()).st_mode & 0o077 == 0, "for this user alone"
        assert not entries(Path(scratch_directory()))


@gen_cluster(nthreads=NONE)
async def test_a_closed_worker_leaves_nothing(s: Scheduler, tmp_path: Path) -> None:
    async with Worker(s.address, nthreads=1, local_directory=str(tmp_path)) as w:
        assert entries(tmp_path) == {Path(w.local_directory).name, Path(w.local_directory).name + ".dirlock"}
    assert not entries(tmp_path)


@gen_cluster(nthreads=NONE, client=True)
async def test_what_a_killed_worker_left_is_removed_by_the_next(c: Client, s: Scheduler, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "headrace.cli", "worker", s.address, "--no-nanny", "--nthreads", "1"]
    with subprocess.Popen([*command, "--local-directory", str(tmp_path)], stderr=subprocess.DEVNULL) as process:
        try:
            await c.wait_for_workers(1)
            (left,) = (worker.local_directory for worker in s.workers.values())
            (Path(left) / "spilled").write_bytes(b"much")
        finally:
            process.kill()
    assert Path(left).is_dir()
    async with Worker(s.address, nthreads=1, local_directory=str(tmp_path)) as w:
        assert entries(tmp_path) == {Path(w.local_directory).name, Path(w.local_directory).name + ".dirlock"}


@gen_cluster(nthreads=NONE)
async def test_a_nanny_removes_what_its_killed_worker_left(s: Scheduler, tmp_path: Path) -> None:
    async with Nanny(s.address, nthreads=1, local_directory=str(tmp_path)) as nanny:
        before = nanny.worker_dir
        assert before is not None
        await nanny.kill(timeout=0)
        await nanny.instantiate()
        assert nanny.worker_dir != before
    assert not entries(tmp_path)
