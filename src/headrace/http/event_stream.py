"""`/eventstream`: a WebSocket that tells of workers, clients, graphs and runs of tasks as they happen.

A plugin of the scheduler is there as long as somebody looks, one for each viewer. A viewer that reads too slowly
misses messages; nothing piles up for him.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from typing import TYPE_CHECKING, Any, ClassVar
from uuid import uuid4

from headrace.diagnostics.plugins.websocket_plugin import WebsocketPlugin

from .request_handler import SocketHandler

if TYPE_CHECKING:
    from aiohttp.web import WebSocketResponse

#: Messages that wait for a viewer; beyond, the newest are left out.
MOST_WAITING = 10_000
#: Messages after which others get the loop.
AT_ONCE = 100


class Viewer:
    """What is to be told to one viewer, in order.

    Attributes:
        skipped: messages that were left out and not told of.
    """

    def __init__(self) -> None:
        self.skipped = 0
        self._waiting: deque[tuple[str, dict[str, Any]]] = deque()
        self._there = asyncio.Event()

    def send(self, name: str, data: dict[str, Any]) -> None:
        """Have an event told, or left out if too many wait already."""
        if len(self._waiting) >= MOST_WAITING:
            self.skipped += 1
        else:
            self._waiting.append((name, data))
        self._there.set()

    async def next(self) -> tuple[str, dict[str, Any]]:
        """The next event; `skipped` with a count, where some were left out."""
        while not self._waiting:
            if self.skipped:
                count, self.skipped = self.skipped, 0
                return "skipped", {"count": count}
            self._there.clear()
            await self._there.wait()
        return self._waiting.popleft()


class EventStreamHandler(SocketHandler):
    """Tells a viewer of events as `{"name": event, ...}`; answers `{"name": "ping"}` with `{"name": "pong"}`."""

    only_tells: ClassVar[bool] = True

    async def talk(self, socket: WebSocketResponse) -> None:
        """Tell of events until the viewer leaves."""
        viewer = Viewer()
        name = f"eventstream-{uuid4()}"
        registry = self.server.shell.plugin_registry
        plugin = WebsocketPlugin(viewer, self.server)
        for worker in list(self.server.workers):  # those that are there already, first
            plugin.add_worker(self.server, worker)
        registry.add(plugin, name=name)
        writing = asyncio.ensure_future(_write(viewer, socket))
        try:
            async for message in socket:
                if _asks_for_pong(message.data):
                    viewer.send("pong", {})
        finally:
            if name in registry.plugins:
                registry.remove(name)
            writing.cancel()
            await asyncio.wait([writing])


async def _write(viewer: Viewer, socket: WebSocketResponse) -> None:
    sent = 0
    try:
        while True:
            name, data = await viewer.next()
            await socket.send_str(json.dumps({"name": name, **data}, default=str))
            sent += 1
            if sent % AT_ONCE == 0:
                await asyncio.sleep(0)
    except ConnectionError:  # the viewer has left
        pass


def _asks_for_pong(text: object) -> bool:
    if not isinstance(text, str):
        return False
    try:
        asked = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return isinstance(asked, dict) and asked.get("name") == "ping"
