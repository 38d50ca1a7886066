"""The command line, as programs."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from headrace import Client
from headrace.cli.main import command
from headrace.cli.options import parse_resources
from headrace.testing.logs import wait_for_log_line
from headrace.testing.waiting import poll_for

HEADRACE = [sys.executable, "-m", "headrace.cli"]


class Program:
    """A program that is killed if the test forgets it."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen([*HEADRACE, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def __enter__(self) -> Program:
        return self

    def line(self, text: str) -> str:
        return wait_for_log_line(text.encode(), self.process.stdout, 50).decode()

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(20)

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        output, _errors = self.process.communicate()
        print(output.decode())


@pytest.mark.parametrize("nanny", ["--nanny", "--no-nanny"])
def test_scheduler_worker_and_client(tmp_path: Path, nanny: str) -> None:
    file = tmp_path / "scheduler.json"
    with Program("scheduler", "--host", "127.0.0.1", "--port", "0", "--scheduler-file", str(file)) as scheduler:
        address = scheduler.line("Scheduler at:").split()[-1]
        assert json.loads(file.read_text())["address"] == address
        with Program("worker", address, nanny, "--nthreads", "1", "--name", "alice", "--resources", "GPU=2") as worker:
            worker.line("Start worker at:")
            assert address in worker.line("Registered with scheduler at:")
            with Client(scheduler_file=str(file)) as client:
                client.wait_for_workers(1, timeout=20)
                assert client.submit(pow, 2, 5).result() == 32
                (info,) = client.scheduler_info()["workers"].values()
                assert info["name"] == "alice"
                assert info["nthreads"] == 1
                assert info["resources"] == {"GPU": 2.0}
            assert worker.stop(signal.SIGINT) == 0
        assert scheduler.stop() == 0
    assert not file.exists()


def test_several_workers(tmp_path: Path) -> None:
    with Program("scheduler", "--host", "127.0.0.1", "--port", "0") as scheduler:
        address = scheduler.line("Scheduler at:").split()[-1]
        with (
            Program("worker", address, "--nworkers", "2", "--nthreads", "1", "--name", "w") as worker,
            Client(address) as client,
        ):
            client.wait_for_workers(2, timeout=20)
            assert {info["name"] for info in client.scheduler_info()["workers"].values()} == {"w-0", "w-1"}
            assert worker.stop() == 0


def test_a_worker_ends_when_its_scheduler_closes() -> None:
    with Program("scheduler", "--host", "127.0.0.1", "--port", "0") as scheduler:
        address = scheduler.line("Scheduler at:").split()[-1]
        with Program("worker", address, "--no-nanny", "--nthreads", "1") as worker:
            worker.line("Registered with scheduler at:")
            assert scheduler.stop() == 0
            poll_for(lambda: worker.process.poll() is not None, 20)


def test_a_worker_gives_up_on_a_scheduler_that_is_not_there() -> None:
    with Program("worker", "tcp://127.0.0.1:1", "--no-nanny", "--nthreads", "1", "--death-timeout", "1s") as worker:
        assert "127.0.0.1:1" in worker.line("Error: the worker did not start")
        assert worker.process.wait(20) == 1


def test_the_port_asked_for_or_an_error() -> None:
    with Program("scheduler", "--host", "127.0.0.1", "--port", "0") as scheduler:
        port = scheduler.line("Scheduler at:").rpartition(":")[2].strip()
        with Program("scheduler", "--host", "127.0.0.1", "--port", port) as second:
            second.line("did not start")
            assert second.process.wait(20) == 1


def test_a_pid_file_is_kept_while_it_runs(tmp_path: Path) -> None:
    file = tmp_path / "pid"
    with Program("scheduler", "--host", "127.0.0.1", "--port", "0", "--pid-file", str(file)) as scheduler:
        scheduler.line("Scheduler at:")
        assert int(file.read_text()) == scheduler.process.pid
        scheduler.stop()
    assert not file.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["worker"], "name the scheduler"),
        (["worker", "tcp://127.0.0.1:1", "--no-nanny", "--nworkers", "2"], "only one"),
        (["worker", "tcp://127.0.0.1:1", "--nworkers", "many"], "number or 'auto'"),
        (["worker", "tcp://127.0.0.1:1", "--resources", "GPU"], "NAME=NUMBER"),
        (["scheduler", "--nonsense"], "No such option"),
    ],
)
def test_wrong_usage_is_explained(arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(command, arguments)
    assert result.exit_code == 2
    assert message in result.output


@pytest.mark.parametrize("arguments", [["--version"], ["scheduler", "--version"], ["worker", "--version"]])
def test_version(arguments: list[str]) -> None:
    result = CliRunner().invoke(command, arguments)
    assert result.exit_code == 0
    assert "headrace" in result.output


def test_resources() -> None:
    assert parse_resources(None) is None
    assert parse_resources("A=1, B=2.5") == {"A": 1.0, "B": 2.5}


def test_dask_offers_the_commands() -> None:
    scheduler: Any = command.commands["scheduler"]  # type: ignore[attr-defined]
    assert {"--host", "--port", "--scheduler-file"} <= {name for option in scheduler.params for name in option.opts}


STUBBORN = """
import asyncio
from headrace.cli.lifetime import serve

class Stubborn:
    async def finished(self):
        await asyncio.Event().wait()
    close = finished

async def start():
    print("up", flush=True)
    return [Stubborn()]

serve(start, "scheduler")
"""


def test_a_second_signal_forces_the_end() -> None:
    process = subprocess.Popen([sys.executable, "-c", STUBBORN], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        wait_for_log_line(b"up", process.stdout)
        process.send_signal(signal.SIGTERM)
        wait_for_log_line(b"Received SIGTERM", process.stdout)
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 1
    finally:
        process.kill()
        process.communicate()
