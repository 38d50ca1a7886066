"""Another user's proxy between a client and its scheduler: neither opens, and it reads only greetings and proofs."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from headrace.comm.opening.opening_states import GREETING_BYTES
from tests.integration.doors.houses import Process, environment, run_python, with_token
from tests.other_user import as_other_user, needs_other_user

pytestmark = [pytest.mark.slow, needs_other_user]

MARKER = "nobody-else-reads-this"
CLIENT = f"""
import sys
from headrace import Client
try:
    with Client(sys.argv[1], timeout=5) as client:
        print(client.submit(str.upper, "{MARKER}").result(timeout=30))
except OSError as error:
    print(type(error).__name__, error)
"""


@contextmanager
def man(kind: str, address: str, home: Path) -> Iterator[tuple[str, list[bytes]]]:
    """His address, and, after the block, what he has read."""
    host, port = address.removeprefix("tcp://").split(":")
    command = as_other_user("-m", "tests.integration.doors.man_in_the_middle", host, port, kind)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    read: list[bytes] = []
    with subprocess.Popen(command, env=environment(home), text=True, **pipes) as process:  # type: ignore[call-overload]
        try:
            yield f"tcp://127.0.0.1:{process.stdout.readline().strip()}", read
        finally:
            read.append(bytes.fromhex(process.communicate(timeout=30)[0].strip()))


@pytest.mark.parametrize("kind", ["ends TLS", "strips", "says local"])
@pytest.mark.parametrize("client_has_token", [True, False])
def test_neither_end_opens(running: Process, tmp_path: Path, kind: str, client_has_token: bool) -> None:
    before = len(running.log)
    with man(kind, running.address, tmp_path) as (address, read):
        env = environment(tmp_path, **(with_token() if client_has_token else {}))
        printed = run_python(CLIENT, address, env=env)
    assert MARKER.upper() not in printed
    assert "Error" in printed
    (data,) = read
    assert len(data) >= 2 * GREETING_BYTES
    for told in (b"pickle", b"compression", b"memory", MARKER.encode()):
        assert told not in data
    assert "Traceback" not in running.log[before:]
    assert run_python(CLIENT, running.address, env=environment(tmp_path)) == MARKER.upper()


def test_a_wire_reads_nothing(running: Process, tmp_path: Path) -> None:
    """Who only passes on sees greetings, and then TLS."""
    with man("wire", running.address, tmp_path) as (address, read):
        printed = run_python(CLIENT, address, env=environment(tmp_path, **with_token()))
    assert printed == MARKER.upper()
    (data,) = read
    for told in (b"pickle", b"compression", b"memory", MARKER.encode(), b"client"):
        assert told not in data
