"""`headrace token`, and the options that say who may connect."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from headrace import Client, LocalCluster, Security
from headrace.auth.token_places import VARIABLE
from headrace.auth.tokens import read_only_token
from tests.cli.program import HEADRACE, Program


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    """An environment whose user has no token yet."""
    return {**os.environ, "XDG_CONFIG_HOME": str(tmp_path), VARIABLE: ""}


def token(env: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*HEADRACE, "token", *arguments], env=env, capture_output=True, text=True, check=False)


def test_the_token_is_made_once_and_exchanged(home: dict[str, str], tmp_path: Path) -> None:
    first = token(home).stdout.strip()
    assert len(first) > 30
    assert token(home).stdout.strip() == first
    assert token(home, "--read-only").stdout.strip() == read_only_token(first)
    file = tmp_path / "headrace" / "token"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700

    assert "drop-old" in token(home, "rotate").stderr
    second = token(home).stdout.strip()
    assert second != first
    assert file.read_text().split() == [second, first]
    assert token(home, "drop-old").returncode == 0
    assert file.read_text().split() == [second]
    refused = token(home, "drop-old")
    assert refused.returncode == 1
    assert "holds one token" in refused.stderr
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_new_token_is_stored_nowhere(home: dict[str, str], tmp_path: Path) -> None:
    assert len(token(home, "new", "--print").stdout.strip()) > 30
    assert not list(tmp_path.iterdir())


def test_a_token_of_the_environment_is_not_exchanged_here(home: dict[str, str]) -> None:
    env = home | {VARIABLE: "a-token-of-the-environment"}
    assert token(env).stdout.strip() == "a-token-of-the-environment"
    refused = token(env, "rotate")
    assert refused.returncode == 1
    assert "distributed.comm.token" in refused.stderr
    assert "a-token-of-the-environment" not in refused.stderr


def test_a_file_that_others_may_read_is_refused(home: dict[str, str], tmp_path: Path) -> None:
    token(home)
    (tmp_path / "headrace" / "token").chmod(0o644)
    refused = token(home)
    assert refused.returncode == 1
    assert "chmod 600" in refused.stderr


def test_a_bad_token_file_ends_the_command(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("short")
    file.chmod(0o600)
    done = subprocess.run(
        [*HEADRACE, "scheduler", "--token-file", str(file)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "at least 16" in done.stderr


def test_the_schedulers_file_tells_its_token(home: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "scheduler.json"
    arguments = [
        "--host",
        "127.0.0.1",
        "--port",
        "0",
        "--dashboard-address",
        "127.0.0.1:0",
        "--scheduler-file",
        str(file),
    ]
    with Program("scheduler", *arguments, env=home) as scheduler:
        scheduler.line("Scheduler at:")
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        told = json.loads(file.read_text())
        assert told["token"] == token(home).stdout.strip()
        with Client(scheduler_file=str(file)) as client:
            assert client.security.tokens().valid == (told["token"],)
            assert client.scheduler_info()["security"] == {"auth": "token", "encryption": "auto"}
            assert "token" not in client.scheduler_info()
        assert scheduler.stop() == 0


def test_a_scheduler_that_is_open_says_so(home: dict[str, str], tmp_path: Path) -> None:
    arguments = ["--host", "0.0.0.0", "--port", "0", "--dashboard-address", "127.0.0.1:0", "--no-auth"]
    with Program("scheduler", *arguments, env=home) as scheduler:
        assert "may run code as this user" in scheduler.line("asks nobody for a token")
        assert scheduler.stop() == 0
    assert not list(tmp_path.iterdir())


def test_a_cluster_makes_a_token_of_its_own_which_is_on_no_command_line() -> None:
    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as cluster:
        made = cluster.security.tokens().valid[0]
        with Client(cluster) as client:
            assert client.security is cluster.security
            pids = [os.getpid(), *client.run(os.getpid).values()]
            held = client.run(lambda dask_worker: dask_worker.security.tokens().valid[0])
        assert set(held.values()) == {made}
        if sys.platform == "linux":
            lines = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in pids]
            lines += [Path(f"/proc/{pid}/environ").read_bytes() for pid in pids]
            assert not [line for line in lines if made.encode() in line]
        assert made not in repr(cluster.security) + cluster.security._repr_html_()
    given = Security(token="a-token-that-a-user-has-given")
    with LocalCluster(n_workers=0, security=given, processes=False, dashboard_address=None) as cluster:
        assert cluster.security.tokens().valid == ("a-token-that-a-user-has-given",)
