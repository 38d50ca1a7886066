"""SSHCluster against a real sshd on loopback, which the test starts as the current user."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import headrace
from headrace import Client, SSHCluster
from headrace.auth.token_places import find_tokens
from headrace.cli.main import command
from headrace.testing.helpers.log_reading import wait_for_log_line
from headrace.testing.helpers.polling import poll_for

SSHD = shutil.which("sshd") or shutil.which("sshd", path="/usr/sbin:/usr/local/sbin")
KEYGEN = shutil.which("ssh-keygen")
missing = "needs sshd and ssh-keygen (Debian: openssh-server)" if not (SSHD and KEYGEN) else ""
needs_sshd = pytest.mark.skipif(bool(missing), reason=missing)
asyncssh = pytest.importorskip("asyncssh", reason="needs asyncssh: pip install 'headrace[ssh]'")

LOCAL = {"host": "127.0.0.1", "port": 0}


class Host:
    """This machine as one that is reached with SSH."""

    def __init__(self, port: int, folder: Path) -> None:
        self.port = port
        self.key = folder / "client"
        self.python = str(folder / "python")
        self.options: dict[str, Any] = {"port": port, "known_hosts": None, "client_keys": [str(self.key)], "config": []}

    def cluster(self, workers: int = 1, **options: Any) -> Any:
        given = {
            "connect_options": self.options,
            "scheduler_options": LOCAL,
            "worker_options": {"nthreads": 1, "host": "127.0.0.1"},
            "remote_python": self.python,
        }
        return SSHCluster(["127.0.0.1"] * (workers + 1), **{**given, **options})


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    folder = tmp_path_factory.mktemp("sshd")
    for name in ("server", "client"):
        subprocess.run([str(KEYGEN), "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
    shutil.copy(folder / "client.pub", folder / "authorized")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (folder / "config").write_text(
        f"ListenAddress 127.0.0.1:{port}\n"
        f"HostKey {folder / 'server'}\n"
        f"AuthorizedKeysFile {folder / 'authorized'}\n"
        "StrictModes no\nUsePAM no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n"
        "PermitRootLogin prohibit-password\nPidFile none\nLogLevel VERBOSE\nMaxStartups 100\n"
    )
    # the machine's Python, which does not know this checkout by itself
    source = Path(headrace.__file__).parents[1]
    python = folder / "python"
    python.write_text(f'#!/bin/sh\nexec env PYTHONPATH="{source}" "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    if os.getuid() == 0:
        os.makedirs("/run/sshd", mode=0o755, exist_ok=True)  # sshd of root wants to confine its unprivileged part there
    server = subprocess.Popen(
        [str(SSHD), "-D", "-e", "-f", str(folder / "config")], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    try:
        wait_for_log_line(b"Server listening", server.stderr)
        yield Host(port, folder)
    finally:
        server.terminate()
        server.communicate(timeout=20)


@needs_sshd
def test_a_client_and_the_end(host: Host) -> None:
    with host.cluster(2) as cluster, Client(cluster) as client:
        assert client.submit(pow, 2, 5).result() == 32
        assert cluster.observed == {0, 1}
        assert cluster.scheduler_address.startswith("tcp://127.0.0.1:")
        assert "SSHCluster" in repr(cluster)
        pids = [*client.run(os.getpid).values(), client.run_on_scheduler(os.getpid)]
    poll_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), 20)


@needs_sshd
def test_hosts_without_this_home_get_the_token_all_the_same(host: Host, tmp_path: Path) -> None:
    def held() -> tuple[str, ...]:
        from headrace.auth.token_places import find_tokens

        return find_tokens().valid

    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec env XDG_CONFIG_HOME="{tmp_path}" "{host.python}" "$@"\n')
    python.chmod(0o755)
    with host.cluster(1, remote_python=str(python)) as cluster, Client(cluster) as client:
        (token,) = find_tokens().valid
        assert [*client.run(held).values(), client.run_on_scheduler(held)] == [(token,), (token,)]
        pids = [*client.run(os.getpid).values(), client.run_on_scheduler(os.getpid)]
        assert not [pid for pid in pids if token.encode() in Path(f"/proc/{pid}/cmdline").read_bytes()]
    assert os.listdir(tmp_path) == ["python"]


@needs_sshd
async def test_several_workers_on_a_host_and_none_with_a_nanny(host: Host) -> None:
    options = {"nthreads": 1, "n_workers": 2, "host": "127.0.0.1"}
    cluster = host.cluster(worker_options=options, worker_class="distributed.Worker", asynchronous=True)
    async with cluster, Client(cluster, asynchronous=True) as client:
        assert cluster.plan == cluster.observed == {"0-0", "0-1"}
        assert await client.gather(client.map(abs, range(-3, 0))) == [3, 2, 1]
        await cluster.scale(0)
        assert cluster.observed == set()


@needs_sshd
def test_what_goes_wrong_there_is_told(host: Host) -> None:
    with pytest.raises(RuntimeError, match=r"the scheduler on 127\.0\.0\.1 ended as it started") as caught:
        host.cluster(scheduler_options={"bogus": 1})
    assert "bogus" in str(caught.value)
    with pytest.raises(RuntimeError, match="ended as it started"):
        host.cluster(remote_python="/nowhere/python")


@needs_sshd
def test_a_host_that_refuses(host: Host, tmp_path: Path) -> None:
    other = tmp_path / "other"
    subprocess.run([str(KEYGEN), "-q", "-t", "ed25519", "-N", "", "-f", str(other)], check=True)
    with pytest.raises(RuntimeError, match=r"cannot connect to 127\.0\.0\.1 with SSH"):
        host.cluster(connect_options={**host.options, "client_keys": [str(other)], "agent_path": None})


def test_a_host_that_is_not_there() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        options = {"port": closed.getsockname()[1], "known_hosts": None, "config": []}
        with pytest.raises(RuntimeError, match=r"cannot connect to 127\.0\.0\.1 with SSH"):
            SSHCluster(["127.0.0.1", "127.0.0.1"], connect_options=options)


@pytest.mark.parametrize(
    ("hosts", "options", "message"),
    [
        (None, {}, "at least two hosts"),
        ("localhost", {}, "at least two hosts"),
        (["localhost"], {}, "at least two hosts"),
    ],
)
def test_wrong_use_is_explained(hosts: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SSHCluster(hosts, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"connect_options": [{}, {}]}, "2 entries for 3 hosts"),
        ({"remote_python": ["python"]}, "1 entries for 3 hosts"),
    ],
)
def test_lists_of_another_length_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(RuntimeError, match=message):
        SSHCluster(["a", "b", "c"], **options)


@needs_sshd
def test_the_keywords_of_long_ago(host: Host, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # those had no way to name the file of known hosts
    monkeypatch.setenv("HOME", str(tmp_path))
    connect = asyncssh.connect
    monkeypatch.setattr(asyncssh, "connect", lambda *args, **kwargs: connect(*args, known_hosts=None, **kwargs))
    with pytest.warns(FutureWarning, match="old"):
        cluster = SSHCluster(
            scheduler_addr="127.0.0.1",
            scheduler_port=0,
            worker_addrs=["127.0.0.1"],
            nthreads=1,
            ssh_port=host.port,
            ssh_private_key=str(host.key),
            logdir=str(tmp_path / "logs"),
            remote_python=host.python,
        )
    with cluster, Client(cluster) as client:
        assert client.submit(pow, 2, 5).result() == 32
    assert "Scheduler at:" in (tmp_path / "logs" / "dask_scheduler_127.0.0.1.log").read_text()


SSH = [sys.executable, "-m", "headrace.cli", "ssh"]


@needs_sshd
def test_the_command(host: Host, tmp_path: Path) -> None:
    hostfile = tmp_path / "hosts"
    hostfile.write_text("127.0.0.1  # this one\n\n")
    (tmp_path / ".ssh").mkdir()
    known = tmp_path / ".ssh" / "known_hosts"
    known.write_text(f"[127.0.0.1]:{host.port} {(host.key.parent / 'server.pub').read_text()}")
    options = {
        "--hostfile": str(hostfile),
        "--scheduler-port": "0",
        "--ssh-port": str(host.port),
        "--ssh-private-key": str(host.key),
        "--remote-python": host.python,
        "--nworkers": "2",
        "--nthreads": "1",
        "--memory-limit": "200 MB",
        "--local-directory": str(tmp_path / "scratch"),
        "--log-directory": str(tmp_path / "logs"),
    }
    words = [word for option in options.items() for word in option]
    process = subprocess.Popen([*SSH, *words], stderr=subprocess.PIPE, env={**os.environ, "HOME": str(tmp_path)})
    try:
        address = wait_for_log_line(b"Scheduler at:", process.stderr, 100).decode().split()[-1]
        with Client(address) as client:
            workers = client.scheduler_info()["workers"].values()
            assert {worker["name"] for worker in workers} == {"0-0", "0-1"}
            assert {worker["memory_limit"] for worker in workers} == {200_000_000}
            assert all(worker["local_directory"].startswith(str(tmp_path / "scratch")) for worker in workers)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.communicate()
    assert "Registered" in (tmp_path / "logs" / "dask_worker_127.0.0.1.log").read_text()


def test_the_command_without_hosts() -> None:
    result = CliRunner().invoke(command, ["ssh"])
    assert result.exit_code == 2
    assert "name the hosts" in result.output
