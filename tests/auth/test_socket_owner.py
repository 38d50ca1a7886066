"""Whose socket is at the other end, over real connections with real other users."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from headrace.auth import socket_owner
from headrace.auth.socket_owner import _ask_kernel, _look_up, is_local, is_same_user, peer_uid
from headrace.comm.interfaces import get_ip, get_ipv6
from headrace.testing.helpers.polling import poll_for
from tests.other_user import OTHER_UID, needs_other_user, start_as_other_user

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux alone tells the owners of sockets")

#: Connects, says so, and does what it is told.
STRANGER = """
import socket, sys
sock = socket.create_connection((sys.argv[1], int(sys.argv[2])))
sock.sendall(b"x")
print("there", flush=True)
for line in sys.stdin:
    match line.strip():
        case "close":
            sock.close()
        case "half":
            sock.shutdown(socket.SHUT_WR)
        case "reset":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\\1\\0\\0\\0\\0\\0\\0\\0")
            sock.close()
        case "orphan":
            sock.sendall(bytes(1 << 14))
            sock.close()
    print("done", flush=True)
"""


def hosts() -> list[tuple[str, str]]:
    """(where to listen, where to connect)"""
    found = [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("0.0.0.0", "127.0.0.2"), (get_ip(), get_ip())]
    found += [("0.0.0.0", get_ip())]
    if socket.has_ipv6:
        found += [("::1", "::1"), ("::", "::1"), ("::", "127.0.0.1"), ("::", get_ip())]
        with contextlib.suppress(OSError):
            found.append(("::", get_ipv6()))
    return list(dict.fromkeys(found))


HOSTS = hosts()


def listening(host: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    sock.bind((host, 0))
    sock.listen()
    sock.settimeout(20)
    return sock


def both_ways(own: Any, peer: Any) -> int | None:
    """The owner, as netlink and the tables tell it alike."""
    try:
        asked = _ask_kernel(own, peer)
    except OSError:
        asked = None
    looked_up = _look_up(own, peer)
    assert asked == looked_up
    assert asked == peer_uid(own, peer)
    return asked


@pytest.mark.parametrize(("bound", "host"), HOSTS)
def test_this_user(bound: str, host: str) -> None:
    with listening(bound) as listener, socket.create_connection((host, listener.getsockname()[1])) as connecting:
        accepted, _ = listener.accept()
        with accepted:
            for end in (connecting, accepted):
                ends = end.getsockname(), end.getpeername()
                assert is_local(*ends)
                assert both_ways(*ends) == os.geteuid()
                assert is_same_user(*ends)


@pytest.mark.parametrize(("bound", "host"), HOSTS)
@needs_other_user
def test_another_user(bound: str, host: str) -> None:
    with listening(bound) as listener:
        stranger = start_as_other_user(STRANGER, host, str(listener.getsockname()[1]))
        try:
            accepted, _ = listener.accept()
            with accepted:
                ends = accepted.getsockname(), accepted.getpeername()
                assert both_ways(*ends) == OTHER_UID
                assert not is_same_user(*ends)
        finally:
            stranger.communicate()


@pytest.fixture
def stranger() -> Iterator[tuple[socket.socket, subprocess.Popen[str]]]:
    """Another user's connection: this end's socket, and the process."""
    with listening("127.0.0.1") as listener:
        process = start_as_other_user(STRANGER, "127.0.0.1", str(listener.getsockname()[1]))
        accepted, _ = listener.accept()
        with accepted:
            assert process.stdout is not None
            assert process.stdout.readline() == "there\n"
            yield accepted, process
        process.communicate(timeout=20)


@needs_other_user
@pytest.mark.parametrize("what", ["close", "half", "reset", "orphan"])
def test_a_socket_without_an_owner_is_nobodys(what: str, stranger: tuple[socket.socket, subprocess.Popen[str]]) -> None:
    """Linux shows root as the owner of sockets that their process has closed."""
    accepted, process = stranger
    ends = accepted.getsockname(), accepted.getpeername()
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{what}\n")
    process.stdin.flush()
    assert process.stdout.readline() == "done\n"
    assert both_ways(*ends) is None
    assert not is_same_user(*ends)


@needs_other_user
def test_a_process_that_was_killed_leaves_nobodys_socket(stranger: tuple[socket.socket, subprocess.Popen[str]]) -> None:
    accepted, process = stranger
    ends = accepted.getsockname(), accepted.getpeername()
    assert peer_uid(*ends) == OTHER_UID
    process.kill()
    process.wait()
    poll_for(lambda: peer_uid(*ends) != OTHER_UID, 20)
    assert both_ways(*ends) is None


def test_a_connection_that_nobody_has_accepted_is_nobodys() -> None:
    """As a listener that another user owns could leave it: until it accepts, the socket shows root."""
    with listening("127.0.0.1") as listener, socket.create_connection(listener.getsockname()) as connecting:
        assert both_ways(connecting.getsockname(), connecting.getpeername()) is None


def test_other_connections_are_nobodys() -> None:
    with listening("127.0.0.1") as listener:
        name = listener.getsockname()
        assert peer_uid(name, ("127.0.0.1", 1)) is None
        assert peer_uid(name, name) is None


def test_a_reset_connection_costs_no_look_at_all_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    with listening("127.0.0.1") as listener, socket.create_connection(listener.getsockname()) as connecting:
        accepted, _ = listener.accept()
        with accepted:
            ends = accepted.getsockname(), accepted.getpeername()
            assert is_same_user(*ends)
            connecting.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            connecting.close()
            monkeypatch.setattr(socket_owner, "_look_up", lambda *_: pytest.fail("the tables are read"))
            assert peer_uid(*ends) is None


def test_without_netlink_the_tables_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_netlink(*_: object) -> int:
        raise PermissionError("no netlink in this container")

    monkeypatch.setattr(socket_owner, "_ask_kernel", no_netlink)
    with listening("127.0.0.1") as listener, socket.create_connection(listener.getsockname()) as connecting:
        accepted, _ = listener.accept()
        with accepted:
            assert peer_uid(connecting.getsockname(), connecting.getpeername()) == os.geteuid()


@pytest.mark.parametrize(
    ("own", "peer", "local"),
    [
        (("127.0.0.1", 1), ("127.0.0.1", 2), True),
        (("127.0.0.1", 1), ("127.8.9.1", 2), True),
        (("10.0.0.1", 1), ("10.0.0.1", 2), True),
        (("10.0.0.1", 1), ("10.0.0.2", 2), False),
        (("127.0.0.1", 1), ("10.0.0.2", 2), False),
        (("::1", 1, 0, 0), ("::1", 2, 0, 0), True),
        (("::ffff:127.0.0.1", 1, 0, 0), ("::ffff:127.0.0.1", 2, 0, 0), True),
        (("::ffff:10.0.0.1", 1, 0, 0), ("10.0.0.1", 2), True),
        (("fe80::1%eth0", 1, 0, 2), ("fe80::1%eth0", 2, 0, 2), True),
        (("fe80::1%eth0", 1, 0, 2), ("fe80::2%eth0", 2, 0, 2), False),
        (("0.0.0.0", 1), ("10.0.0.2", 2), False),
        ("/run/socket", "", False),
        (None, None, False),
        (("", 0), ("", 0), False),
    ],
)
def test_what_is_local(own: Any, peer: Any, local: bool) -> None:
    assert is_local(own, peer) is local
    if not local:
        assert peer_uid(own, peer) is None


#: Listens in a user namespace of its own, in which user 0 alone has a number, and prints whose a connection is.
LISTENER = """
import socket, sys
from headrace.auth.socket_owner import is_same_user, peer_uid
with socket.create_server(("127.0.0.1", 0)) as listener:
    print(listener.getsockname()[1], flush=True)
    accepted, _ = listener.accept()
    with accepted:
        accepted.recv(1)
        ends = accepted.getsockname(), accepted.getpeername()
        print(peer_uid(*ends), is_same_user(*ends), flush=True)
"""


@needs_other_user
def test_users_without_a_number_are_unknown() -> None:
    """In a namespace of users, all others show as one."""
    if subprocess.run([str(shutil.which("unshare")), "-Ur", "true"], capture_output=True).returncode:
        pytest.skip("needs namespaces of users")
    command = ["unshare", "-Ur", sys.executable, "-c", LISTENER]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as listener:
        assert listener.stdout is not None
        port = listener.stdout.readline().strip()
        stranger = start_as_other_user(STRANGER, "127.0.0.1", port)
        assert listener.stdout.readline() == "None False\n"
        stranger.communicate(timeout=20)
    assert listener.returncode == 0
