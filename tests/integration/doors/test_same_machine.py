"""Who gets into a scheduler from the same machine: its user without a token, others with it alone."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace.comm.interfaces import get_ip
from headrace.testing.helpers.polling import poll_for
from tests.integration.doors.houses import TOKEN, Process, environment, run_python, scheduler, with_token, worker
from tests.other_user import OTHER_UID, needs_other_user, run_as_other_user

pytestmark = pytest.mark.slow

#: Computes something, or prints why it cannot.
CLIENT = """
import sys
from headrace import Client
try:
    with Client(sys.argv[1], timeout=10) as client:
        print(client.submit(pow, 2, 5).result(timeout=30))
except OSError as error:
    print(type(error).__name__, error)
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    os.chown(tmp_path, OTHER_UID, OTHER_UID)
    return tmp_path


@needs_other_user
def test_another_user(running: Process, home: Path) -> None:
    """Refused with what to do and one line in the log; let in with the token; the user itself goes on."""
    before = running.log.count("\n")
    refused = run_as_other_user(CLIENT, running.address, env=environment(home))
    assert refused.startswith("NotAdmittedError")
    assert "DASK_DISTRIBUTED__COMM__TOKEN" in refused
    assert TOKEN not in refused
    new = running.log.splitlines()[before:]
    assert sum("Refused the connection" in line for line in new) == 1
    assert "Traceback" not in running.log
    assert TOKEN not in running.log
    assert run_as_other_user(CLIENT, running.address, env=environment(home, **with_token())) == "32"
    assert run_python(CLIENT, running.address, env=environment(home)) == "32"


@needs_other_user
def test_another_user_with_the_token_in_a_file(running: Process, home: Path) -> None:
    path = home / "token"
    path.write_text(f"{TOKEN}\n")
    path.chmod(0o600)
    os.chown(path, OTHER_UID, OTHER_UID)
    variables = {"DASK_DISTRIBUTED__COMM__TOKEN_FILE": str(path)}
    assert run_as_other_user(CLIENT, running.address, env=environment(home, **variables)) == "32"
    path.chmod(0o644)
    refused = run_as_other_user(CLIENT, running.address, env=environment(home, **variables))
    assert "chmod 600" in refused


@needs_other_user
def test_another_users_scheduler_is_not_believed(tmp_path: Path, home: Path) -> None:
    """Who has taken the port of a scheduler gets nothing from its clients, though he asks for nothing himself."""
    source = """
import asyncio, sys
from headrace import Scheduler
async def main():
    async with Scheduler(host="127.0.0.1", port=0, dashboard=False) as scheduler:
        print(scheduler.address, flush=True)
        await asyncio.to_thread(sys.stdin.read)
asyncio.run(main())
"""
    from tests.other_user import start_as_other_user

    variables = {"DASK_DISTRIBUTED__COMM__AUTH": "none"}
    process = start_as_other_user(source, env=environment(home, **variables))
    try:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        own = tmp_path / "own"
        own.mkdir()
        printed = run_python(CLIENT, address, env=environment(own, **with_token()))
        assert printed.startswith("NotAdmittedError")
        assert "is open to everybody" in printed
    finally:
        process.communicate(timeout=20)


def test_by_the_machines_own_address(tmp_path: Path) -> None:
    """A scheduler that listens everywhere lets its user in by any of the machine's addresses."""
    if get_ip().startswith("127."):
        pytest.skip("needs an address other than loopback")
    home = tmp_path / "client"
    home.mkdir()
    with scheduler(tmp_path, "--host", "0.0.0.0", **with_token()) as process, worker(tmp_path, process.address):
        port = process.address.rpartition(":")[2]
        for host in (get_ip(), "127.0.0.1"):
            assert run_python(CLIENT, f"tcp://{host}:{port}", env=environment(home)) == "32"
    assert "Refused" not in process.log


SSHD = shutil.which("sshd") or shutil.which("sshd", path="/usr/sbin:/usr/local/sbin")
missing = "needs sshd, ssh and ssh-keygen" if not (SSHD and shutil.which("ssh") and shutil.which("ssh-keygen")) else ""


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[tuple[int, Path]]:
    """The port of an SSH server for this user, and the key that it takes."""
    for name in ("server", "client"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / name)], check=True)
    shutil.copy(tmp_path / "client.pub", tmp_path / "authorized")
    port = free_port()
    (tmp_path / "config").write_text(
        f"ListenAddress 127.0.0.1:{port}\nHostKey {tmp_path / 'server'}\n"
        f"AuthorizedKeysFile {tmp_path / 'authorized'}\nStrictModes no\nUsePAM no\nPasswordAuthentication no\n"
        "KbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\nPidFile none\n"
    )
    if os.getuid() == 0:
        os.makedirs("/run/sshd", mode=0o755, exist_ok=True)
    server = Process([str(SSHD), "-D", "-e", "-f", str(tmp_path / "config")], tmp_path / "sshd.log", dict(os.environ))
    try:
        server.wait_for("(Server listening)")
        yield port, tmp_path / "client"
    finally:
        server.end()


@pytest.mark.skipif(bool(missing), reason=missing)
def test_through_ssh(running: Process, sshd: tuple[int, Path], tmp_path: Path) -> None:
    """`ssh -L` on the user's own account lets a client in that has no token."""
    port, key = sshd
    local = free_port()
    command = [
        "ssh", "-N", "-F", "none", "-p", str(port), "-i", str(key), "-L", f"127.0.0.1:{local}:{running.address[6:]}",
        "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "ExitOnForwardFailure=yes",
        "127.0.0.1",
    ]  # fmt: skip
    tunnel = Process(command, tmp_path / "ssh.log", dict(os.environ))
    try:

        def listens() -> bool:
            assert tunnel.process.poll() is None, tunnel.log
            with socket.socket() as trying:
                return trying.connect_ex(("127.0.0.1", local)) == 0

        poll_for(listens, 20)
        home = tmp_path / "home"
        home.mkdir()
        assert run_python(CLIENT, f"tcp://127.0.0.1:{local}", env=environment(home)) == "32"
    finally:
        tunnel.end()


def test_no_command_line_holds_the_token(running: Process) -> None:
    if not sys.platform.startswith("linux"):
        pytest.skip("needs /proc")
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            assert TOKEN.encode() not in path.read_bytes()
