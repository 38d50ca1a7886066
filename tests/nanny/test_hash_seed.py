"""`hash` of texts is the same in all processes of workers: libraries sort things into bins by it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask.config
import pytest

import headrace
from headrace import Client, LocalCluster
from headrace.deploy.ssh import Worker as SSHWorker
from headrace.nanny.environment import HASH_SEED, process_environment
from headrace.testing.helpers.polling import poll_for

WORD = "straight"
WORKER = ("worker", "--nthreads", "1", "--no-dashboard")
COMMANDS = {
    "with a nanny": (*WORKER, "--nanny"),
    "without": (*WORKER, "--no-nanny"),
    "a specification": ("spec", "--spec", json.dumps({"cls": "headrace.Worker", "opts": {"nthreads": 1}})),
}


def hash_in_python(seed: str) -> int:
    code = f"print(hash({WORD!r}))"
    said = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True
    )
    return int(said.stdout)


@pytest.fixture
def without_seed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("PYTHONHASHSEED", raising=False)
    return


@pytest.mark.usefixtures("without_seed")
def test_all_ways_to_start_a_worker() -> None:
    def hashed() -> int:
        return hash(WORD)

    environment = {**os.environ, "PYTHONPATH": str(Path(headrace.__file__).parents[1])}
    expected = hash_in_python(HASH_SEED)
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster, Client(cluster) as client:
        assert set(client.run(hashed).values()) == {expected}
        (address, pid), *_ = client.run(os.getpid).items()
        os.kill(pid, signal.SIGKILL)
        poll_for(lambda: address not in cluster.scheduler.workers)
        client.wait_for_workers(2, timeout=30)
        started: list[Any] = []
        try:
            for options in COMMANDS.values():
                command = [sys.executable, "-m", "headrace.cli", *options, cluster.scheduler_address]
                started.append(subprocess.Popen(command, env=environment))
            client.wait_for_workers(2 + len(started), timeout=60)
            found = client.run(hashed)
            assert set(found.values()) == {expected}
            assert len(found) == 2 + len(started)
            assert address not in found
        finally:
            for process in started:
                process.terminate()
            for process in started:
                process.wait(20)


@pytest.mark.usefixtures("without_seed")
def test_the_users_own_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert process_environment()["PYTHONHASHSEED"] == HASH_SEED
    with dask.config.set({"distributed.nanny.pre-spawn-environ": {"PYTHONHASHSEED": 5}}):
        assert process_environment()["PYTHONHASHSEED"] == "5"
    assert process_environment({"PYTHONHASHSEED": 6})["PYTHONHASHSEED"] == "6"
    monkeypatch.setenv("PYTHONHASHSEED", "0")
    assert process_environment()["PYTHONHASHSEED"] == "0"
    monkeypatch.setenv("PYTHONHASHSEED", "random")
    assert process_environment()["PYTHONHASHSEED"] == HASH_SEED


def test_workers_on_other_machines_have_that_of_their_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONHASHSEED", "9")
    assert (
        " PYTHONHASHSEED=9 " in SSHWorker(scheduler="tcp://h:1", address="h", connect_options={}, kwargs={})._command()
    )


@pytest.mark.parametrize("flag", ["-E", "-I"])
def test_an_interpreter_that_ignores_its_environment(flag: str) -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import os, subprocess\n"
        "from headrace.nanny.environment import interpreter_arguments, process_environment\n"
        "environment = process_environment()\n"
        f"command = [sys.executable, *interpreter_arguments(), '-c', 'print(hash(\\'{WORD}\\'))']\n"
        "print('PYTHONOPTIMIZE' in environment, flush=True); subprocess.run(command, env=environment, check=True)\n"
    )
    source = str(Path(headrace.__file__).parents[1])
    environment = {**os.environ, "PYTHONOPTIMIZE": "1", "PYTHONHASHSEED": "3"}
    command = [sys.executable, flag, "-c", code, source]
    said = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert said.stdout.split() == ["False", str(hash_in_python(HASH_SEED))]
