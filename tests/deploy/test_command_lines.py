"""All users of a machine see command lines: those of a cluster's processes have no secret in them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import dask.config
import pytest

from headrace import Client, LocalCluster, SubprocessCluster
from headrace.config import INHERITED
from headrace.deploy.ssh import Scheduler, Worker
from headrace.nanny.environment import SPEC_VARIABLE

SECRET = "nobody-else-may-read-this"
needs_proc = pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="needs Linux's /proc")


def command_lines() -> list[str]:
    """Those of all processes of this machine."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(path.read_bytes().decode(errors="replace"))
        except OSError:  # it has ended
            continue
    return found


@needs_proc
@pytest.mark.slow
def test_of_a_cluster_of_processes() -> None:
    with (
        dask.config.set({"someone.password": SECRET}),
        SubprocessCluster(
            n_workers=1,
            threads_per_worker=1,
            dashboard_address=None,
            worker_kwargs={"env": {"THEIR_KEY": SECRET}},
        ) as cluster,
        Client(cluster) as client,
    ):
        assert client.submit(os.getenv, "THEIR_KEY").result() == SECRET
        assert client.submit(os.getenv, SPEC_VARIABLE).result() is None, "tasks do not inherit it"
        assert not [line for line in command_lines() if SECRET in line]


@needs_proc
@pytest.mark.slow
def test_of_a_cluster_with_certificates() -> None:
    with (
        LocalCluster(n_workers=1, threads_per_worker=1, security=True, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        assert client.submit(sum, [1, 2]).result() == 3
        assert not [line for line in command_lines() if "PRIVATE KEY" in line]


@pytest.mark.parametrize("workers", [1, 2])
def test_of_processes_over_ssh(workers: int, tmp_path: Path) -> None:
    """The command, run by a shell here, with a program for Python that says what it was given."""
    program = tmp_path / "python"
    program.write_text(
        f"#!{sys.executable}\n"
        "import json, os, sys\n"
        "print(json.dumps([sys.argv[1:], dict(os.environ), sys.stdin.read()]))\n"
    )
    program.chmod(0o700)
    kwargs = {"env": {"THEIR_KEY": SECRET}, "n_workers": workers, "local_directory": "it's 'here' $HOME"}
    with dask.config.set({"someone.password": SECRET}):
        for process in (
            Worker("tcp://host:1", "host", {}, kwargs, remote_python=str(program), name="w"),
            Scheduler("host", {}, {"name": SECRET}, remote_python=str(program)),
        ):
            command, told = process._command(), process._told()
            assert SECRET not in command
            assert told[INHERITED] not in command
            lines = "".join(f"{line}\n" for line in told.values())
            done = subprocess.run(
                ["sh", "-c", command], input=f"{lines}more", capture_output=True, check=True, text=True
            )
            arguments, environment, rest = json.loads(done.stdout)
            assert SECRET not in " ".join(arguments)
            assert environment[INHERITED] == told[INHERITED]
            assert json.loads(environment[SPEC_VARIABLE]) == process._specification()
            assert SECRET in environment[SPEC_VARIABLE]
            assert rest == "more", "the process stops when its standard input ends, so that it must be its own"
