"""Connections that were refused are gone at once, and do not wait for the cyclic collector, which seldom runs."""

from __future__ import annotations

import asyncio
import gc
import socket
import ssl
import weakref

import pytest

from headrace.auth.own_certificate import connecting
from headrace.comm import listen
from headrace.comm.connections import Comm
from headrace.comm.opening import socket_opening
from headrace.comm.opening.opening_states import OpeningChannel
from headrace.comm.socket_comm import SocketComm
from headrace.testing.helpers.polling import async_poll_for
from tests.comm.opening.driven import ends, rules_of

TOKEN, WRONG = "the-token-of-the-cluster", "what-a-stranger-guesses"


def show_wrong_token(port: int, *, encrypts: bool) -> None:
    """Open as far as a stranger gets, and wait for the end."""
    rules = rules_of("client", WRONG, encryption="required" if encrypts else "off")
    greeting = ends(rules, rules, OpeningChannel("there", can_encrypt=encrypts))[0].opening.greeting
    with socket.create_connection(("127.0.0.1", port), timeout=20) as plain:
        plain.sendall(greeting)
        received = 0
        while received < len(greeting):
            received += len(plain.recv(len(greeting) - received))
        with connecting().wrap_socket(plain) if encrypts else plain as sock:
            sock.sendall(b"\1\1" + bytes(64))
            try:
                while sock.recv(1000):
                    pass
            except (OSError, ssl.SSLError):
                pass


@pytest.mark.parametrize("encrypts", [False, True])
async def test_a_refused_connection_is_gone(encrypts: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket_opening, "is_same_user", lambda *_: False)
    seen: weakref.WeakSet[SocketComm] = weakref.WeakSet()
    made: list[bool] = []
    connected = SocketComm.connection_made

    def note(self: SocketComm, transport: asyncio.BaseTransport) -> None:
        seen.add(self)
        made.append(True)
        connected(self, transport)

    monkeypatch.setattr(SocketComm, "connection_made", note)

    async def handle(comm: Comm) -> None:
        pytest.fail(f"admitted: {comm}")

    async with listen("tcp://127.0.0.1:0", handle, access_rules=rules_of("scheduler", TOKEN)) as listener:
        port = int(listener.contact_address.rpartition(":")[2])
        gc.collect()
        gc.disable()
        try:
            for _ in range(3):
                await asyncio.to_thread(show_wrong_token, port, encrypts=encrypts)
            await async_poll_for(lambda: not seen)
        finally:
            gc.enable()
    assert len(made) == 3
