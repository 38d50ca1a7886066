"""A network in a thread: passes bytes between a port of its own and a server's, until it is told to cut or to stall."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import Any


class Proxy:
    """Listens on a free port of 127.0.0.1 and connects every connection to `target`.

    Args:
        target: "tcp://host:port"; may be set later.

    Attributes:
        address: "tcp://127.0.0.1:port".
        connections: how many there are now.
        refuse: whether new connections are closed at once.
    """

    def __init__(self, target: str = "") -> None:
        self.target = target
        self.refuse = False
        self._pairs: set[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = set()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="proxy", daemon=True)

    def __enter__(self) -> Proxy:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    @property
    def connections(self) -> int:
        return len(self._pairs)

    def cut(self) -> int:
        """Break all connections; returns how many there were."""
        return int(self._call(self._abort_all))

    def _call(self, function: Callable[[], Any]) -> Any:
        async def run() -> Any:
            return function()

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(10)

    def _abort_all(self) -> int:
        count = len(self._pairs)
        for pair in list(self._pairs):
            for writer in pair:
                writer.transport.abort()
        return count

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        server = await asyncio.start_server(self._relay, "127.0.0.1", 0)
        host, port = server.sockets[0].getsockname()[:2]
        self.address = f"tcp://{host}:{port}"
        self._ready.set()
        await self._stop.wait()
        server.close()
        self._abort_all()
        await asyncio.sleep(0)
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refuse:
            writer.transport.abort()
            return
        host, _, port = self.target.partition("://")[2].rpartition(":")
        try:
            to_reader, to_writer = await asyncio.open_connection(host, int(port))
        except OSError:
            writer.transport.abort()
            return
        pair = (writer, to_writer)
        self._pairs.add(pair)
        try:
            await asyncio.gather(_pump(reader, to_writer), _pump(to_reader, writer))
        except asyncio.CancelledError:
            pass  # the end; streams would report it as a failure
        finally:
            self._pairs.discard(pair)
            for end in pair:
                end.transport.abort()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(1 << 18):
            writer.write(data)
            await writer.drain()
    with contextlib.suppress(OSError):
        writer.close()
