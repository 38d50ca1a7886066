"""HTTP requests of tests, in plain bytes where that matters."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass
from typing import Any


@dataclass
class Answer:
    """What came back: status, headers in lower case, and the body."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()


async def ask(
    port: int,
    path: str = "/",
    method: str = "GET",
    headers: dict[str, str] | None = None,
    body: bytes = b"",
    host: str = "127.0.0.1",
    tls: ssl.SSLContext | None = None,
) -> Answer:
    """Ask once, on a connection of its own."""
    return await exchange(port, request_bytes(port, path, method, headers, body, host), host, tls)


def request_bytes(
    port: int,
    path: str = "/",
    method: str = "GET",
    headers: dict[str, str] | None = None,
    body: bytes = b"",
    host: str = "127.0.0.1",
) -> bytes:
    """A request after which the server is to end the connection."""
    lines = {"Host": f"[{host}]:{port}" if ":" in host else f"{host}:{port}", "Connection": "close", **(headers or {})}
    if body or method == "POST":
        lines.setdefault("Content-Length", str(len(body)))
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + body


def parsed(answer: bytes) -> Answer:
    """The one answer in what came until the connection ended."""
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    pairs = [line.partition(":") for line in lines]
    return Answer(int(first.split()[1]), {name.strip().lower(): value.strip() for name, _, value in pairs}, body)


async def exchange(port: int, request: bytes, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> Answer:
    """Send bytes, and read until the server ends the connection or has answered."""
    options: dict[str, Any] = {"ssl": tls, "server_hostname": ""} if tls else {}
    reader, writer = await asyncio.open_connection(host, port, **options)
    try:
        writer.write(request)
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {}
        for line in head[1:]:
            name, colon, value = line.partition(":")
            if colon:
                headers[name.strip().lower()] = value.strip()
        if "content-length" in headers and not request.startswith(b"HEAD"):
            body = await reader.readexactly(int(headers["content-length"]))
        else:
            body = b"" if request.startswith(b"HEAD") else await reader.read()
        return Answer(int(head[0].split()[1]), headers, body)
    finally:
        writer.close()
        await writer.wait_closed()
