"""Requests of another user of this machine, who is no relative: by a process of his own."""

from __future__ import annotations

import asyncio
import os
import shutil
from functools import lru_cache

import pytest

from tests.http.http_calls import Answer, parsed, request_bytes

#: A user whom this machine need not know.
UID = 12345
#: Sends what comes by its standard input, and prints the answers.
_PROGRAM = """
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2])), 30) as connection:
    connection.sendall(sys.stdin.buffer.read())
    while data := connection.recv(65536):
        sys.stdout.buffer.write(data)
"""


@lru_cache
def python() -> str:
    """A Python that other users may run."""
    found = shutil.which("python3", path="/usr/bin:/usr/local/bin:/bin")
    if found is None:
        pytest.skip("there is no Python that other users may run")
    return found


needs_strangers = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0 or shutil.which("setpriv") is None,
    reason="only root can be another user, by setpriv",
)


async def exchange_as_stranger(port: int, request: bytes, host: str = "127.0.0.1") -> Answer:
    """Send bytes from a process of another user, and read until the server ends the connection."""
    user = ("setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups")
    program = await asyncio.create_subprocess_exec(
        *user,
        *(python(), "-I", "-c", _PROGRAM, host, str(port)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd="/",
    )
    answer, _ = await program.communicate(request)
    assert program.returncode == 0
    return parsed(answer)


async def ask_as_stranger(
    port: int,
    path: str = "/",
    method: str = "GET",
    headers: dict[str, str] | None = None,
    body: bytes = b"",
    host: str = "127.0.0.1",
) -> Answer:
    """Ask once, from a process of another user."""
    return await exchange_as_stranger(port, request_bytes(port, path, method, headers, body, host), host)
