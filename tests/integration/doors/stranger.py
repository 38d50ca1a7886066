"""A stranger in another network who records what a client says, and later tries to be it without its token.

`python -m tests.integration.doors.stranger record HOST PORT FILE` prints the port of a recorder, until its input ends;
`python -m tests.integration.doors.stranger attack HOST PORT FILE` prints as JSON what he got in answer to each attempt.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import pickle
import socket
import ssl
import sys
from pathlib import Path

from headrace.auth.own_certificate import connecting
from headrace.comm.opening.handshake import MAGIC
from headrace.comm.opening.opening_states import GREETING_BYTES, OpeningChannel, State
from tests.comm.opening.driven import DrivenEnd, ends, rules_of

#: Bytes of the proofs, and of a verdict.
PROOFS_BYTES, VERDICT_BYTES = 66, 34
VERSION_AT = len(MAGIC) + 4 + 10


async def record(host: str, port: str, path: str) -> None:
    """Pass connections on until the input ends; then write what the connecting ends have sent."""
    sessions: list[bytearray] = []

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, kept: bytearray | None) -> None:
        while data := await reader.read(1 << 16):
            if kept is not None:
                kept += data
            writer.write(data)
            await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        other_reader, other_writer = await asyncio.open_connection(host, int(port))
        sessions.append(bytearray())
        try:
            await asyncio.gather(relay(reader, other_writer, sessions[-1]), relay(other_reader, writer, None))
        except OSError:
            pass
        finally:
            writer.close()
            other_writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)
    Path(path).write_text(json.dumps([session.hex() for session in sessions]))


class Planted:
    """What makes a file when somebody loads it."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return open, (self.path, "w")


def _answer(sock: socket.socket) -> bytes:
    found = bytearray()
    try:
        while data := sock.recv(1 << 16):
            found += data
    except (ConnectionError, ssl.SSLError):
        pass
    return bytes(found)


def _attempt(host: str, port: str, data: bytes) -> bytes:
    """What comes until the other side closes."""
    with socket.create_connection((host, int(port)), timeout=60) as sock:
        with contextlib.suppress(ConnectionError):
            sock.sendall(data)
        return _answer(sock)


def _reflect(host: str, port: str, rest: bytes, *, turned: bool) -> bytes:
    """Send the listening end's greeting back, perhaps as if from a connecting end."""
    with socket.create_connection((host, int(port)), timeout=60) as sock:
        greeting = bytearray()
        while len(greeting) < GREETING_BYTES:
            greeting += sock.recv(GREETING_BYTES - len(greeting))
        if turned:
            greeting[GREETING_BYTES - 48] = ord("C")
        with contextlib.suppress(ConnectionError):
            sock.sendall(bytes(greeting) + rest)
        return bytes(greeting) + _answer(sock)


def _wrong_token(host: str, port: str, rest: bytes, *, encrypts: bool) -> bytes:
    """The right protocol with the wrong token, over TLS or not, and then what follows an opening."""
    rules = rules_of("client", "what-a-stranger-guesses-to-be-it", encryption="auto" if encrypts else "off")
    end = ends(rules, rules, OpeningChannel("there", can_encrypt=encrypts))[0]
    sock = socket.create_connection((host, int(port)), timeout=60)
    found = bytearray()
    try:
        sock.sendall(end.opening.greeting)
        while end.error is None and end.state is not State.VERDICT:
            found += _step(sock, end)
            if end.state is State.TLS:
                sock = connecting().wrap_socket(sock)
                end.encrypt(b"x" * 32)
        assert not encrypts or isinstance(sock, ssl.SSLSocket)
        sock.sendall(end.sent[-1] + rest[:10])
        found += sock.recv(VERDICT_BYTES)
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            sock.sendall(rest[10:])
        return bytes(found) + _answer(sock)
    finally:
        sock.close()


def _step(sock: socket.socket, end: DrivenEnd) -> bytes:
    data = sock.recv(end.opening.wanted)
    assert data
    end.take(data)
    return data


def attack(host: str, port: str, path: str, planted: str) -> dict[str, str]:
    """Try all doors; returns what came in answer, as hexadecimal."""
    sessions = [bytes.fromhex(text) for text in json.loads(Path(path).read_text())]
    body = pickle.dumps(Planted(planted))
    framed = (1).to_bytes(4, "little") + len(body).to_bytes(8, "little") + body
    info = len(body).to_bytes(4, "little") + body
    found: dict[str, bytes] = {
        "http": _attempt(host, port, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
        "tls": _attempt(host, port, b"\x16\x03\x01\x02\x00\x01\x00" + bytes(200)),
        "a pickle": _attempt(host, port, body),
        "magic and a pickle": _attempt(host, port, MAGIC + framed),
    }
    for number, session in enumerate(sessions):
        greeting, after = session[:GREETING_BYTES], session[GREETING_BYTES:]
        proofs, rest = after[:PROOFS_BYTES], after[PROOFS_BYTES:]
        fresh = bytearray(greeting)
        fresh[-32:] = bytes(32)
        older = bytearray(greeting)
        older[VERSION_AT] = 1
        attempts = {
            "replay": session,
            "replay, new random number": bytes(fresh) + after,
            "no proofs": greeting + bytes(PROOFS_BYTES) + rest,
            "no proofs at all": greeting + rest,
            "a proof for nothing": greeting + b"\1\0" + bytes(64) + info + framed,
            "most proofs": greeting + b"\2\1" + proofs[2:] + rest,
            "too many proofs": greeting + b"\xff\1" + bytes(64 * 255) + rest,
            "older version": bytes(older) + after,
            "older handshake": MAGIC + info + framed,
        }
        for name, data in attempts.items():
            found[f"{name} {number}"] = _attempt(host, port, data)
        for turned in (False, True):
            found[f"reflected {turned} {number}"] = _reflect(host, port, after, turned=turned)
        for encrypts in (False, True):
            found[f"wrong token {encrypts} {number}"] = _wrong_token(host, port, rest, encrypts=encrypts)
    return {name: data.hex() for name, data in found.items()}


if __name__ == "__main__":
    if sys.argv[1] == "record":
        asyncio.run(record(*sys.argv[2:]))
    else:
        print(json.dumps(attack(*sys.argv[2:])))
